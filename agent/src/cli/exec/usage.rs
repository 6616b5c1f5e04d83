//! What one run of a command used, in the form in which runs are repeated, compared and saved: an object of
//! `runs` in `wattrace.repeat/1` and `wattrace.compare/1`. `report.rs` has the full report of a single run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wattrace_api::Origin;
use wattrace_api::Value;
use wattrace_api::metric::{CONSUMER_CPU_TIME, CONSUMER_ENERGY};

use super::child::shell_code;
use super::recorder::{ProcessRecord, Recording};
use super::static_power::{StaticPowerJson, at_no_load};
use super::tracer::Ended;

/// A run. Joules are sums over the domains that totals count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::cli) struct RunUsage {
    /// The command's, as a shell reports it.
    pub(in crate::cli) exit_code: u8,
    /// `measured`, `estimated`, `simulated` or `none`: that of the least certain domain.
    pub(in crate::cli) origin: String,
    pub(in crate::cli) start_unix_nano: u64,
    pub(in crate::cli) wall_s: f64,
    /// Of the command and its descendants.
    pub(in crate::cli) energy_j: f64,
    pub(in crate::cli) cpu_time_s: f64,
    pub(in crate::cli) processes: usize,
    /// Of the whole machine during the run: what a meter alone says.
    pub(in crate::cli) machine_j: f64,
    pub(in crate::cli) other_j: f64,
    pub(in crate::cli) idle_j: f64,
    pub(in crate::cli) unattributed_j: f64,
    /// CPU time of all other processes.
    pub(in crate::cli) other_cpu_time_s: f64,
    /// The command's processes by the name of their program.
    pub(in crate::cli) programs: BTreeMap<String, ProgramUsage>,
    /// What each domain draws at no load, as it was known after the run. Runs of earlier releases have none.
    #[serde(rename = "static", default)]
    pub(in crate::cli) static_power: BTreeMap<String, StaticPowerJson>,
}

/// A program's part of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::cli) struct ProgramUsage {
    pub(in crate::cli) processes: usize,
    pub(in crate::cli) cpu_time_s: f64,
    pub(in crate::cli) energy_j: f64,
}

impl RunUsage {
    pub(super) fn new(ended: &Ended, recording: &Recording) -> Self {
        let selected = ended.selection(recording);
        let domains: Vec<_> = recording.domains.iter().filter(|d| d.counts_in_totals).collect();
        let origin = recording.domains.iter().map(|d| d.domain.origin).max();
        let mut run = Self {
            exit_code: shell_code(ended.status),
            origin: origin.map_or("none", Origin::as_str).to_owned(),
            start_unix_nano: ended.window.start,
            wall_s: seconds(ended.window.end - ended.window.start),
            machine_j: domains.iter().map(|d| joules(d.measured)).sum(),
            idle_j: domains.iter().map(|d| joules(d.idle)).sum(),
            other_j: domains.iter().map(|d| joules(d.other)).sum(),
            unattributed_j: domains.iter().map(|d| joules(d.unattributed)).sum(),
            static_power: (domains.iter()).map(|d| (d.domain.name.clone(), d.static_power.into())).collect(),
            ..Self::default()
        };
        let energy = |p: &ProcessRecord| {
            let by_domain = p.energy.iter().zip(&recording.domains);
            joules(by_domain.filter(|(_, d)| d.counts_in_totals).map(|(microjoules, _)| microjoules).sum())
        };
        for (at, p) in recording.processes.iter().enumerate().filter(|(_, p)| !p.is_thread()) {
            let (cpu_time_s, energy_j) = (seconds(p.cpu_time), energy(p));
            if !selected.contains(at) {
                run.other_cpu_time_s += cpu_time_s;
                run.other_j += energy_j;
                continue;
            }
            run.processes += 1;
            run.cpu_time_s += cpu_time_s;
            run.energy_j += energy_j;
            let program = run.programs.entry(program_name(p)).or_default();
            program.processes += 1;
            program.cpu_time_s += cpu_time_s;
            program.energy_j += energy_j;
        }
        run
    }
}

/// How well static power was known after the last of `runs`: `at no load: …`, or an empty text.
pub(in crate::cli) fn static_power_after<'a>(runs: impl Iterator<Item = &'a RunUsage>) -> String {
    let last = runs.max_by_key(|run| run.start_unix_nano);
    let known = last.into_iter().flat_map(|run| &run.static_power);
    at_no_load(known.map(|(domain, power)| (domain.as_str(), power)))
}

/// The file name of its executable or, where that is unknown, the kernel's name.
fn program_name(p: &ProcessRecord) -> String {
    let text = |key| p.consumer.attribute(key).map(|v| v.to_string()).unwrap_or_default();
    let path = text("process.executable.path");
    match path.rsplit('/').next().filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => text("wattrace.process.comm"),
    }
}

fn joules(microjoules: u64) -> f64 {
    CONSUMER_ENERGY.in_units(Value::of_steps(microjoules))
}

fn seconds(nanoseconds: u64) -> f64 {
    CONSUMER_CPU_TIME.in_units(Value::of_steps(nanoseconds))
}
