//! The report with what every format shows of it: shares, power, names, and the rows that a limit leaves.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use wattrace_sqlite::{EnergyReport, Row, Span};

/// A report to be shown.
#[derive(Debug)]
pub(super) struct Answer {
    /// What the rows are about: `program`, `unit`, …
    pub(super) by: &'static str,
    pub(super) span: Span,
    pub(super) zone: TimeZone,
    /// Its consumers are as many as the limit allows.
    pub(super) report: EnergyReport,
}

impl Answer {
    pub(super) fn new(
        mut report: EnergyReport,
        by: &'static str,
        zone: TimeZone,
        limit: Option<u32>,
    ) -> Self {
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if report.consumers.len() > limit {
            let rest = report.consumers.split_off(limit);
            // Transforms may have left consumers out, too.
            let mut other = match report.closing.first() {
                Some(row) if row.kind == "other" => report.closing.remove(0),
                _ => Row { kind: "other".into(), ..Row::default() },
            };
            for row in rest {
                other.microjoules += row.microjoules;
                other.cpu_nanos += row.cpu_nanos;
                other.processes += row.processes;
                other.origins.extend(row.origins);
            }
            report.closing.insert(0, other);
        }
        Self { by, span: report.span, zone, report }
    }

    /// The consumers, then what closes the books.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.report.consumers.iter().chain(&self.report.closing)
    }

    /// Where the joules of the rows come from.
    pub(super) fn origins(&self) -> BTreeSet<&str> {
        self.rows().flat_map(|row| row.origins.iter().map(String::as_str)).collect()
    }

    /// The same in words: `measured, estimated`; `none`.
    pub(super) fn origin(&self) -> String {
        let origins: Vec<_> = self.origins().into_iter().collect();
        if origins.is_empty() { "none".into() } else { origins.join(", ") }
    }

    /// The length of the span, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.span.to.saturating_sub(self.span.from) as f64 / 1e9
    }

    /// Average power over the span.
    pub(super) fn watts(&self, microjoules: u64) -> f64 {
        joules(microjoules) / self.seconds()
    }

    /// The part of all energy; 0 if there is none.
    pub(super) fn share(&self, row: &Row) -> f64 {
        let total = self.report.microjoules();
        if total == 0 { 0.0 } else { row.microjoules as f64 / total as f64 }
    }

    /// A row's name, as it came from outside.
    pub(super) fn name(&self, row: &Row) -> String {
        match (&*row.kind, &*row.name) {
            ("program" | "process", "") => "(unknown)".into(),
            (kind, "") if kind == self.by => format!("(no {kind})"),
            (kind, "") => kind.into(),
            ("process", name) if row.id != name => format!("{name} [{}]", row.id),
            (_, name) => name.into(),
        }
    }
}

/// Dividing rounds once: 123456 µJ are 0.123456 J.
pub(super) fn joules(microjoules: u64) -> f64 {
    microjoules as f64 / 1e6
}

pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
