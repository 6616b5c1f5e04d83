//! The report of `wattrace exec`: the object `wattrace.exec/1` for programs, and a summary for people.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use serde::Serialize;
use wattrace_api::metric::{CONSUMER_CPU_TIME, CONSUMER_ENERGY};
use wattrace_api::text::printable;
use wattrace_api::{AttributeValue, Origin, Value};

use super::budget::{Budget, BudgetJson};
use super::interval::Parts;
use super::process_stats::{Figures, FiguresJson};
use super::recorder::{ProcessRecord, Recording};
use super::static_power::{Baseline, StaticPowerJson};
use super::tree::{Tree, int};
use crate::cli::table::{aligned, shortened};

/// The object `wattrace.exec/1`, field by field. docs/user-guide.md explains them. A joule that has a 95 %
/// interval is followed by half its width, `…_ci95_j`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: &'static str,
    command: Vec<String>,
    exit_code: u8,
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
    fn new(recording: &Recording, at: usize, tree: &Tree) -> Self {
        let d = &recording.domains[at];
        let (mut all, mut of_command) = (0, 0);
        let (mut command, mut other) = (Vec::new(), Vec::new());
        for (number, p) in recording.processes.iter().enumerate().filter(|(_, p)| !p.is_thread()) {
            let microjoules = p.energy.get(at).copied().unwrap_or(0);
            all += microjoules;
            match tree.contains(number) {
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
            other_j: joules(all - of_command),
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
    /// The report on the processes in `tree`, from what was recorded.
    pub(super) fn new(
        command: &[String],
        exit_code: u8,
        window: Range<u64>,
        tree: &Tree,
        recording: &Recording,
    ) -> Self {
        let of_domain = |at| DomainJson::new(recording, at, tree);
        let domains: Vec<DomainJson> = (0..recording.domains.len()).map(of_domain).collect();
        let counted = domains.iter().filter(|d| d.counts_in_totals);
        let intervals: Option<Vec<f64>> = counted.map(|d| d.command_ci95_j).collect();
        let intervals = intervals.filter(|intervals| !intervals.is_empty());
        let record = |at: usize| &recording.processes[at];
        let counted_domains = || (0..domains.len()).filter(|&at| domains[at].counts_in_totals);
        let total_energy = (tree.processes.iter())
            .map(|&p| counted_domains().map(|at| record(p).energy.get(at).copied().unwrap_or(0)).sum::<u64>())
            .sum();
        let cpu_time = tree.processes.iter().map(|&p| record(p).cpu_time).sum();
        let figures = tree.processes.iter().filter_map(|&p| record(p).figures.as_deref());
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
            // The least certain one.
            origin: recording.domains.iter().map(|d| d.domain.origin).max().map_or("none", Origin::as_str),
            window: WindowJson { start_unix_nano: window.start, end_unix_nano: window.end },
            baseline: recording.baseline,
            budget: None,
            total: Total {
                processes: tree.processes.len(),
                cpu_time_s: seconds(cpu_time),
                energy_j: joules(total_energy),
                energy_ci95_j: intervals.map(|all| all.into_iter().fold(0.0, f64::hypot)),
                figures: Figures::sum(figures).map(|sum| FiguresJson::from(&sum)),
            },
            processes: (tree.processes.iter())
                .map(|&p| {
                    let of = |at: usize| (record(at), energy(record(at)), interval(record(at)));
                    let threads = tree.threads_of(p).iter().map(|&t| thread(of(t))).collect();
                    ProcessJson { threads, ..process(of(p)) }
                })
                .collect(),
            domains,
        }
    }

    /// Adds what became of the command's budget. Returns whether it was used up.
    pub(super) fn add_budget(&mut self, budget: Budget) -> bool {
        self.budget.insert(budget.into_report(self.total.energy_j)).is_reached()
    }

    /// A summary: the energy of each domain, and the command's processes by name.
    pub(super) fn for_people(&self) -> String {
        let wall = (self.window.end_unix_nano - self.window.start_unix_nano) as f64 * 1e-9;
        let mut text = format!(
            "\nwattrace: `{}` exited with {} after {wall:.3} s\n\n",
            shortened(&printable(&self.command.join(" ")), MAX_COMMAND),
            self.exit_code
        );
        let total = &self.total;
        let plural = if total.processes == 1 { "process" } else { "processes" };
        text += &format!("  {} {plural}, {:.3} s of CPU time", total.processes, total.cpu_time_s);
        match self.origin {
            "none" => text += ", origin none: no meter and no estimate here, `wattrace doctor` says why\n",
            origin => {
                text += &format!(
                    ", {} ({origin}), {:.2} W on average\n\n",
                    with_interval(total.energy_j, total.energy_ci95_j, " J"),
                    total.energy_j / wall
                );
                let header =
                    ["domain", "measured J", "= command", "+ other", "+ idle", "+ unattributed", "origin"];
                let mut rows = vec![header.map(String::from)];
                for d in &self.domains {
                    let j = |v: f64| format!("{v:.3}");
                    rows.push([
                        d.domain.clone(),
                        j(d.measured_j),
                        with_interval(d.command_j, d.command_ci95_j, ""),
                        j(d.other_j),
                        j(d.idle_j),
                        j(d.unattributed_j),
                        d.origin.into(),
                    ]);
                }
                text += &aligned(&rows, &[0, 6], "  ");
                text += &self.static_power();
            }
        }
        if let Some(budget) = &self.budget {
            text += &format!("\n{}", budget.for_people(self.window.start_unix_nano));
        }
        text += &self.total.figures.map_or(String::new(), |figures| format!("\n{}", figures.for_people()));
        text += "\n";
        text += &self.by_name();
        let living = self.processes.iter().filter(|p| p.end_unix_nano.is_none()).count();
        if living > 0 {
            let (subject, verb) =
                if living == 1 { ("process", "outlives") } else { ("processes", "outlive") };
            text += &format!("\n  {living} {subject} {verb} the command, counted until its end\n");
        }
        text
    }

    /// How well it is known what the domains draw at no load: one line.
    fn static_power(&self) -> String {
        let counted = self.domains.iter().filter(|d| d.counts_in_totals);
        let of = |d: &DomainJson| format!("{} {}", d.domain, d.static_power.for_people());
        let mut known: Vec<String> = counted.map(of).collect();
        let rest = known.len().saturating_sub(MAX_STATIC);
        known.truncate(MAX_STATIC);
        if rest > 0 {
            known.push(format!("and {rest} more"));
        }
        let baseline = self.baseline.map(|b| format!("; {}", b.for_people())).unwrap_or_default();
        format!("  at no load: {}{baseline}\n", known.join(", "))
    }

    /// The sums over a program's processes.
    fn program(&self, processes: Vec<&ProcessJson>) -> Total {
        let mut total = Total {
            processes: processes.len(),
            cpu_time_s: processes.iter().map(|p| p.cpu_time_s).sum(),
            energy_j: 0.0,
            energy_ci95_j: None,
            figures: None,
        };
        for d in self.domains.iter().filter(|d| d.counts_in_totals) {
            let of = |joules: &BTreeMap<String, f64>| joules.get(&d.domain).copied().unwrap_or(0.0);
            let parts = || processes.iter().map(|p| ((), of(&p.energy_j), of(&p.energy_ci95_j)));
            total.energy_j += parts().map(|(_, joules, _)| joules).sum::<f64>();
            if d.idle_ci95_j.is_some() {
                let interval = d.parts.of_sum(parts());
                total.energy_ci95_j = Some(total.energy_ci95_j.unwrap_or(0.0).hypot(interval));
            }
        }
        total
    }

    fn by_name(&self) -> String {
        let mut groups: HashMap<&str, Vec<&ProcessJson>> = HashMap::new();
        for p in &self.processes {
            let name = p.exe.rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or(&p.comm);
            groups.entry(name).or_default().push(p);
        }
        let of_program = |(name, processes)| (name, self.program(processes));
        let mut groups: Vec<(&str, Total)> = groups.into_iter().map(of_program).collect();
        let order = |total: &Total| (total.energy_j, total.cpu_time_s);
        groups.sort_by(|(_, a), (_, b)| order(b).partial_cmp(&order(a)).unwrap_or(Ordering::Equal));
        let rest = groups.len().saturating_sub(MAX_PROGRAMS);
        let joules =
            if self.origin == "none" { "J (origin none)".into() } else { format!("J ({})", self.origin) };
        let mut rows = vec![["program".into(), "processes".into(), "CPU s".into(), joules]];
        for (name, total) in groups.iter().take(MAX_PROGRAMS) {
            let name = shortened(&printable(name), MAX_NAME);
            let energy = match self.origin {
                "none" => "-".into(),
                _ => with_interval(total.energy_j, total.energy_ci95_j, ""),
            };
            rows.push([name, total.processes.to_string(), format!("{:.3}", total.cpu_time_s), energy]);
        }
        let mut text = aligned(&rows, &[0], "  ");
        if rest > 0 {
            text += &format!("  and {rest} more programs; --format json lists every process\n");
        }
        text
    }
}

/// `12.345 ± 0.040`; without an interval `12.345`.
fn with_interval(joules: f64, half_width: Option<f64>, unit: &str) -> String {
    let half_width = half_width.map(|half_width| format!(" ± {half_width:.3}")).unwrap_or_default();
    format!("{joules:.3}{unit}{half_width}")
}

/// Maximum number of domains in the line on static power.
const MAX_STATIC: usize = 4;

/// Maximum number of programs in the summary.
const MAX_PROGRAMS: usize = 20;

/// Longer names and command lines are cut, in characters.
const MAX_NAME: usize = 40;
const MAX_COMMAND: usize = 60;

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
