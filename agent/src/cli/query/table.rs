//! The answer for people, in 80 columns.

use std::time::Duration;

use wattrace_api::text::printable;

use super::answer::{Answer, joules, seconds};
use super::moment::{shown, zone_name};
use crate::cli::table::{aligned, shortened};

/// Longer names are cut, in characters.
const MAX_NAME: usize = 28;

/// A line about the span, a table, and what is to be known about it.
pub(super) fn text(answer: &Answer) -> String {
    let [from, to] = [answer.span.from, answer.span.to].map(|nanos| shown(nanos, &answer.zone));
    let length = humantime::format_duration(Duration::from_secs_f64(answer.seconds().round()));
    let mut text = format!("{from} to {to} ({}), {length}\n\n", zone_name(&answer.zone));
    let energy = format!("J ({})", answer.origin());
    let header = [answer.by, &energy, "share", "avg W", "CPU s", "processes"];
    let mut rows = vec![header.map(String::from)];
    for row in answer.rows() {
        rows.push([
            shortened(&printable(&answer.name(row)), MAX_NAME),
            format!("{:.3}", joules(row.microjoules)),
            format!("{:.1} %", answer.share(row) * 100.0),
            format!("{:.3}", answer.watts(row.microjoules)),
            if row.cpu_nanos > 0 { format!("{:.3}", seconds(row.cpu_nanos)) } else { String::new() },
            if row.processes > 0 { row.processes.to_string() } else { String::new() },
        ]);
    }
    let total = answer.report.microjoules();
    let (total, watts) = (format!("{:.3}", joules(total)), format!("{:.3}", answer.watts(total)));
    rows.push(["total".into(), total, String::new(), watts, String::new(), String::new()]);
    text += &aligned(&rows, &[0], "  ");
    text += &notes(answer);
    text
}

fn notes(answer: &Answer) -> String {
    let mut notes = String::new();
    let (total, measured) = (answer.report.microjoules(), answer.report.measured_microjoules());
    if total != measured {
        let measured = joules(measured);
        notes += &format!("\nThe meters counted {measured:.6} J: points at the borders are missing.\n");
    }
    let left_out = answer.report.domains.iter().filter(|domain| !domain.is_counted);
    let left_out: Vec<_> =
        left_out.map(|d| format!("{} {:.3} J", printable(&d.name), joules(d.microjoules))).collect();
    if !left_out.is_empty() {
        notes += &format!("\nNot in the total: {} (--domain NAME).\n", left_out.join(", "));
    }
    notes
}
