//! What a child's point is about, as a series: the way back from what [`Series::all_attributes`] and the
//! jsonl output make of it, so that what they wrote can be read.
//!
//! [`Series::all_attributes`]: wattrace_api::Series::all_attributes

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use wattrace_api::{
    Attribute, AttributeValue, Consumer, ConsumerKind, Domain, Follows, Identity, MetricId, Origin, Registry,
    Resource, ResourceKind, SeriesSpec, Timestamp,
};
use wattrace_ingest::Fault;

use crate::postings::Shared;
use crate::wire::{ConsumerName, ResourceName, Scalar};

/// Facts about a consumer, rather than what tells one of its series from another.
const CONSUMER_FACTS: [&str; 4] = ["process.", "container.", "k8s.", "user."];

/// What a point says that it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) metric: &'a str,
    pub(crate) resource: &'a ResourceName<'a>,
    pub(crate) consumer: Option<&'a ConsumerName<'a>>,
    pub(crate) attributes: &'a BTreeMap<String, Scalar>,
}

impl Subject<'_> {
    /// Whether `key` is told by something else than the series' own attributes.
    fn is_derived(&self, key: &str) -> bool {
        let of_domain = ["hw.id", "hw.name", "hw.type", "hw.parent", "wattrace.domain", "wattrace.origin"];
        let has_domain = self.attributes.contains_key("wattrace.domain");
        match key {
            "wattrace.consumer.type" => self.consumer.is_some(),
            "cpu.package" => self.resource.kind == "package" && !has_domain,
            _ => has_domain && of_domain.contains(&key),
        }
    }

    fn is_fact(&self, key: &str) -> bool {
        self.consumer.is_some() && CONSUMER_FACTS.iter().any(|prefix| key.starts_with(prefix))
    }

    fn own(&self, of_consumer: bool) -> Vec<Attribute> {
        let own = self.attributes.iter().filter(|(key, _)| !self.is_derived(key));
        let own = own.filter(|(key, _)| self.is_fact(key) == of_consumer);
        own.map(|(key, value)| Attribute::new(key.clone(), attribute_value(value))).collect()
    }

    /// Writes what tells its series from others into `key`.
    pub(crate) fn key(&self, key: &mut Vec<u8>) {
        key.clear();
        let mut part = |text: &str| {
            key.extend_from_slice(&(text.len() as u64).to_le_bytes());
            key.extend_from_slice(text.as_bytes());
        };
        part(self.metric);
        part(&self.resource.kind);
        part(&self.resource.id);
        if let Some(consumer) = self.consumer {
            part(&consumer.kind);
            part(&consumer.id);
            part(&consumer.start_unix_nano.to_string());
        }
        for (name, value) in self.attributes {
            // A fact may change while the series goes on: an exec renames a process.
            if !self.is_fact(name) {
                part(name);
                part(&attribute_value(value).to_string());
            }
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.attributes.get(key) {
            Some(Scalar::Str(text)) => Some(text),
            _ => None,
        }
    }

    fn domain(&self) -> Result<Option<Domain>, Fault> {
        let Some(name) = self.text("wattrace.domain") else { return Ok(None) };
        let origins = [Origin::Measured, Origin::Estimated, Origin::Simulated];
        let origin = self.text("wattrace.origin");
        let origin = origins.into_iter().find(|o| Some(o.as_str()) == origin).ok_or_else(|| {
            let message = "wattrace.domain is given without wattrace.origin, which is `measured`, `estimated` or \
                           `simulated`";
            Fault::Unsupported(message.to_owned())
        })?;
        let package = (self.resource.kind == "package").then(|| self.resource.id.parse().ok()).flatten();
        let follows = Follows::package_or_all(package);
        let within = self.text("hw.parent").map(str::to_owned);
        Ok(Some(Domain { name: name.to_owned(), origin, follows, within, idle_microwatts: None }))
    }
}

fn attribute_value(value: &Scalar) -> AttributeValue {
    match value {
        Scalar::Bool(value) => AttributeValue::Bool(*value),
        Scalar::Int(value) => AttributeValue::Int(*value),
        Scalar::Float(value) => AttributeValue::Float(*value),
        Scalar::Str(value) => AttributeValue::Str(value.as_str().into()),
    }
}

fn resource(name: &ResourceName<'_>) -> Resource {
    let known = [
        ResourceKind::Host,
        ResourceKind::Package,
        ResourceKind::Core,
        ResourceKind::Uncore,
        ResourceKind::Dram,
        ResourceKind::Psys,
        ResourceKind::Gpu,
    ];
    let kind = known.into_iter().find(|kind| kind.as_str() == name.kind);
    let kind = kind.unwrap_or_else(|| ResourceKind::Other(Cow::Owned(name.kind.to_string())));
    Resource { kind, id: Cow::Owned(name.id.to_string()) }
}

/// The consumers and domains that a child speaks of.
#[derive(Debug)]
pub(crate) struct Subjects {
    registry: Arc<Registry>,
    shared: Shared,
    consumers: HashMap<Identity, Weak<Consumer>>,
}

impl Subjects {
    /// None yet.
    pub(crate) fn new(registry: Arc<Registry>, shared: Shared) -> Self {
        Self { registry, shared, consumers: HashMap::new() }
    }

    /// What to open the series of `subject` with.
    ///
    /// # Errors
    /// A kind of consumer that does not exist; a domain without an origin, or that another meter has.
    pub(crate) fn spec(
        &mut self,
        metric: MetricId,
        subject: &Subject<'_>,
        start: Timestamp,
    ) -> Result<SeriesSpec, Fault> {
        let domain = subject.domain()?;
        if subject.consumer.is_none()
            && let Some(domain) = &domain
        {
            self.claim(&domain.name)?;
        }
        Ok(SeriesSpec {
            metric,
            resource: resource(subject.resource),
            domain: domain.map(Arc::new),
            consumer: self.consumer(subject)?,
            attributes: subject.own(false),
            start,
        })
    }

    /// Sees to it that a domain has one meter only: two would count each joule twice.
    fn claim(&self, name: &str) -> Result<(), Fault> {
        let mut own = self.shared.domains();
        if !own.contains(name) {
            if self.registry.domains().iter().any(|domain| domain.name == name) {
                let message = format!("domain {name} has a meter already: choose another wattrace.domain");
                return Err(Fault::Conflict(message));
            }
            own.insert(name.to_owned());
        }
        Ok(())
    }

    fn consumer(&mut self, subject: &Subject<'_>) -> Result<Option<Arc<Consumer>>, Fault> {
        let Some(identity) = identity(subject)? else { return Ok(None) };
        let facts = subject.own(true);
        if let Some(known) = self.consumers.get(&identity).and_then(Weak::upgrade) {
            refresh(&known, facts);
            return Ok(Some(known));
        }
        // Those that are gone go at the latest when there are as many of them as of the others.
        if self.consumers.len() == self.consumers.capacity() {
            self.consumers.retain(|_, consumer| consumer.strong_count() > 0);
        }
        let consumer = Arc::new(Consumer::new(identity.clone(), None, facts));
        self.consumers.insert(identity, Arc::downgrade(&consumer));
        Ok(Some(consumer))
    }

    /// Takes in what `subject` says about a consumer that is known.
    pub(crate) fn learn(&self, subject: &Subject<'_>) {
        if subject.attributes.keys().any(|key| subject.is_fact(key))
            && let Ok(Some(identity)) = identity(subject)
            && let Some(consumer) = self.consumers.get(&identity).and_then(Weak::upgrade)
        {
            refresh(&consumer, subject.own(true));
        }
    }
}

fn identity(subject: &Subject<'_>) -> Result<Option<Identity>, Fault> {
    let Some(name) = subject.consumer else { return Ok(None) };
    let kind = ConsumerKind::ALL.into_iter().find(|kind| kind.as_str() == name.kind);
    let kind =
        kind.ok_or_else(|| Fault::Unsupported(format!("there is no consumer of type `{}`", name.kind)))?;
    let id = Cow::Owned(name.id.to_string());
    Ok(Some(Identity { kind, id, start_unix_nano: name.start_unix_nano }))
}

/// Tells `consumer` what is new: an update without news would make every output render its rows again.
fn refresh(consumer: &Consumer, facts: Vec<Attribute>) {
    let known = consumer.attributes();
    let news: Vec<_> = facts.into_iter().filter(|fact| !known.contains(fact)).collect();
    if !news.is_empty() {
        consumer.update(news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Line;
    use wattrace_api::metric;

    fn attributes(subjects: &mut Subjects, registry: &Registry, line: &str) -> Result<Vec<Attribute>, Fault> {
        let Line::Point(point) = Line::parse(line.as_bytes()).unwrap() else { panic!("{line}") };
        let (resource, consumer) = (&point.resource, point.consumer.as_ref());
        let subject = Subject { metric: &point.metric, resource, consumer, attributes: &point.attributes };
        let definition =
            if point.metric == "hw.energy" { metric::HW_ENERGY } else { metric::CONSUMER_ENERGY };
        let id = registry.metric(&definition).unwrap();
        let series = registry.open(subjects.spec(id, &subject, Timestamp(0))?);
        Ok(registry.get(series).unwrap().all_attributes())
    }

    #[test]
    fn attributes_survive_the_way_there_and_back() {
        let registry = Registry::new();
        let mut subjects = Subjects::new(registry.clone(), Shared::default());
        let line = r#"{"metric":"wattrace.consumer.energy","value":1,"resource":{"type":"package","id":"0"},
            "consumer":{"type":"process","id":"7","start_unix_nano":9},"attributes":{"wattrace.domain":"package-0",
            "wattrace.origin":"simulated","wattrace.consumer.type":"process","direction":"in","process.pid":7}}"#;
        let all = attributes(&mut subjects, &registry, line).unwrap();
        let keys: Vec<_> = all.iter().map(|a| &*a.key).collect();
        let expected =
            ["wattrace.domain", "wattrace.origin", "wattrace.consumer.type", "direction", "process.pid"];
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_domain_needs_an_origin_and_a_consumer_a_type_that_exists() {
        let registry = Registry::new();
        let mut subjects = Subjects::new(registry.clone(), Shared::default());
        let mut fault = |line| attributes(&mut subjects, &registry, line).unwrap_err().to_string();
        let line = r#"{"metric":"x","value":1,"attributes":{"wattrace.domain":"ups"}}"#;
        assert!(fault(line).contains("without wattrace.origin"));
        let line = r#"{"metric":"x","value":1,"consumer":{"type":"gnome"}}"#;
        assert!(fault(line).contains("`gnome`"));
    }

    #[test]
    fn a_domain_that_has_a_meter_is_not_metered_twice() {
        let registry = Registry::new();
        let line = r#"{"metric":"hw.energy","value":1,"attributes":{"wattrace.domain":"ups","wattrace.origin":"measured"}}"#;
        let shared = Shared::default();
        let mut first = Subjects::new(registry.clone(), shared.clone());
        attributes(&mut first, &registry, line).unwrap();
        let mut other = Subjects::new(registry.clone(), Shared::default());
        assert!(
            attributes(&mut other, &registry, line).unwrap_err().to_string().contains("has a meter already")
        );
        // The same program, started anew while its old series are still on their way out.
        let mut again = Subjects::new(registry.clone(), shared);
        attributes(&mut again, &registry, line).unwrap();
    }
}
