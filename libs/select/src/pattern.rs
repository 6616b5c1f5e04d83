//! Selects series by globs over the metric, the resource, the consumer and the attributes. A [`Pattern`]
//! comes from the configuration and is compiled once to a [`Selector`], which is evaluated once per series.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wattrace_api::{ConsumerKind, Error, Series};

use crate::glob::Glob;

/// A selection of series. All globs that are given must match.
///
/// [`Glob`] says what a glob is. It matches the whole text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pattern {
    /// Glob over the metric's name: `hw.*`.
    pub metric: String,
    /// Glob over the resource, by `type` or by `type/id`: `package`, `gpu/*`, `{dram,core}/0`.
    pub resource: String,
    /// Glob over the consumer, by `type` or by `type/id`: `process`, `process/1234`,
    /// `cgroup//system.slice/*`. `none`: series about the hardware itself.
    pub consumer: String,
    /// Globs over attributes, by the names in which outputs write them: `{ "process.executable.name" =
    /// "postgres*" }`. A series that lacks one of them does not match.
    pub attributes: BTreeMap<String, String>,
}

/// What `Pattern::consumer` matches for series without a consumer.
const NO_CONSUMER: &str = "none";

impl Pattern {
    /// Compiles it. `key` is its place in the configuration, for error messages.
    ///
    /// # Errors
    /// Fatal, if a glob is invalid or a consumer's type does not exist. The message names the key.
    pub fn compile(&self, key: &str) -> Result<Selector, Error> {
        let part = |name: &str, text: &str| {
            (!text.is_empty()).then(|| glob(&format!("{key}.{name}"), text)).transpose()
        };
        let known = |kind: &ConsumerKind| kind.as_str() == self.consumer;
        let is_literal =
            !self.consumer.is_empty() && !self.consumer.contains(['*', '?', '[', '{', '/', '\\']);
        if is_literal && self.consumer != NO_CONSUMER && !ConsumerKind::ALL.iter().any(known) {
            let kinds: Vec<_> = ConsumerKind::ALL.iter().map(|kind| kind.as_str()).collect();
            let message = format!(
                "{key}.consumer: there is no consumer type \"{}\"; the types are {}, and none",
                self.consumer,
                kinds.join(", ")
            );
            return Err(Error::fatal(message));
        }
        let attributes = self
            .attributes
            .iter()
            .map(|(name, text)| Ok((name.clone(), glob(&format!("{key}.attributes.\"{name}\""), text)?)));
        Ok(Selector {
            metric: part("metric", &self.metric)?,
            resource: part("resource", &self.resource)?,
            consumer: part("consumer", &self.consumer)?,
            attributes: attributes.collect::<Result<_, Error>>()?,
        })
    }
}

/// Compiles the glob at `key` in the configuration.
///
/// # Errors
/// Fatal, if it is invalid. The message names the key.
pub fn glob(key: &str, text: &str) -> Result<Glob, Error> {
    Glob::new(text).map_err(|e| Error::fatal(format!("{key}: {e}")))
}

/// A compiled [`Pattern`].
#[derive(Debug, Clone)]
pub struct Selector {
    metric: Option<Glob>,
    resource: Option<Glob>,
    consumer: Option<Glob>,
    attributes: Vec<(String, Glob)>,
}

impl Selector {
    /// Whether it selects `series`, by the current attributes of its consumer. Too expensive for every point:
    /// see [`crate::Decisions`].
    pub fn matches(&self, series: &Series) -> bool {
        self.metric.as_ref().is_none_or(|glob| glob.is_match(&series.metric.name))
            && self.matches_resource(series)
            && self.matches_consumer(series)
            && self.matches_attributes(series)
    }

    /// Whether the result may change when an exec changes a consumer's attributes.
    pub fn may_change(&self) -> bool {
        !self.attributes.is_empty()
    }

    fn matches_resource(&self, series: &Series) -> bool {
        let resource = &series.resource;
        self.resource.as_ref().is_none_or(|glob| matches_either(glob, resource.kind.as_str(), &resource.id))
    }

    fn matches_consumer(&self, series: &Series) -> bool {
        self.consumer.as_ref().is_none_or(|glob| match &series.consumer {
            Some(consumer) => matches_either(glob, consumer.kind().as_str(), &consumer.identity().id),
            None => glob.is_match(NO_CONSUMER),
        })
    }

    fn matches_attributes(&self, series: &Series) -> bool {
        if self.attributes.is_empty() {
            return true;
        }
        let all = series.all_attributes();
        self.attributes.iter().all(|(key, glob)| {
            all.iter().any(|attribute| attribute.key == *key && glob.is_match(&attribute.value.to_string()))
        })
    }
}

fn matches_either(glob: &Glob, kind: &str, id: &str) -> bool {
    glob.is_match(kind) || glob.is_match(&format!("{kind}/{id}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wattrace_api::{Resource, ResourceKind, metric};

    use super::*;
    use wattrace_transform_testing::Fixture;

    fn pattern(json: &str) -> Pattern {
        serde_json::from_str(json).unwrap()
    }

    fn error_of(json: &str) -> String {
        pattern(json).compile("plugins.x.rules[0].select").unwrap_err().to_string()
    }

    #[test]
    fn all_given_globs_must_match() {
        let fixture = Fixture::new();
        let bash = fixture.process(7, "bash");
        let gpu = Resource { kind: ResourceKind::Gpu, id: "a/b".into() };
        let of = |id| fixture.rig.registry.get(id).unwrap();
        let process: Arc<_> = of(fixture.energy(Some(&bash)));
        let package = of(fixture.energy(None));
        let gpu = of(fixture.open(&metric::HW_ENERGY, gpu, None, None));
        for (json, expected) in [
            ("{}", [true, true, true]),
            (r#"{"metric": "hw.*"}"#, [false, true, true]),
            (r#"{"metric": "hw"}"#, [false, false, false]),
            (r#"{"metric": "{hw,wattrace.consumer}.energy"}"#, [true, true, true]),
            (r#"{"resource": "package"}"#, [true, true, false]),
            (r#"{"resource": "gpu/a/*"}"#, [false, false, true]),
            (r#"{"resource": "{package,gpu/x}"}"#, [true, true, false]),
            (r#"{"resource": "*/1"}"#, [false, false, false]),
            (r#"{"consumer": "none"}"#, [false, true, true]),
            (r#"{"consumer": "process/7"}"#, [true, false, false]),
            (r#"{"consumer": "process/8"}"#, [false, false, false]),
            (r#"{"consumer": "*"}"#, [true, true, true]),
            (r#"{"attributes": {"process.executable.name": "ba*"}}"#, [true, false, false]),
            (r#"{"attributes": {"wattrace.domain": "package-0"}}"#, [true, true, false]),
            (r#"{"metric": "hw.*", "attributes": {"wattrace.origin": "simulated"}}"#, [false, true, false]),
        ] {
            let selector = pattern(json).compile("key").unwrap();
            assert_eq!([&process, &package, &gpu].map(|s| selector.matches(s)), expected, "{json}");
        }
    }

    #[test]
    fn an_error_names_the_key_of_the_invalid_glob_or_type() {
        let message = error_of(r#"{"metric": "hw.{energy"}"#);
        assert!(message.starts_with("plugins.x.rules[0].select.metric: "), "{message}");
        let message = error_of(r#"{"attributes": {"a.b": "[z"}}"#);
        assert!(message.starts_with("plugins.x.rules[0].select.attributes.\"a.b\": "), "{message}");
        let message = error_of(r#"{"consumer": "proces"}"#);
        assert!(message.contains("select.consumer") && message.contains("process, thread"), "{message}");
    }
}
