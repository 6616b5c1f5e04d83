//! The answer for programs: one object, with the schema `wattrace.query/1`. Joules are numbers of JSON, which
//! most programs read with 53 bits; `energy_uj` is exact beyond them.

use serde::Serialize;

use super::answer::{Answer, joules, seconds};
use super::moment::{rfc3339, zone_name};
use crate::cli::failure::Failure;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    by: &'static str,
    span: SpanFields,
    total: Total<'a>,
    domains: Vec<DomainFields<'a>>,
    rows: Vec<RowFields<'a>>,
}

#[derive(Serialize)]
struct SpanFields {
    from: String,
    to: String,
    time_zone: String,
    from_unix_nano: u64,
    to_unix_nano: u64,
}

#[derive(Serialize)]
struct Total<'a> {
    energy_j: f64,
    energy_uj: u64,
    measured_j: f64,
    measured_uj: u64,
    watts: f64,
    origin: Vec<&'a str>,
}

#[derive(Serialize)]
struct DomainFields<'a> {
    domain: &'a str,
    origin: &'a str,
    measured_j: f64,
    measured_uj: u64,
    in_total: bool,
}

#[derive(Serialize)]
struct RowFields<'a> {
    r#type: &'a str,
    name: String,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_unix_nano: Option<u64>,
    energy_j: f64,
    energy_uj: u64,
    share: f64,
    watts: f64,
    cpu_time_s: f64,
    processes: u64,
    origin: Vec<&'a str>,
}

/// One line.
pub(super) fn text(answer: &Answer) -> Result<String, Failure> {
    let (span, report) = (answer.span, &answer.report);
    let [from, to] = [span.from, span.to].map(|nanos| rfc3339(nanos, &answer.zone));
    let (energy_uj, measured_uj) = (report.microjoules(), report.measured_microjoules());
    let domains = report.domains.iter().map(|domain| DomainFields {
        domain: &domain.name,
        origin: &domain.origin,
        measured_j: joules(domain.microjoules),
        measured_uj: domain.microjoules,
        in_total: domain.is_counted,
    });
    let rows = answer.rows().map(|row| RowFields {
        r#type: &row.kind,
        name: answer.name(row),
        id: &row.id,
        start_unix_nano: Some(row.start_unix_nano).filter(|&start| start > 0),
        energy_j: joules(row.microjoules),
        energy_uj: row.microjoules,
        share: answer.share(row),
        watts: answer.watts(row.microjoules),
        cpu_time_s: seconds(row.cpu_nanos),
        processes: row.processes,
        origin: row.origins.iter().map(String::as_str).collect(),
    });
    let document = Document {
        schema: "wattrace.query/1",
        by: answer.by,
        span: SpanFields {
            from,
            to,
            time_zone: zone_name(&answer.zone),
            from_unix_nano: span.from,
            to_unix_nano: span.to,
        },
        total: Total {
            energy_j: joules(energy_uj),
            energy_uj,
            measured_j: joules(measured_uj),
            measured_uj,
            watts: answer.watts(energy_uj),
            origin: answer.origins().into_iter().collect(),
        },
        domains: domains.collect(),
        rows: rows.collect(),
    };
    let json = serde_json::to_string_pretty(&document).map_err(Failure::new)?;
    Ok(json + "\n")
}
