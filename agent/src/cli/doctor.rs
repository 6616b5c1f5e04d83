//! `wattrace doctor`: diagnoses every enabled plugin and shows the findings.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use wattrace_api::{Finding, Verdict};

use super::failure::{Failure, print};
use super::options::{Configuration, Format};
use crate::config::Config;
use crate::plugins::Registered;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    configuration: Configuration,
    /// How to write the findings
    #[arg(short, long, value_enum, default_value = "human")]
    format: Format,
}

/// The findings of a plugin.
#[derive(Debug, Serialize)]
struct Report {
    plugin: &'static str,
    enabled: bool,
    findings: Vec<Finding>,
}

/// Exits with 0 if every enabled plugin can work here, otherwise with 1.
pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    let config = Config::load(&options.configuration.request(), plugins).map_err(Failure::usage)?;
    let reports: Vec<Report> = config
        .plugins
        .iter()
        .filter_map(|p| {
            let registered = plugins.iter().find(|r| r.name == p.name)?;
            let findings = if p.enabled { (registered.diagnose)(p.table.clone()) } else { Vec::new() };
            Some(Report { plugin: p.name, enabled: p.enabled, findings })
        })
        .collect();
    match options.format {
        Format::Human => print(&human(&reports))?,
        Format::Json => {
            let version = env!("CARGO_PKG_VERSION");
            let json = serde_json::json!({
                "schema": "wattrace.doctor/1", "version": version, "plugins": reports,
            });
            print(&format!("{json:#}\n"))?;
        }
    }
    let missing = reports.iter().flat_map(|r| &r.findings).any(|f| f.verdict == Verdict::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn human(reports: &[Report]) -> String {
    let mut text = format!("wattrace {}\n", env!("CARGO_PKG_VERSION"));
    for report in reports.iter().filter(|r| !r.findings.is_empty()) {
        text += &format!("\n{}\n", report.plugin);
        for f in &report.findings {
            let mark = match f.verdict {
                Verdict::Ok => "ok     ",
                Verdict::Optional => "without",
                Verdict::Missing => "MISSING",
            };
            text += &format!("  {mark}  {}: {}\n", f.what, f.found);
            if !f.remedy.is_empty() {
                text += &format!("           → {}\n", f.remedy);
            }
        }
    }
    let idle: Vec<_> =
        reports.iter().filter(|r| r.enabled && r.findings.is_empty()).map(|r| r.plugin).collect();
    let off: Vec<_> = reports.iter().filter(|r| !r.enabled).map(|r| r.plugin).collect();
    for (what, names) in [("need nothing", idle), ("are off", off)] {
        if !names.is_empty() {
            text += &format!("\n{what}: {}", names.join(", "));
        }
    }
    text + "\n"
}
