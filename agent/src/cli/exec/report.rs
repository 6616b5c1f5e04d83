//! The report of `wattrace exec`: the object `wattrace.exec/1` for programs, and a summary for people.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use serde::Serialize;
use wattrace_api::metric::{CONSUMER_CPU_TIME, CONSUMER_ENERGY};
use wattrace_api::text::printable;
use wattrace_api::{AttributeValue, Origin, Value};

use super::recorder::{ProcessRecord, Recording};
use super::tree::{Tree, int};
use crate::cli::table::{aligned, shortened};

/// The object `wattrace.exec/1`, field by field. docs/user-guide.md explains them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: &'static str,
    command: Vec<String>,
    exit_code: u8,
    origin: &'static str,
    window: WindowJson,
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
    other_j: f64,
    idle_j: f64,
    unattributed_j: f64,
    #[serde(skip)]
    counts_in_totals: bool,
}

#[derive(Debug, Serialize)]
struct Total {
    processes: usize,
    cpu_time_s: f64,
    energy_j: f64,
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
}

fn joules(microjoules: u64) -> f64 {
    CONSUMER_ENERGY.in_units(Value::of_steps(microjoules))
}

fn seconds(nanoseconds: u64) -> f64 {
    CONSUMER_CPU_TIME.in_units(Value::of_steps(nanoseconds))
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
        let energy_of = |p: &ProcessRecord, domain: usize| p.energy.get(domain).copied().unwrap_or(0);
        let (mut domains, mut total_energy) = (Vec::new(), 0);
        for (at, d) in recording.domains.iter().enumerate() {
            let all: u64 =
                recording.processes.iter().filter(|p| !p.is_thread()).map(|p| energy_of(p, at)).sum();
            let of_command: u64 =
                tree.processes.iter().map(|&p| energy_of(&recording.processes[p], at)).sum();
            if d.counts_in_totals {
                total_energy += of_command;
            }
            domains.push(DomainJson {
                domain: d.domain.name.clone(),
                origin: d.domain.origin.as_str(),
                measured_j: joules(d.measured),
                command_j: joules(of_command),
                other_j: joules(all - of_command),
                idle_j: joules(d.idle),
                unattributed_j: joules(d.unattributed),
                counts_in_totals: d.counts_in_totals,
            });
        }
        let record = |at: usize| &recording.processes[at];
        let cpu_time = tree.processes.iter().map(|&p| record(p).cpu_time).sum();
        let name = |at: usize| recording.domains[at].domain.name.clone();
        let energy = |p: &ProcessRecord| {
            let by_domain = p.energy.iter().enumerate();
            by_domain.map(|(at, &microjoules)| (name(at), joules(microjoules))).collect()
        };
        Self {
            schema: "wattrace.exec/1",
            command: command.to_vec(),
            exit_code,
            // The least certain one.
            origin: recording.domains.iter().map(|d| d.domain.origin).max().map_or("none", Origin::as_str),
            window: WindowJson { start_unix_nano: window.start, end_unix_nano: window.end },
            domains,
            total: Total {
                processes: tree.processes.len(),
                cpu_time_s: seconds(cpu_time),
                energy_j: joules(total_energy),
            },
            processes: (tree.processes.iter())
                .map(|&p| {
                    let threads = tree.threads_of(p).iter().map(|&t| thread(record(t), energy(record(t))));
                    ProcessJson { threads: threads.collect(), ..process(record(p), energy(record(p))) }
                })
                .collect(),
        }
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
                    ", {:.3} J ({origin}), {:.2} W on average\n\n",
                    total.energy_j,
                    total.energy_j / wall
                );
                let header =
                    ["domain", "measured J", "= command", "+ other", "+ idle", "+ unattributed", "origin"];
                let mut rows = vec![header.map(String::from)];
                for d in &self.domains {
                    let j = |v: f64| format!("{v:.3}");
                    let parts = [d.measured_j, d.command_j, d.other_j, d.idle_j, d.unattributed_j].map(j);
                    let [measured, command, other, idle, unattributed] = parts;
                    rows.push([
                        d.domain.clone(),
                        measured,
                        command,
                        other,
                        idle,
                        unattributed,
                        d.origin.into(),
                    ]);
                }
                text += &aligned(&rows, &[0, 6], "  ");
            }
        }
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

    fn by_name(&self) -> String {
        let mut groups: HashMap<&str, (usize, f64, f64)> = HashMap::new();
        for p in &self.processes {
            let name = p.exe.rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or(&p.comm);
            let group = groups.entry(name).or_default();
            group.0 += 1;
            group.1 += p.cpu_time_s;
            group.2 += self
                .domains
                .iter()
                .filter(|d| d.counts_in_totals)
                .filter_map(|d| p.energy_j.get(&d.domain))
                .sum::<f64>();
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups
            .sort_by(|a, b| (b.1.2, b.1.1).partial_cmp(&(a.1.2, a.1.1)).unwrap_or(std::cmp::Ordering::Equal));
        let rest = groups.len().saturating_sub(MAX_PROGRAMS);
        let joules =
            if self.origin == "none" { "J (origin none)".into() } else { format!("J ({})", self.origin) };
        let mut rows = vec![["program".into(), "processes".into(), "CPU s".into(), joules]];
        for (name, (count, cpu, energy)) in groups.iter().take(MAX_PROGRAMS) {
            let name = shortened(&printable(name), MAX_NAME);
            let energy = if self.origin == "none" { "-".into() } else { format!("{energy:.3}") };
            rows.push([name, count.to_string(), format!("{cpu:.3}"), energy]);
        }
        let mut text = aligned(&rows, &[0], "  ");
        if rest > 0 {
            text += &format!("  and {rest} more programs; --format json lists every process\n");
        }
        text
    }
}

/// Maximum number of programs in the summary.
const MAX_PROGRAMS: usize = 20;

/// Longer names and command lines are cut, in characters.
const MAX_NAME: usize = 40;
const MAX_COMMAND: usize = 60;

fn process(p: &ProcessRecord, energy_j: BTreeMap<String, f64>) -> ProcessJson {
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
        threads: Vec::new(),
    }
}

fn thread(t: &ProcessRecord, energy_j: BTreeMap<String, f64>) -> ThreadJson {
    ThreadJson {
        tid: t.consumer.identity().id.parse().unwrap_or_default(),
        comm: t.consumer.attribute("thread.name").map(|v| v.to_string()).unwrap_or_default(),
        cpu_time_s: seconds(t.cpu_time),
        energy_j,
    }
}
