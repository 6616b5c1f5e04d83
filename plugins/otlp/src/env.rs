//! The environment variables that OpenTelemetry defines for exporters, read through a function so that tests
//! need not touch the process's environment. What they mean beside the configuration is decided in `config`.
//!
//! As the specification requires, an invalid value is logged and ignored, so that an agent with an unrelated
//! variable in its environment still starts.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use tracing::warn;

/// Where variables are looked up.
#[derive(Clone, Copy)]
pub(crate) struct Env<'a>(pub(crate) &'a dyn Fn(&str) -> Option<String>);

impl Env<'static> {
    /// The process's own environment.
    pub(crate) fn process() -> Self {
        Env(&|name| std::env::var(name).ok())
    }
}

impl Env<'_> {
    /// A variable's value; an empty one counts as unset.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    }

    /// `OTEL_EXPORTER_OTLP_METRICS_<what>`, or else `OTEL_EXPORTER_OTLP_<what>`, with the name it was found
    /// under.
    pub(crate) fn exporter(&self, what: &str) -> Option<(String, String)> {
        ["OTEL_EXPORTER_OTLP_METRICS_", "OTEL_EXPORTER_OTLP_"].into_iter().find_map(|prefix| {
            let name = format!("{prefix}{what}");
            self.get(&name).map(|value| (name, value))
        })
    }

    /// Whether the environment alone enables the export of metrics.
    pub(crate) fn wants_metrics(&self) -> bool {
        let is = |name, value| self.get(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
        self.exporter("ENDPOINT").is_some()
            && !is("OTEL_SDK_DISABLED", "true")
            && !is("OTEL_METRICS_EXPORTER", "none")
    }
}

/// A positive number of milliseconds.
pub(crate) fn millis(name: &str, value: &str) -> Option<Duration> {
    match value.parse() {
        Ok(ms) if ms > 0 => Some(Duration::from_millis(ms)),
        _ => {
            warn!("{name}={value} is ignored: it is not a positive number of milliseconds");
            None
        }
    }
}

/// A `key=value,…` list with percent-encoded parts.
pub(crate) fn pairs(name: &str, list: &str) -> Vec<(String, String)> {
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
        let wants = |vars: &[(&str, &str)]| Env(&of(vars)).wants_metrics();
        assert!(!wants(&[]));
        assert!(!wants(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]));
        assert!(wants(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4317")]));
        assert!(wants(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://x:4317")]));
        let here = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4317");
        assert!(!wants(&[here, ("OTEL_SDK_DISABLED", "TRUE")]));
        assert!(!wants(&[here, ("OTEL_METRICS_EXPORTER", "none")]));
        assert!(wants(&[here, ("OTEL_SDK_DISABLED", "false"), ("OTEL_METRICS_EXPORTER", "otlp")]));
    }
}
