//! The findings as a table for people, 80 columns wide. Commands are not broken, so that they can be pasted.

use wattrace_api::{Finding, Verdict};

use super::{Diagnosis, Report};
use crate::cli::table::wrapped;

/// The width of a line.
const WIDTH: usize = 80;

/// The table.
pub(super) fn table(diagnosis: &Diagnosis) -> String {
    let mut text = header(diagnosis);
    text += "\nmachine\n";
    for row in &diagnosis.machine {
        text += &finding(&row.finding, &row.cost);
    }
    let is_new = |f: &&Finding| !diagnosis.machine.iter().any(|row| row.finding.what == f.what);
    let mut nothing = Vec::new();
    for report in &diagnosis.plugins {
        let new: Vec<&Finding> = report.findings.iter().filter(is_new).collect();
        if report.enabled && report.findings.is_empty() {
            nothing.push(report.plugin);
        }
        if let Some((last, others)) = new.split_last() {
            text += &format!("\n{}\n", report.plugin);
            others.iter().for_each(|f| text += &finding(f, ""));
            text += &finding(last, report.cost);
        }
    }
    let off: Vec<_> = diagnosis.plugins.iter().filter(|r| !r.enabled).map(|r: &Report| r.plugin).collect();
    for (what, names) in [("need nothing", nothing), ("are off", off)] {
        if !names.is_empty() {
            text += &format!("\n{}", wrapped(&format!("{what}: {}", names.join(", ")), "", WIDTH));
        }
    }
    text
}

/// The version, and two lines about the system.
fn header(diagnosis: &Diagnosis) -> String {
    let system = &diagnosis.system;
    let distribution = match &*system.distribution.name {
        "" => "Linux",
        name => name,
    };
    let system_line = format!("{distribution}, kernel {} ({})", system.kernel, system.architecture);
    let model = match &*system.processor.model {
        "" => "processor of an unknown model",
        model => model,
    };
    let plural = if system.processor.cpus == 1 { "CPU" } else { "CPUs" };
    let processor = format!("{model}, {} {plural}", system.processor.cpus);
    let first = format!("wattrace {}", diagnosis.version);
    [first, system_line, processor].iter().map(|line| wrapped(line, "  ", WIDTH)).collect()
}

/// A row: verdict, what was looked at and what was found, and below what it costs and the remedy.
fn finding(f: &Finding, cost: &str) -> String {
    let mark = match f.verdict {
        Verdict::Ok => "ok     ",
        Verdict::Optional => "without",
        Verdict::Missing => "MISSING",
    };
    let indent = " ".repeat(11);
    let mut text = wrapped(&format!("  {mark}  {}: {}", f.what, f.found), &indent, WIDTH);
    if !cost.is_empty() {
        text += &wrapped(&format!("{indent}costs: {cost}"), &indent, WIDTH);
    }
    if !f.remedy.is_empty() {
        text += &wrapped(&format!("{indent}→ {}", f.remedy), &format!("{indent}  "), WIDTH);
    }
    text
}
