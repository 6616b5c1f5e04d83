//! What names a series: the metric, resource, consumer and attributes of a point. Turns them into the
//! description of a series. This inverts [`Series::all_attributes`] and the jsonl output, so that what they
//! wrote can be read. `recorder.rs` records the points.
//!
//! [`Series::all_attributes`]: wattrace_api::Series::all_attributes

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wattrace_api::{
    Attribute, AttributeValue, Consumer, ConsumerKind, Domain, Follows, Identity, MetricId, Origin, Registry,
    Resource, ResourceKind, SeriesSpec, Timestamp,
};
use wattrace_ingest::PointError;

use crate::limits;
use crate::wire::{ConsumerName, ResourceName, Scalar};

/// Prefixes of attributes that describe a consumer, and do not distinguish its series.
const CONSUMER_ATTRIBUTES: [&str; 4] = ["process.", "container.", "k8s.", "user."];

/// Most domains that a program may meter.
const MOST_DOMAINS: usize = 1000;

/// What names a series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels<'a> {
    pub(crate) metric: &'a str,
    pub(crate) resource: &'a ResourceName<'a>,
    pub(crate) consumer: Option<&'a ConsumerName<'a>>,
    pub(crate) attributes: &'a BTreeMap<String, Scalar>,
}

impl Labels<'_> {
    /// Whether the attribute `key` follows from the resource, domain or consumer.
    fn is_derived(&self, key: &str) -> bool {
        let of_domain = ["hw.id", "hw.name", "hw.type", "hw.parent", "wattrace.domain", "wattrace.origin"];
        let has_domain = self.attributes.contains_key("wattrace.domain");
        match key {
            "wattrace.consumer.type" => self.consumer.is_some(),
            "cpu.package" => self.resource.kind == "package" && !has_domain,
            _ => has_domain && of_domain.contains(&key),
        }
    }

    fn is_of_consumer(&self, key: &str) -> bool {
        self.consumer.is_some() && CONSUMER_ATTRIBUTES.iter().any(|prefix| key.starts_with(prefix))
    }

    /// The attributes that are not derived: those of the consumer, or those of the series.
    fn attributes(&self, of_consumer: bool) -> Vec<Attribute> {
        let own = self.attributes.iter().filter(|(key, _)| !self.is_derived(key));
        let own = own.filter(|(key, _)| self.is_of_consumer(key) == of_consumer);
        own.map(|(key, value)| Attribute::new(key.clone(), attribute_value(value))).collect()
    }

    /// Writes a key that is unique for the series into `key`.
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
            // An attribute of the consumer may change while the series goes on: an exec renames a process.
            if !self.is_of_consumer(name) {
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

    fn domain(&self) -> Result<Option<Domain>, PointError> {
        let Some(name) = self.text("wattrace.domain") else { return Ok(None) };
        let origins = [Origin::Measured, Origin::Estimated, Origin::Simulated];
        let origin = self.text("wattrace.origin");
        let origin = origins.into_iter().find(|o| Some(o.as_str()) == origin).ok_or_else(|| {
            let message = "wattrace.domain is given without wattrace.origin, which is `measured`, \
                           `estimated` or `simulated`";
            PointError::Unsupported(message.to_owned())
        })?;
        let package = (self.resource.kind == "package").then(|| self.resource.id.parse().ok()).flatten();
        let follows = Follows::package_or_all(package);
        let within = self.text("hw.parent").map(str::to_owned);
        Ok(Some(Domain { name: name.to_owned(), origin, follows, within, idle_microwatts: None }))
    }

    fn identity(&self) -> Result<Option<Identity>, PointError> {
        let Some(name) = self.consumer else { return Ok(None) };
        let kind = ConsumerKind::ALL.into_iter().find(|kind| kind.as_str() == name.kind);
        let kind = kind.ok_or_else(|| {
            PointError::Unsupported(format!("there is no consumer of type `{}`", name.kind))
        })?;
        let id = Cow::Owned(name.id.to_string());
        Ok(Some(Identity { kind, id, start_unix_nano: name.start_unix_nano }))
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

/// The domains that a program meters. They stay its own over restarts, while its old series are still ending.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClaimedDomains(Arc<Mutex<HashSet<String>>>);

impl ClaimedDomains {
    /// Claims a domain, unless another meter has it: with two meters each joule would count twice.
    fn claim(&self, name: &str, registry: &Registry) -> Result<(), PointError> {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !own.contains(name) {
            if registry.domains().iter().any(|domain| domain.name == name) {
                let message = format!("domain {name} has a meter already: choose another wattrace.domain");
                return Err(PointError::Conflict(message));
            }
            if own.len() >= MOST_DOMAINS {
                return Err(PointError::TooMany {
                    what: "domains, with those of earlier points",
                    limit: MOST_DOMAINS,
                });
            }
            own.insert(name.to_owned());
        }
        Ok(())
    }
}

/// Turns labels into descriptions of series, and keeps the consumers that a program has named.
#[derive(Debug)]
pub(crate) struct SeriesDescriber {
    registry: Arc<Registry>,
    domains: ClaimedDomains,
    consumers: HashMap<Identity, Weak<Consumer>>,
}

impl SeriesDescriber {
    /// Without any consumers yet.
    pub(crate) fn new(registry: Arc<Registry>, domains: ClaimedDomains) -> Self {
        Self { registry, domains, consumers: HashMap::new() }
    }

    /// What to open the series with.
    ///
    /// # Errors
    /// An unknown kind of consumer, a domain without an origin, or a domain that another meter has.
    pub(crate) fn describe(
        &mut self,
        metric: MetricId,
        labels: &Labels<'_>,
        start: Timestamp,
    ) -> Result<SeriesSpec, PointError> {
        let domain = labels.domain()?;
        if labels.consumer.is_none()
            && let Some(domain) = &domain
        {
            self.domains.claim(&domain.name, &self.registry)?;
        }
        Ok(SeriesSpec {
            metric,
            resource: resource(labels.resource),
            domain: domain.map(Arc::new),
            consumer: self.consumer(labels)?,
            attributes: labels.attributes(false),
            start,
        })
    }

    fn consumer(&mut self, labels: &Labels<'_>) -> Result<Option<Arc<Consumer>>, PointError> {
        let Some(identity) = labels.identity()? else { return Ok(None) };
        let attributes = labels.attributes(true);
        if let Some(known) = self.consumers.get(&identity).and_then(Weak::upgrade) {
            update(&known, attributes)?;
            return Ok(Some(known));
        }
        limits::check_consumer(&[], &attributes)?;
        // Before the map grows, consumers without series are removed from it.
        if self.consumers.len() == self.consumers.capacity() {
            self.consumers.retain(|_, consumer| consumer.strong_count() > 0);
        }
        let consumer = Arc::new(Consumer::new(identity.clone(), None, attributes));
        self.consumers.insert(identity, Arc::downgrade(&consumer));
        Ok(Some(consumer))
    }

    /// Updates the attributes of a known consumer.
    ///
    /// # Errors
    /// They would be too many or too long.
    pub(crate) fn update_consumer(&self, labels: &Labels<'_>) -> Result<(), PointError> {
        if labels.attributes.keys().any(|key| labels.is_of_consumer(key))
            && let Ok(Some(identity)) = labels.identity()
            && let Some(consumer) = self.consumers.get(&identity).and_then(Weak::upgrade)
        {
            update(&consumer, labels.attributes(true))?;
        }
        Ok(())
    }
}

/// Updates the attributes that have changed. An update without a change would make every output render its
/// rows again.
fn update(consumer: &Consumer, attributes: Vec<Attribute>) -> Result<(), PointError> {
    let known = consumer.attributes();
    let changed: Vec<_> = attributes.into_iter().filter(|attribute| !known.contains(attribute)).collect();
    if !changed.is_empty() {
        limits::check_consumer(&known, &changed)?;
        consumer.update(changed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Line;
    use wattrace_api::metric;

    fn attributes(
        describer: &mut SeriesDescriber,
        registry: &Registry,
        line: &str,
    ) -> Result<Vec<Attribute>, PointError> {
        let Line::Point(point) = Line::parse(line.as_bytes()).unwrap() else { panic!("{line}") };
        let (resource, consumer) = (&point.resource, point.consumer.as_ref());
        let labels = Labels { metric: &point.metric, resource, consumer, attributes: &point.attributes };
        let definition =
            if point.metric == "hw.energy" { metric::HW_ENERGY } else { metric::CONSUMER_ENERGY };
        let id = registry.metric(&definition).unwrap();
        let series = registry.open(describer.describe(id, &labels, Timestamp(0))?);
        Ok(registry.get(series).unwrap().all_attributes())
    }

    fn describer(registry: &Arc<Registry>) -> SeriesDescriber {
        SeriesDescriber::new(registry.clone(), ClaimedDomains::default())
    }

    #[test]
    fn attributes_survive_writing_and_reading() {
        let registry = Registry::new();
        let line = r#"{"metric":"wattrace.consumer.energy","value":1,"resource":{"type":"package","id":"0"},
            "consumer":{"type":"process","id":"7","start_unix_nano":9},"attributes":{
            "wattrace.domain":"package-0","wattrace.origin":"simulated","wattrace.consumer.type":"process",
            "direction":"in","process.pid":7}}"#;
        let all = attributes(&mut describer(&registry), &registry, line).unwrap();
        let keys: Vec<_> = all.iter().map(|a| &*a.key).collect();
        let expected =
            ["wattrace.domain", "wattrace.origin", "wattrace.consumer.type", "direction", "process.pid"];
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_domain_without_origin_and_an_unknown_type_of_consumer_are_refused() {
        let registry = Registry::new();
        let mut describer = describer(&registry);
        let mut error = |line| attributes(&mut describer, &registry, line).unwrap_err().to_string();
        let line = r#"{"metric":"x","value":1,"attributes":{"wattrace.domain":"ups"}}"#;
        assert!(error(line).contains("without wattrace.origin"));
        let line = r#"{"metric":"x","value":1,"consumer":{"type":"gnome"}}"#;
        assert!(error(line).contains("`gnome`"));
    }

    #[test]
    fn a_domain_with_a_meter_gets_no_second_one() {
        let registry = Registry::new();
        let line = r#"{"metric":"hw.energy","value":1,
            "attributes":{"wattrace.domain":"ups","wattrace.origin":"measured"}}"#;
        let domains = ClaimedDomains::default();
        let mut first = SeriesDescriber::new(registry.clone(), domains.clone());
        attributes(&mut first, &registry, line).unwrap();
        let error = attributes(&mut describer(&registry), &registry, line).unwrap_err().to_string();
        assert!(error.contains("has a meter already"), "{error}");
        // The same program may claim it again after a restart, while its old series are still ending.
        let mut again = SeriesDescriber::new(registry.clone(), domains);
        attributes(&mut again, &registry, line).unwrap();
    }
}
