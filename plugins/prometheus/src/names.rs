//! Prometheus' names, by the rules of OpenTelemetry's [compatibility specification][spec]: dots become
//! underscores, the unit in words ends the name.
//!
//! [spec]: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/

use wattrace_api::{Attribute, Kind, Metric, Unit};

/// UCUM codes in Prometheus' words. A code that is not here is spelt out by its letters and digits.
const UNITS: [(&str, &str); 12] = [
    ("%", "percent"),
    ("A", "amperes"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("V", "volts"),
    ("bit", "bits"),
    ("d", "days"),
    ("g", "grams"),
    ("h", "hours"),
    ("m", "meters"),
    ("min", "minutes"),
    ("ms", "milliseconds"),
];

/// A metric family: what OpenMetrics calls a metric with all its label sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// Its name, with the unit at the end and without `_total`.
    pub(crate) name: String,
    /// The unit at the end of the name; empty: there is none.
    pub(crate) unit: String,
}

impl Family {
    /// The family of `metric`.
    pub(crate) fn of(metric: &Metric) -> Self {
        let unit = unit(metric);
        let name = sanitized(&metric.name, true);
        let mut name = name.strip_suffix("_total").unwrap_or(&name).to_owned();
        let has_unit = name.strip_suffix(&*unit).is_some_and(|rest| rest.ends_with('_'));
        if !(unit.is_empty() || has_unit) {
            name.push('_');
            name.push_str(&unit);
        }
        Self { name, unit }
    }
}

fn unit(metric: &Metric) -> String {
    match &metric.unit {
        Unit::Joule => "joules".to_owned(),
        Unit::Watt => "watts".to_owned(),
        Unit::Second => "seconds".to_owned(),
        Unit::Byte => "bytes".to_owned(),
        Unit::Count("1") if metric.kind == Kind::Gauge => "ratio".to_owned(),
        unit => {
            // `{point}` names what is counted, not a unit; `kW.h` and `g/s` are products and quotients.
            let code = unit.ucum();
            let code = code.split('{').next().unwrap_or_default();
            match UNITS.iter().find(|(ucum, _)| *ucum == code) {
                Some((_, word)) => (*word).to_owned(),
                None if code == "1" => String::new(),
                None => sanitized(&code.replace('/', "_per_"), false).trim_matches('_').to_owned(),
            }
        }
    }
}

/// `name` with an underscore for what is neither a letter of ASCII nor a digit; `colons` are allowed in names
/// of metrics. What begins with a digit gets an underscore before it.
fn sanitized(name: &str, colons: bool) -> String {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let text: String = name.chars().map(|c| if is_fine(c) { c } else { '_' }).collect();
    if text.starts_with(|c: char| c.is_ascii_digit()) { format!("_{text}") } else { text }
}

/// Labels in braces, as they stand behind the name of a sample; empty without any. Values of keys that differ
/// only in what a label's name cannot hold are joined.
pub(crate) fn labels(attributes: &[Attribute]) -> String {
    let mut labels = Vec::<(String, String)>::with_capacity(attributes.len());
    for attribute in attributes {
        let (name, value) = (sanitized(&attribute.key, false), attribute.value.to_string());
        match labels.iter_mut().find(|(n, _)| *n == name) {
            Some((_, all)) => *all = format!("{all};{value}"),
            None => labels.push((name, value)),
        }
    }
    // An empty label is the same as none.
    labels.retain(|(_, value)| !value.is_empty());
    if labels.is_empty() {
        return String::new();
    }
    let mut text = String::from("{");
    for (name, value) in &labels {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        escape(&mut text, value);
        text.push('"');
    }
    text.push('}');
    text
}

/// Adds `value` as it stands between quotation marks.
pub(crate) fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(metric: &Metric) -> String {
        Family::of(metric).name
    }

    #[test]
    fn names_end_with_the_unit_in_words() {
        let counter = |name, unit| Metric::counter(name, unit, 1.0, "");
        assert_eq!(name(&wattrace_api::metric::HW_ENERGY), "hw_energy_joules");
        assert_eq!(name(&wattrace_api::metric::CONSUMER_CPU_TIME), "wattrace_consumer_cpu_time_seconds");
        assert_eq!(name(&counter("a.points", Unit::Count("{point}"))), "a_points");
        assert_eq!(name(&counter("a.total", Unit::Joule)), "a_joules");
        assert_eq!(name(&counter("a.runs", Unit::Count("1"))), "a_runs");
        assert_eq!(name(&Metric::gauge("a.error", Unit::Count("1"), "")), "a_error_ratio");
        let other = |code| name(&Metric::gauge("a.b", Unit::parse(code).unwrap(), ""));
        let codes = ["Cel", "%", "g{CO2e}", "kW.h", "g/s", "Hz"].map(other);
        let names = ["celsius", "percent", "grams", "kW_h", "g_per_s", "hertz"];
        assert_eq!(codes, names.map(|unit| format!("a_b_{unit}")));
        assert_eq!(name(&counter("time.seconds", Unit::Second)), "time_seconds");
        assert_eq!(name(&counter("9lives", Unit::Count("{life}"))), "_9lives");
    }

    #[test]
    fn labels_hold_any_value_and_only_names_that_prometheus_takes() {
        let of = |pairs: &[(&'static str, &str)]| {
            labels(&pairs.iter().map(|(k, v)| Attribute::new(*k, *v)).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[("process.pid", "1")]), r#"{process_pid="1"}"#);
        assert_eq!(of(&[("a", "say \"hi\"\n\\o/"), ("b", "é")]), r#"{a="say \"hi\"\n\\o/",b="é"}"#);
        assert_eq!(of(&[("a.b", "1"), ("a_b", "2"), ("empty", "")]), r#"{a_b="1;2"}"#);
        assert_eq!(of(&[("empty", "")]), "");
    }
}
