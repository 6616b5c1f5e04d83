//! The answer as CSV (RFC 4180). A spreadsheet does not compute names from outside: see
//! `wattrace_text_output::cell`.

use wattrace_text_output::cell::cell;

use super::answer::{Answer, joules, seconds};
use crate::cli::failure::Failure;

const HEADER: [&str; 9] =
    ["type", "name", "id", "energy_j", "share", "watts", "cpu_time_s", "processes", "origin"];

/// A header, and a line for each row.
pub(super) fn text(answer: &Answer) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER).map_err(Failure::new)?;
    for row in answer.rows() {
        let origins = row.origins.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let cells = [
            row.kind.clone(),
            cell(&answer.name(row)).into_owned(),
            cell(&row.id).into_owned(),
            format!("{:.6}", joules(row.microjoules)),
            format!("{:.6}", answer.share(row)),
            format!("{:.6}", answer.watts(row.microjoules)),
            format!("{:.9}", seconds(row.cpu_nanos)),
            row.processes.to_string(),
            cell(&origins).into_owned(),
        ];
        writer.write_record(cells).map_err(Failure::new)?;
    }
    let bytes = writer.into_inner().map_err(|e| Failure::new(e.error()))?;
    String::from_utf8(bytes).map_err(Failure::new)
}
