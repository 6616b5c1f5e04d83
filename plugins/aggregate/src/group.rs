//! Which series form a group, and what the result series of a group is about.
//!
//! Energy of different origin is never in one group. A group over several domains leaves out those whose
//! energy another domain counts already.

use std::borrow::Cow;
use std::sync::Arc;

use wattrace_api::{
    Attribute, AttributeValue, Consumer, Domain, Follows, MetricId, Origin, Resource, Series, SeriesSpec,
    Timestamp,
};
use wattrace_select::derived::derived_spec;

/// What series must share to be in one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Grouping {
    /// Each series is a group of its own.
    single: bool,
    resource: bool,
    resource_type: bool,
    domain: bool,
    consumer: bool,
    consumer_type: bool,
    attributes: Vec<String>,
}

/// What the series of one group share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    rule: usize,
    metric: MetricId,
    origin: Option<Origin>,
    resource: Option<Resource>,
    domain: Option<String>,
    consumer: Option<wattrace_api::Identity>,
    attributes: Vec<Option<String>>,
}

impl Grouping {
    /// Parses the words of `by`.
    ///
    /// # Errors
    /// The word that is invalid, and what to write instead.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut by = Self { single: words.is_empty(), ..Self::default() };
        for word in words {
            match word.as_str() {
                "" => return Err("a word in it is empty".to_owned()),
                // Groups always differ by both.
                "metric" | "wattrace.origin" => {}
                "resource" => by.resource = true,
                "resource.type" => by.resource_type = true,
                "domain" | "wattrace.domain" => by.domain = true,
                "consumer" => by.consumer = true,
                "consumer.type" | "wattrace.consumer.type" => by.consumer_type = true,
                "cpu.package" => return Err("instead of cpu.package, write resource".to_owned()),
                hw if hw.starts_with("hw.") => {
                    return Err(format!("instead of {hw}, write domain or resource.type"));
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

    /// Whether each series is a group of its own.
    pub(crate) fn is_single(&self) -> bool {
        self.single
    }

    /// Whether another series of the same group already counts the energy of `series`.
    pub(crate) fn counts_twice(&self, series: &Series) -> bool {
        let separates_domains = self.single || self.resource || self.resource_type || self.domain;
        !separates_domains && series.domain.is_some() && !series.counts_in_totals()
    }

    /// The group of `series` under rule number `rule`.
    pub(crate) fn key(&self, rule: usize, series: &Series) -> GroupKey {
        let identity = series.consumer.as_ref().map(|consumer| consumer.identity());
        let attributes = self.attribute_values(series);
        GroupKey {
            rule,
            metric: series.metric_id,
            origin: series.domain.as_ref().map(|domain| domain.origin),
            resource: (self.resource || self.resource_type).then(|| self.resource_of(series)),
            domain: series.domain.as_ref().filter(|_| self.domain).map(|domain| domain.name.clone()),
            consumer: if self.consumer {
                identity.cloned()
            } else {
                let kind = identity.filter(|_| self.consumer_type).map(|identity| identity.kind);
                kind.map(|kind| Consumer::closing(kind).identity().clone())
            },
            attributes: attributes
                .iter()
                .map(|value| value.as_ref().map(AttributeValue::to_string))
                .collect(),
        }
    }

    /// The result series of `metric` for the group of `series`.
    pub(crate) fn spec(&self, metric: MetricId, series: &Series, start: Timestamp) -> SeriesSpec {
        if self.single {
            return derived_spec(series, metric, start);
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
        // The consumer's own attributes need not be repeated.
        let known = |key: &str| consumer.as_ref().is_some_and(|consumer| consumer.attribute(key).is_some());
        let attributes =
            self.attributes.iter().zip(self.attribute_values(series)).filter(|(key, _)| !known(key));
        let attributes = attributes.filter_map(|(key, value)| Some(Attribute::new(key.clone(), value?)));
        SeriesSpec {
            attributes: attributes.collect(),
            metric,
            resource: self.resource_of(series),
            domain,
            consumer,
            start,
        }
    }

    fn resource_of(&self, series: &Series) -> Resource {
        match (self.resource, self.resource_type) {
            (true, _) => series.resource.clone(),
            (false, true) => Resource { kind: series.resource.kind.clone(), id: Cow::Borrowed("") },
            (false, false) => Resource::HOST,
        }
    }

    /// The values of the attributes to group by.
    fn attribute_values(&self, series: &Series) -> Vec<Option<AttributeValue>> {
        if self.attributes.is_empty() {
            return Vec::new();
        }
        let all = series.all_attributes();
        let value = |key: &String| all.iter().find(|attribute| attribute.key == *key);
        self.attributes.iter().map(|key| value(key).map(|attribute| attribute.value.clone())).collect()
    }
}
