//! A compiled rule, and how it changes the [`Labels`] of a series. `transform` opens the series.

use regex_lite::Regex;
use wattrace_api::{Attribute, AttributeValue, Error, ResultExt, Series};
use wattrace_select::{Glob, Selector, pattern::glob};

use crate::config::{Extract, RuleConfig};

/// Attributes that are part of a series' identity. They are never relabelled, so that the origin of energy
/// stays visible.
const PROTECTED: [&str; 8] = [
    "hw.id",
    "hw.name",
    "hw.type",
    "hw.parent",
    "wattrace.domain",
    "wattrace.origin",
    "wattrace.consumer.type",
    "cpu.package",
];

/// What rules can change about a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Labels {
    /// The metric's name.
    pub(crate) metric: String,
    /// The series' own attributes.
    pub(crate) own: Vec<Attribute>,
    /// Its consumer's attributes, and those extracted from them.
    pub(crate) consumer: Vec<Attribute>,
}

impl Labels {
    /// The current labels of `series`.
    pub(crate) fn of(series: &Series) -> Self {
        let consumer = series.consumer.as_ref().map(|c| c.attributes().to_vec()).unwrap_or_default();
        Self { metric: series.metric.name.to_string(), own: series.attributes.clone(), consumer }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Attribute> {
        self.own.iter_mut().chain(&mut self.consumer)
    }

    fn retain(&mut self, mut keep: impl FnMut(&Attribute) -> bool) {
        self.own.retain(&mut keep);
        self.consumer.retain(&mut keep);
    }

    /// Sets an attribute of the series or of its consumer, and removes it from the other.
    fn set(&mut self, key: &str, value: AttributeValue, of_consumer: bool) {
        self.retain(|attribute| attribute.key != key);
        let attributes = if of_consumer { &mut self.consumer } else { &mut self.own };
        attributes.push(Attribute::new(key.to_owned(), value));
    }
}

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) selector: Selector,
    rename: String,
    extract: Vec<(Extract, Regex)>,
    rename_attributes: Vec<(String, String)>,
    set: Vec<(String, AttributeValue)>,
    drop: Vec<Glob>,
}

impl Rule {
    /// Compiles the rule at `key` in the configuration.
    ///
    /// # Errors
    /// Fatal, if it is invalid. The message names the key.
    pub(crate) fn compile(config: &RuleConfig, key: &str) -> Result<Self, Error> {
        let rule = Self {
            selector: config.select.compile(&format!("{key}.select"))?,
            rename: config.rename.clone(),
            extract: compile_all(&config.extract, |i, e| compile_extract(e, &format!("{key}.extract[{i}]")))?,
            rename_attributes: config.rename_attributes.clone().into_iter().collect(),
            set: config.set.iter().map(|(name, value)| (name.clone(), value.into())).collect(),
            drop: compile_all(&config.drop, |i, text| glob(&format!("{key}.drop[{i}]"), text))?,
        };
        for (old, new) in &rule.rename_attributes {
            check_name(old, &format!("{key}.rename_attributes"))?;
            check_name(new, &format!("{key}.rename_attributes.\"{old}\""))?;
        }
        for (name, _) in &rule.set {
            check_name(name, &format!("{key}.set"))?;
        }
        for (i, name) in config.drop.iter().enumerate() {
            check_name(name, &format!("{key}.drop[{i}]"))?;
        }
        if rule.rename.is_empty() && !rule.changes_attributes() {
            return Err(Error::fatal(format!(
                "{key}: changes nothing; add rename, extract, rename_attributes, set or drop"
            )));
        }
        Ok(rule)
    }

    /// Whether it does more than rename the metric.
    pub(crate) fn changes_attributes(&self) -> bool {
        let Self { extract, rename_attributes, set, drop, .. } = self;
        !(extract.is_empty() && rename_attributes.is_empty() && set.is_empty() && drop.is_empty())
    }

    /// Applies it to the labels of `series`.
    pub(crate) fn apply(&self, series: &Series, labels: &mut Labels) {
        if !self.rename.is_empty() {
            labels.metric.clone_from(&self.rename);
        }
        for (Extract { from, to, value, .. }, regex) in &self.extract {
            let of_consumer = labels.consumer.iter().any(|attribute| attribute.key == *from);
            let known = labels.all().find(|attribute| attribute.key == *from).map(|a| a.value.to_string());
            let protected = || series.all_attributes().into_iter().find(|a| a.key == *from);
            let Some(text) = known.or_else(|| protected().map(|a| a.value.to_string())) else { continue };
            if let Some(captures) = regex.captures(&text) {
                let mut new = String::new();
                captures.expand(value, &mut new);
                labels.set(to, new.into(), of_consumer);
            }
        }
        for (old, new) in &self.rename_attributes {
            if labels.all().any(|attribute| attribute.key == *old) {
                labels.retain(|attribute| attribute.key != *new);
                let found = labels.all().filter(|attribute| attribute.key == *old);
                found.for_each(|attribute| attribute.key = new.clone().into());
            }
        }
        for (name, value) in &self.set {
            labels.set(name, value.clone(), false);
        }
        labels.retain(|attribute| !self.drop.iter().any(|glob| glob.is_match(&attribute.key)));
    }
}

fn compile_all<A, B>(from: &[A], compile: impl Fn(usize, &A) -> Result<B, Error>) -> Result<Vec<B>, Error> {
    from.iter().enumerate().map(|(i, item)| compile(i, item)).collect()
}

fn compile_extract(extract: &Extract, key: &str) -> Result<(Extract, Regex), Error> {
    if extract.from.is_empty() {
        return Err(Error::fatal(format!("{key}.from: is empty; name the attribute to read")));
    }
    check_name(&extract.to, &format!("{key}.to"))?;
    let regex = Regex::new(&extract.regex).map_err(|e| format!("{key}.regex: {e}")).or_fatal()?;
    Ok((extract.clone(), regex))
}

fn check_name(name: &str, key: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::fatal(format!("{key}: an attribute needs a name")));
    }
    if PROTECTED.contains(&name) {
        return Err(Error::fatal(format!(
            "{key}: {name} identifies the series and cannot be changed; extract can make a copy"
        )));
    }
    Ok(())
}
