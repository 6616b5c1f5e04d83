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

/// A `key=value,…` list whose values are percent-encoded.
pub(crate) fn pairs(name: &str, list: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (at, item) in list.split(',').map(str::trim).enumerate().filter(|(_, item)| !item.is_empty()) {
        match item.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => pairs.push((decode(key), decode(value))),
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
