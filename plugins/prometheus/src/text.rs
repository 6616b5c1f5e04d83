//! The text formats: OpenMetrics 1.0, and Prometheus' own 0.0.4 for clients that do not ask for it.

use std::collections::HashSet;
use std::fmt::Write as _;

use wattrace_api::{Clock, Kind};

use crate::names::escape;
use crate::sample::Sample;
use crate::table::{NamedMetric, Table};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// The format that a client asks for in its `Accept` header. OpenMetrics, which says when a counter
    /// stood at zero, is given to whoever takes it.
    pub(crate) fn accepted(accept: &str) -> Self {
        let is_open_metrics = |part: &str| {
            let mut parameters = part.split(';').map(str::trim);
            let is_named = parameters.next() == Some("application/openmetrics-text");
            is_named && parameters.all(|p| !matches!(p.split_once('='), Some(("version", v)) if v != "1.0.0"))
        };
        // Parameters are compared without the quality, which no scraper sets to 0.
        if accept.split(',').any(|part| is_open_metrics(part.trim())) {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }

    /// The `Content-Type` of an answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A text, and how many samples are left out because another has the same name and labels.
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) duplicates: u64,
}

/// Writes all of `table`.
pub(crate) fn write(table: &Table, clock: &Clock, format: Format) -> Text {
    let mut by_family = vec![Vec::new(); table.families().len()];
    table.samples().for_each(|sample| by_family[sample.family].push(sample));
    let mut text = String::new();
    let mut duplicates = 0;
    for (family, samples) in table.families().iter().zip(&mut by_family) {
        let mut seen = HashSet::with_capacity(samples.len());
        let all = samples.len();
        samples.retain(|sample| seen.insert(&*sample.labels));
        duplicates += (all - samples.len()) as u64;
        if !samples.is_empty() {
            write_family(&mut text, family, samples, clock, format);
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    Text { text, duplicates }
}

fn write_family(text: &mut String, family: &NamedMetric, samples: &[&Sample], clock: &Clock, format: Format) {
    let NamedMetric { family, metric } = family;
    let total = if metric.kind == Kind::Counter { "_total" } else { "" };
    // Prometheus' own format describes the sample, OpenMetrics the family.
    let described = if format == Format::Prometheus { total } else { "" };
    let name = &family.name;
    let mut help = String::new();
    escape(&mut help, &metric.description);
    // Writing to a string cannot fail.
    _ = writeln!(text, "# HELP {name}{described} {help}");
    _ = writeln!(text, "# TYPE {name}{described} {}", metric.kind.as_str());
    if format == Format::OpenMetrics && !family.unit.is_empty() {
        _ = writeln!(text, "# UNIT {name} {}", family.unit);
    }
    for sample in samples {
        let labels = &sample.labels;
        _ = writeln!(text, "{name}{total}{labels} {}", metric.in_units(sample.value));
        if format == Format::OpenMetrics && metric.kind == Kind::Counter {
            let created = clock.unix_nanos(sample.start);
            let (seconds, milliseconds) = (created / 1_000_000_000, created / 1_000_000 % 1000);
            _ = writeln!(text, "{name}_created{labels} {seconds}.{milliseconds:03}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_served_to_whoever_accepts_it() {
        let prometheus_2_42 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                               version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus_2_42), Format::OpenMetrics);
        assert_eq!(Format::accepted("application/openmetrics-text"), Format::OpenMetrics);
        assert_eq!(Format::accepted("application/openmetrics-text;version=0.0.1"), Format::Prometheus);
        assert_eq!(Format::accepted("text/plain;version=0.0.4"), Format::Prometheus);
        assert_eq!(Format::accepted("*/*"), Format::Prometheus);
        assert_eq!(Format::accepted(""), Format::Prometheus);
    }
}
