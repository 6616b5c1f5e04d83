//! Which series are taken together, and what the series that tells of them is about.
//!
//! Joules of different origin are never taken together, and in a total over domains those are left out that
//! others contain.

use std::borrow::Cow;
use std::sync::Arc;

use wattrace_api::{
    Attribute, AttributeValue, Consumer, Domain, Follows, MetricId, Origin, Resource, ResourceKind, Series,
    SeriesSpec,
};

/// What series must share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct By {
    /// Each series is by itself.
    single: bool,
    resource: bool,
    resource_type: bool,
    domain: bool,
    consumer: bool,
    consumer_type: bool,
    attributes: Vec<String>,
}

/// What the series of a group share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    rule: usize,
    metric: MetricId,
    origin: Option<Origin>,
    resource: Option<Resource>,
    domain: Option<String>,
    consumer: Option<wattrace_api::Identity>,
    attributes: Vec<Option<String>>,
}

impl By {
    /// Reads the words of `by`, or says why it can't.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut by = Self { single: words.is_empty(), ..Self::default() };
        for word in words {
            match word.as_str() {
                "" => return Err("a word in it is empty".to_owned()),
                // Both always tell groups apart.
                "metric" | "wattrace.origin" => {}
                "resource" => by.resource = true,
                "resource.type" => by.resource_type = true,
                "domain" | "wattrace.domain" => by.domain = true,
                "consumer" => by.consumer = true,
                "consumer.type" | "wattrace.consumer.type" => by.consumer_type = true,
                "cpu.package" => return Err("instead of cpu.package, say resource".to_owned()),
                hw if hw.starts_with("hw.") => {
                    return Err(format!("instead of {hw}, say domain or resource.type"));
                }
                attribute => by.attributes.push(attribute.to_owned()),
            }
        }
        Ok(by)
    }

    /// Whether groups may change when an exec changes a consumer's attributes.
    pub(crate) fn may_change(&self) -> bool {
        !self.attributes.is_empty()
    }

    /// Whether each series is by itself.
    pub(crate) fn is_single(&self) -> bool {
        self.single
    }

    /// Whether what `series` counts is already in another series of the same group.
    pub(crate) fn counts_twice(&self, series: &Series) -> bool {
        let Some(domain) = &series.domain else { return false };
        let apart = self.single || self.resource || self.resource_type || self.domain;
        let whole_machine = matches!(series.resource.kind, ResourceKind::Psys | ResourceKind::Host);
        !apart && (domain.within.is_some() || whole_machine)
    }

    /// The group of `series` under rule number `rule`.
    pub(crate) fn key(&self, rule: usize, series: &Series) -> Key {
        let identity = series.consumer.as_ref().map(|consumer| consumer.identity());
        let found = self.found(series);
        Key {
            rule,
            metric: series.metric_id,
            origin: series.domain.as_ref().map(|domain| domain.origin),
            resource: (self.resource || self.resource_type).then(|| self.about(series)),
            domain: series.domain.as_ref().filter(|_| self.domain).map(|domain| domain.name.clone()),
            consumer: if self.consumer {
                identity.cloned()
            } else {
                let kind = identity.filter(|_| self.consumer_type).map(|identity| identity.kind);
                kind.map(|kind| Consumer::closing(kind).identity().clone())
            },
            attributes: found.iter().map(|value| value.as_ref().map(AttributeValue::to_string)).collect(),
        }
    }

    /// The series that tells of `series` or its group as `metric`.
    pub(crate) fn spec(&self, metric: MetricId, series: &Series) -> SeriesSpec {
        if self.single {
            return SeriesSpec {
                metric,
                resource: series.resource.clone(),
                domain: series.domain.clone(),
                consumer: series.consumer.clone(),
                attributes: series.attributes.clone(),
                start: series.start,
            };
        }
        let domain = series.domain.as_ref().map(|domain| match self.domain {
            true => domain.clone(),
            false => Arc::new(Domain {
                name: "all".to_owned(),
                origin: domain.origin,
                follows: Follows::Cpus,
                within: None,
                idle_microwatts: None,
            }),
        });
        let consumer = match &series.consumer {
            Some(consumer) if self.consumer => Some(consumer.clone()),
            Some(consumer) if self.consumer_type => Some(Arc::new(Consumer::closing(consumer.kind()))),
            _ => None,
        };
        // What the consumer tells of itself need not be told again.
        let known = |key: &str| consumer.as_ref().is_some_and(|consumer| consumer.attribute(key).is_some());
        let attributes = self.attributes.iter().zip(self.found(series)).filter(|(key, _)| !known(key));
        let attributes = attributes.filter_map(|(key, value)| Some(Attribute::new(key.clone(), value?)));
        SeriesSpec {
            attributes: attributes.collect(),
            metric,
            resource: self.about(series),
            domain,
            consumer,
            start: series.start,
        }
    }

    fn about(&self, series: &Series) -> Resource {
        match (self.resource, self.resource_type) {
            (true, _) => series.resource.clone(),
            (false, true) => Resource { kind: series.resource.kind.clone(), id: Cow::Borrowed("") },
            (false, false) => Resource::HOST,
        }
    }

    /// The values of the attributes to group by.
    fn found(&self, series: &Series) -> Vec<Option<AttributeValue>> {
        if self.attributes.is_empty() {
            return Vec::new();
        }
        let all = series.all_attributes();
        let value = |key: &String| all.iter().find(|attribute| attribute.key == *key);
        self.attributes.iter().map(|key| value(key).map(|attribute| attribute.value.clone())).collect()
    }
}
