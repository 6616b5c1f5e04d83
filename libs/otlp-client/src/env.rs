//! The environment variables that OpenTelemetry defines for exporters, read through a function so that tests
//! need not touch the process's environment. What they mean beside the configuration is decided in
//! [`crate::config`] and by the plugins.
//!
//! As the specification requires, an invalid value is logged and ignored, so that an agent with an unrelated
//! variable in its environment still starts.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tracing::warn;
use wattrace_api::Error;

use crate::signal::Signal;

/// Where variables are looked up, and for which signal.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// The signal.
    pub signal: Signal,
}

impl Env<'static> {
    /// The process's own environment.
    pub fn process(signal: Signal) -> Self {
        Self::new(signal, &|name| std::env::var(name).ok())
    }
}

impl<'a> Env<'a> {
    /// The variables that `lookup` finds.
    pub fn new(signal: Signal, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, signal }
    }

    /// A variable's value; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    }

    /// `OTEL_EXPORTER_OTLP_METRICS_<what>` if the signal is metrics, or else `OTEL_EXPORTER_OTLP_<what>`,
    /// with the name it was found under.
    pub fn exporter(&self, what: &str) -> Option<(String, String)> {
        let names = [self.own(what), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    /// The name of the signal's own variable.
    pub(crate) fn own(&self, what: &str) -> String {
        format!("OTEL_EXPORTER_OTLP_{}_{what}", self.signal.variables)
    }

    /// Whether the environment alone enables the export of the signal: it has an endpoint, and neither
    /// OTEL_SDK_DISABLED nor OTEL_METRICS_EXPORTER (or that of the signal) objects.
    pub fn wants_export(&self) -> bool {
        self.exporter("ENDPOINT").is_some() && !self.is_disabled() && self.is_chosen()
    }

    fn is_disabled(&self) -> bool {
        let name = "OTEL_SDK_DISABLED";
        self.get(name).is_some_and(|value| flag(name, &value))
    }

    /// Whether the signal goes to OTLP, by a list of exporters. That is so by default.
    fn is_chosen(&self) -> bool {
        let list = self.get(&format!("OTEL_{}_EXPORTER", self.signal.variables));
        list.is_none_or(|list| list.split(',').any(|name| name.trim().eq_ignore_ascii_case("otlp")))
    }

    /// The duration in a variable, in milliseconds.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        self.get(name).and_then(|value| millis(name, &value))
    }

    /// The positive number in a variable.
    pub fn count(&self, name: &str) -> Option<NonZeroUsize> {
        let value = self.get(name)?;
        let count = value.parse().ok();
        if count.is_none() {
            warn!("{name}={value} is ignored: it is not a positive number");
        }
        count
    }

    /// The error about the key `key` of the plugin's configuration.
    pub fn bad(&self, key: &str, problem: impl Display) -> Error {
        Error::fatal(format!("{}.{key}: {problem}", self.signal.section))
    }
}

/// Whether a Boolean variable is true: by the word `true` alone.
pub(crate) fn flag(name: &str, value: &str) -> bool {
    let is = |word| value.eq_ignore_ascii_case(word);
    if !is("true") && !is("false") {
        warn!("{name}={value} counts as false: it is neither true nor false");
    }
    is("true")
}

/// A positive number of milliseconds.
pub fn millis(name: &str, value: &str) -> Option<Duration> {
    match value.parse() {
        Ok(ms) if ms > 0 => Some(Duration::from_millis(ms)),
        _ => {
            warn!("{name}={value} is ignored: it is not a positive number of milliseconds");
            None
        }
    }
}

/// A `key=value,…` list with percent-encoded parts.
pub fn pairs(name: &str, list: &str) -> Vec<(String, String)> {
    raw_pairs(name, list).into_iter().map(|(key, value)| (decode(key), value)).collect()
}

/// The same, but of headers: only their values are percent-encoded, so a key with an escape is none.
pub(crate) fn headers(name: &str, list: &str) -> Vec<(String, String)> {
    let mut pairs = raw_pairs(name, list);
    pairs.retain(|(key, _)| {
        let is_plain = !key.contains('%');
        if !is_plain {
            warn!("header `{key}` of {name} is ignored: only the value is percent-encoded, not the key");
        }
        is_plain
    });
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The keys as they stand, and the decoded values.
fn raw_pairs<'a>(name: &str, list: &'a str) -> Vec<(&'a str, String)> {
    let mut pairs = Vec::new();
    for (at, item) in list.split(',').map(str::trim).enumerate().filter(|(_, item)| !item.is_empty()) {
        match item.split_once('=').map(|(key, value)| (key.trim(), value)) {
            Some((key, value)) if !key.is_empty() => pairs.push((key, decode(value))),
            // The item itself is not logged: a list of headers holds secrets.
            _ => warn!("item {} of {name} is ignored: it is not key=value", at + 1),
        }
    }
    pairs
}

fn decode(text: &str) -> String {
    percent_decode_str(text.trim()).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Metrics, as the plugin otlp has them.
    pub(crate) const METRICS: Signal = Signal {
        section: "plugins.otlp",
        variables: "METRICS",
        path: "/v1/metrics",
        method: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        json: |request| Ok(format!("{{\"bytes\":{}}}", request.len()).into_bytes()),
    };

    /// Looks up in a list instead of the process.
    pub(crate) fn of<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string())
    }

    #[test]
    fn lists_are_decoded_and_bad_items_left_out() {
        let list = " api-key = a%20b%3D , =x, nothing,, x=1=2 ";
        let expected = [("api-key", "a b="), ("x", "1=2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(pairs("OTEL_EXPORTER_OTLP_HEADERS", list), expected);
        assert_eq!(headers("OTEL_EXPORTER_OTLP_HEADERS", list), expected);
    }

    #[test]
    fn of_headers_only_the_values_are_decoded() {
        let list = "x%2Dkey=v,api-key=a%3Db,half=50%,Authorization=Basic%20dXNlcjpwYXNz==";
        let expected = [("api-key", "a=b"), ("half", "50%"), ("Authorization", "Basic dXNlcjpwYXNz==")];
        assert_eq!(
            headers("OTEL_EXPORTER_OTLP_HEADERS", list),
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        assert_eq!(pairs("OTEL_RESOURCE_ATTRIBUTES", "a%2Cb=c"), [("a,b".to_owned(), "c".to_owned())]);
    }

    #[test]
    fn milliseconds_are_positive_numbers() {
        assert_eq!(millis("X", "1500"), Some(Duration::from_millis(1500)));
        for bad in ["0", "-1", "1s", "1.5"] {
            assert_eq!(millis("X", bad), None, "{bad}");
        }
    }

    #[test]
    fn an_endpoint_in_the_environment_asks_for_metrics_unless_they_are_switched_off() {
        let wants = |vars: &[(&str, &str)]| Env::new(METRICS, &of(vars)).wants_export();
        assert!(!wants(&[]));
        assert!(!wants(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]));
        assert!(wants(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4317")]));
        assert!(wants(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://x:4317")]));
        let here = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4317");
        assert!(!wants(&[here, ("OTEL_SDK_DISABLED", "TRUE")]));
        assert!(!wants(&[here, ("OTEL_METRICS_EXPORTER", "none")]));
        assert!(!wants(&[here, ("OTEL_METRICS_EXPORTER", "prometheus, console")]));
        assert!(wants(&[here, ("OTEL_METRICS_EXPORTER", "prometheus, OTLP")]));
        assert!(wants(&[here, ("OTEL_SDK_DISABLED", "1"), ("OTEL_METRICS_EXPORTER", "otlp")]), "only `true`");
    }
}
