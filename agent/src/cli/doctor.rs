//! `wattrace doctor`: what this machine can do, what each missing thing costs, and the command that gives it.
//! What concerns one plugin is found by that plugin.
//!
//! | file | holds |
//! | --- | --- |
//! | `doctor/machine.rs` | the rows of what concerns all plugins: kernel, rights, drivers |
//! | `doctor/modules.rs` | which modules of the kernel are loaded, and which could be |
//! | `doctor/row.rs` | a row of the table, and what `--fix` can do about it |
//! | `doctor/text.rs` | the table for people |
//! | `doctor/fix.rs` | `--fix` |
//! | `doctor/anonymous.rs` | `--report`: the same without names and addresses |

mod anonymous;
mod fix;
mod machine;
mod modules;
mod row;
mod text;

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use wattrace_api::{Finding, Verdict};

use self::anonymous::Scrubber;
use self::row::Row;
use super::failure::{Failure, print};
use super::options::{Configuration, Format};
use super::system::System;
use crate::config::Config;
use crate::plugins::Registered;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    configuration: Configuration,
    /// How to write the findings
    #[arg(short, long, value_enum, default_value = "human")]
    format: Format,
    /// Do what can be done safely: load drivers of meters; each is asked for first
    #[arg(long)]
    fix: bool,
    /// With --fix: do not ask
    #[arg(short, long, requires = "fix")]
    yes: bool,
    /// Write the findings to this file without names of hosts and users, addresses and settings, for an issue
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Look at another machine: at copies of its /proc, /sys, /dev, /etc and /run below this directory
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "fix")]
    root: Option<PathBuf>,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Diagnosis {
    schema: &'static str,
    version: &'static str,
    system: System,
    machine: Vec<Row>,
    plugins: Vec<Report>,
}

/// The findings of a plugin.
#[derive(Debug, Serialize)]
struct Report {
    plugin: &'static str,
    enabled: bool,
    findings: Vec<Finding>,
    /// What it costs that none of the devices was found that the plugin measures.
    #[serde(skip_serializing_if = "str::is_empty")]
    cost: &'static str,
}

/// Exits with 0 if every enabled plugin can work here, otherwise with 1.
pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    let mut config = Config::load(&options.configuration.request(), plugins).map_err(Failure::usage)?;
    let only_movable = options.root.as_ref().map(|root| move_paths(&mut config, root));
    let root = options.root.as_deref().unwrap_or(Path::new("/"));
    let look = || Diagnosis::look(root, &config, plugins, only_movable.as_deref());
    let mut diagnosis = look();
    if options.fix && fix_all(&diagnosis, options.yes)? {
        diagnosis = look();
    }
    match options.format {
        Format::Human => print(&text::table(&diagnosis))?,
        Format::Json => print(&format!("{:#}\n", serde_json::json!(diagnosis)))?,
    }
    if let Some(file) = &options.report {
        let report = diagnosis.anonymous(&Scrubber::new(root, &config, plugins));
        fs::write(file, format!("{report:#}\n"))
            .map_err(|e| Failure::new(format!("--report {}: {e}", file.display())))?;
        eprintln!("wattrace: {} is written; please read it before you pass it on", file.display());
    }
    Ok(if diagnosis.lacks_something() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Asks at the terminal for each fix. Returns whether something was done.
fn fix_all(diagnosis: &Diagnosis, is_agreed: bool) -> Result<bool, Failure> {
    let fixes: Vec<_> = diagnosis.machine.iter().filter_map(|row| row.fix.as_ref()).collect();
    if fixes.is_empty() {
        eprintln!(
            "wattrace: nothing here can be fixed without a decision of yours: the arrows say what is left"
        );
        return Ok(false);
    }
    if !is_agreed && !std::io::stdin().is_terminal() {
        return Err(Failure::usage("--fix asks at a terminal; for scripts there is --fix --yes"));
    }
    let ask = |question: &str| is_agreed || fix::ask(question);
    fix::apply(&fixes, ask, fix::run).map_err(Failure::new)
}

impl Diagnosis {
    /// Looks at the machine below `root`. `only`: the plugins that are asked.
    fn look(root: &Path, config: &Config, plugins: &[Registered], only: Option<&[&str]>) -> Self {
        let system = System::read(root);
        let reports = config.plugins.iter().filter_map(|p| {
            let registered = plugins.iter().find(|r| r.name == p.name)?;
            let is_asked = p.enabled && only.is_none_or(|only| only.contains(&p.name));
            let findings = if is_asked { (registered.diagnose)(p.table.clone()) } else { Vec::new() };
            let is_found = findings.iter().any(|f| f.verdict == Verdict::Ok);
            let device = (registered.device)().filter(|_| is_asked && !is_found);
            let cost = device.map(|device| device.without).unwrap_or_default();
            Some(Report { plugin: p.name, enabled: p.enabled, findings, cost })
        });
        Self {
            schema: "wattrace.doctor/1",
            version: env!("CARGO_PKG_VERSION"),
            machine: machine::rows(root, &system),
            plugins: reports.collect(),
            system,
        }
    }

    /// Whether an enabled plugin cannot work here.
    fn lacks_something(&self) -> bool {
        let of_plugins = self.plugins.iter().flat_map(|report| &report.findings);
        of_plugins.chain(self.machine.iter().map(|row| &row.finding)).any(|f| f.verdict == Verdict::Missing)
    }

    /// The same as JSON that names nobody.
    fn anonymous(&self, scrubber: &Scrubber) -> Value {
        let mut report = serde_json::json!(self);
        report["anonymous"] = true.into();
        for part in ["machine", "plugins"] {
            scrubber.scrub(&mut report[part]);
        }
        report
    }
}

/// Moves every path of the plugins' configuration that leads into the kernel's file systems below `root`.
/// Returns the names of the plugins that have such paths: the others look at this machine.
fn move_paths(config: &mut Config, root: &Path) -> Vec<&'static str> {
    let mut movable = Vec::new();
    for plugin in &mut config.plugins {
        for (_, value) in plugin.table.iter_mut() {
            let toml::Value::String(path) = value else { continue };
            let is_of_kernel = ["/sys", "/proc", "/dev"].iter().any(|top| Path::new(path).starts_with(top));
            if is_of_kernel {
                *path = root.join(path.trim_start_matches('/')).to_string_lossy().into_owned();
                movable.push(plugin.name);
            }
        }
    }
    movable
}
