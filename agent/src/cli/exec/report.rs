//! The report of `wattrace exec` and `wattrace watch`: the object `wattrace.exec/1` for programs.
//! `report/text.rs` makes a summary of it for people.

mod text;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use wattrace_api::metric::{CONSUMER_CPU_TIME, CONSUMER_ENERGY};
use wattrace_api::{AttributeValue, Origin, Value};

use super::budget::{Budget, BudgetJson};
use super::interval::Parts;
use super::network::NetworkJson;
use super::process_stats::{Figures, FiguresJson};
use super::recorder::{ProcessRecord, Recording};
use super::selection::{Selection, int};
use super::static_power::{Baseline, StaticPowerJson};
use super::watched::Watched;

/// The object `wattrace.exec/1`, field by field. docs/user-guide.md explains them. A joule that has a 95 %
/// interval is followed by half its width, `…_ci95_j`. "The command" stands for whatever was selected.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Report {
    schema: &'static str,
    command: Vec<String>,
    exit_code: u8,
    /// What was watched; a command was run without it.
    #[serde(rename = "target", skip_serializing_if = "Option::is_none")]
    watched: Option<Watched>,
    origin: &'static str,
    window: WindowJson,
    /// What was measured before the command started.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Baseline>,
    /// Without `--budget` there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<BudgetJson>,
    domains: Vec<DomainJson>,
    total: Total,
    processes: Vec<ProcessJson>,
}

#[derive(Debug, Serialize)]
struct WindowJson {
    start_unix_nano: u64,
    end_unix_nano: u64,
}

/// measured = command + other + idle + unattributed.
#[derive(Debug, Serialize)]
struct DomainJson {
    domain: String,
    origin: &'static str,
    measured_j: f64,
    command_j: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_ci95_j: Option<f64>,
    other_j: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_ci95_j: Option<f64>,
    idle_j: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ci95_j: Option<f64>,
    unattributed_j: f64,
    /// What the domain draws at no load, and how well that is known.
    #[serde(rename = "static")]
    static_power: StaticPowerJson,
    #[serde(skip)]
    counts_in_totals: bool,
    /// What the intervals of processes are made of.
    #[serde(skip)]
    parts: Parts,
}

#[derive(Debug, Serialize)]
struct Total {
    processes: usize,
    cpu_time_s: f64,
    energy_j: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    energy_ci95_j: Option<f64>,
    /// What the processes used that have ended.
    #[serde(flatten)]
    figures: Option<FiguresJson>,
    /// With `plugins.context.network`.
    #[serde(skip_serializing_if = "Option::is_none")]
    network_bytes: Option<NetworkJson>,
}

#[derive(Debug, Serialize)]
struct ProcessJson {
    pid: i64,
    ppid: i64,
    comm: String,
    exe: String,
    start_unix_nano: u64,
    end_unix_nano: Option<u64>,
    exit_code: Option<i64>,
    cpu_time_s: f64,
    energy_j: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    energy_ci95_j: BTreeMap<String, f64>,
    #[serde(flatten)]
    figures: Option<FiguresJson>,
    /// With `plugins.context.memory_of`.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_pss_bytes: Option<u64>,
    /// With `plugins.sched.threads`. The process includes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    threads: Vec<ThreadJson>,
}

#[derive(Debug, Serialize)]
struct ThreadJson {
    tid: i64,
    comm: String,
    cpu_time_s: f64,
    energy_j: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    energy_ci95_j: BTreeMap<String, f64>,
}

fn joules(microjoules: u64) -> f64 {
    CONSUMER_ENERGY.in_units(Value::of_steps(microjoules))
}

fn seconds(nanoseconds: u64) -> f64 {
    CONSUMER_CPU_TIME.in_units(Value::of_steps(nanoseconds))
}

impl DomainJson {
    fn new(recording: &Recording, at: usize, selected: &Selection) -> Self {
        let d = &recording.domains[at];
        let (mut all, mut of_command) = (0, 0);
        let (mut command, mut other) = (Vec::new(), Vec::new());
        for (number, p) in recording.processes.iter().enumerate().filter(|(_, p)| !p.is_thread()) {
            let microjoules = p.energy.get(at).copied().unwrap_or(0);
            all += microjoules;
            match selected.contains(number) {
                true => {
                    of_command += microjoules;
                    command.push(p.in_domain(at));
                }
                false => other.push(p.in_domain(at)),
            }
        }
        let processes = command.iter().chain(&other).map(|(_, energy, half_width)| (*energy, *half_width));
        let parts = Parts::new(d.idle_interval().unwrap_or(0.0), processes);
        let interval = |sum: Vec<_>| d.idle_interval().map(|_| parts.of_sum(sum.into_iter()));
        Self {
            domain: d.domain.name.clone(),
            origin: d.domain.origin.as_str(),
            measured_j: joules(d.measured),
            command_j: joules(of_command),
            command_ci95_j: interval(command),
            other_j: joules(all - of_command + d.other),
            other_ci95_j: interval(other),
            idle_j: joules(d.idle),
            idle_ci95_j: d.idle_interval(),
            unattributed_j: joules(d.unattributed),
            static_power: d.static_power.into(),
            counts_in_totals: d.counts_in_totals,
            parts,
        }
    }
}

impl ProcessRecord {
    /// Its program, its energy in the domain at `at`, and half the width of the interval of it, J.
    fn in_domain(&self, at: usize) -> (String, f64, f64) {
        let program = self.consumer.attribute("process.executable.path").map(|path| path.to_string());
        let microjoules = self.energy.get(at).copied().unwrap_or(0);
        let half_width = self.uncertainty.get(at).copied().unwrap_or(0.0);
        (program.unwrap_or_default(), joules(microjoules), half_width)
    }
}

impl Report {
    /// The report on a command, from what was recorded of the processes that are selected: its own.
    pub(super) fn new(
        command: &[String],
        exit_code: u8,
        window: Range<u64>,
        selected: &Selection,
        recording: &Recording,
    ) -> Self {
        let of_domain = |at| DomainJson::new(recording, at, selected);
        let domains: Vec<DomainJson> = (0..recording.domains.len()).map(of_domain).collect();
        let counted = domains.iter().filter(|d| d.counts_in_totals);
        let intervals: Option<Vec<f64>> = counted.map(|d| d.command_ci95_j).collect();
        let intervals = intervals.filter(|intervals| !intervals.is_empty());
        let record = |at: usize| &recording.processes[at];
        let counted_domains = || (0..domains.len()).filter(|&at| domains[at].counts_in_totals);
        let total_energy = (selected.processes.iter())
            .map(|&p| counted_domains().map(|at| record(p).energy.get(at).copied().unwrap_or(0)).sum::<u64>())
            .sum();
        let cpu_time = selected.processes.iter().map(|&p| record(p).cpu_time).sum();
        let figures = selected.processes.iter().filter_map(|&p| record(p).figures.as_deref());
        let name = |at: usize| recording.domains[at].domain.name.clone();
        let energy = |p: &ProcessRecord| {
            let by_domain = p.energy.iter().enumerate();
            by_domain.map(|(at, &microjoules)| (name(at), joules(microjoules))).collect()
        };
        let interval = |p: &ProcessRecord| {
            let with = (0..p.energy.len()).filter(|&at| domains[at].idle_ci95_j.is_some());
            with.map(|at| (name(at), domains[at].parts.of_sum([p.in_domain(at)].into_iter()))).collect()
        };
        Self {
            schema: "wattrace.exec/1",
            command: command.to_vec(),
            exit_code,
            watched: None,
            // The least certain one.
            origin: recording.domains.iter().map(|d| d.domain.origin).max().map_or("none", Origin::as_str),
            window: WindowJson { start_unix_nano: window.start, end_unix_nano: window.end },
            baseline: recording.baseline,
            budget: None,
            total: Total {
                processes: selected.processes.len(),
                cpu_time_s: seconds(cpu_time),
                energy_j: joules(total_energy),
                energy_ci95_j: intervals.map(|all| all.into_iter().fold(0.0, f64::hypot)),
                figures: Figures::sum(figures).map(|sum| FiguresJson::from(&sum)),
                network_bytes: recording.network.as_ref().map(NetworkJson::from),
            },
            processes: (selected.processes.iter())
                .map(|&p| {
                    let of = |at: usize| (record(at), energy(record(at)), interval(record(at)));
                    let threads = selected.threads_of(p).iter().map(|&t| thread(of(t))).collect();
                    ProcessJson { threads, ..process(of(p)) }
                })
                .collect(),
            domains,
        }
    }

    /// The report on something that was watched for a while. `exit_code`: that of its process, if it has one
    /// that ended.
    pub(in crate::cli) fn on_watched(
        watched: Watched,
        exit_code: u8,
        window: Range<u64>,
        selected: &Selection,
        recording: &Recording,
    ) -> Self {
        let mut report = Self::new(&[], exit_code, window, selected, recording);
        // Those of a command's cgroup, and nothing was started.
        report.total.network_bytes = None;
        Self { watched: Some(watched), ..report }
    }

    /// Adds what became of the command's budget. Returns whether it was used up.
    pub(super) fn add_budget(&mut self, budget: Budget) -> bool {
        self.budget.insert(budget.into_report(self.total.energy_j)).is_reached()
    }
}

/// What was recorded of a process, with its energy and half widths by domain.
type Recorded<'a> = (&'a ProcessRecord, BTreeMap<String, f64>, BTreeMap<String, f64>);

fn process((p, energy_j, energy_ci95_j): Recorded<'_>) -> ProcessJson {
    let consumer = &p.consumer;
    let text = |key| consumer.attribute(key).map(|v| v.to_string()).unwrap_or_default();
    ProcessJson {
        pid: int(consumer, "process.pid"),
        ppid: int(consumer, "process.parent_pid"),
        comm: text("wattrace.process.comm"),
        exe: text("process.executable.path"),
        start_unix_nano: consumer.identity().start_unix_nano,
        end_unix_nano: consumer.end_unix_nano(),
        exit_code: match consumer.attribute("process.exit.code") {
            Some(AttributeValue::Int(code)) => Some(code),
            _ => None,
        },
        cpu_time_s: seconds(p.cpu_time),
        energy_j,
        energy_ci95_j,
        figures: p.figures.as_deref().map(FiguresJson::from),
        peak_pss_bytes: Some(p.peak_pss).filter(|&bytes| bytes > 0),
        threads: Vec::new(),
    }
}

fn thread((t, energy_j, energy_ci95_j): Recorded<'_>) -> ThreadJson {
    ThreadJson {
        tid: t.consumer.identity().id.parse().unwrap_or_default(),
        comm: t.consumer.attribute("thread.name").map(|v| v.to_string()).unwrap_or_default(),
        cpu_time_s: seconds(t.cpu_time),
        energy_j,
        energy_ci95_j,
    }
}
