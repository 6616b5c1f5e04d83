//! A simulated machine for tests: its truth is known, and it sends the messages that an agent would send.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kind::Kind;
use crate::message::{
    ConsumerDescription, DomainDescription, Message, Points, Quantity, Root, SeriesDescription,
};
use crate::model::Model;

const SECOND: u64 = 1_000_000_000;
/// 2026-11-27 14:00:00 UTC.
pub const BEGIN: u64 = 1_795_788_000 * SECOND;

/// Power without load, of a busy CPU, and what nobody knows the user of, in milliwatts (µJ per ms).
const IDLE: u64 = 12_000;
const BUSY: u64 = 8_000;
const UNKNOWN: u64 = 400;
const DRAM_IDLE: u64 = 1_500;
const DRAM_BUSY: u64 = 700;
const GPU_IDLE: u64 = 9_000;

/// How the load of a process changes from second to second, in percent.
const WAVES: [u64; 8] = [100, 120, 150, 130, 100, 70, 50, 80];

/// A process of the machine.
#[derive(Clone, Debug)]
pub struct Process {
    /// What people call it.
    pub name: String,
    /// Its pid.
    pub pid: u32,
    /// Whose it is.
    pub user: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Its container; empty: none.
    pub container: &'static str,
    /// Thousandths of a CPU, on average.
    pub load: u64,
    /// Power of the GPU that it uses, mW.
    pub gpu: u64,
    /// The seconds in which it lives.
    pub lives: std::ops::Range<u64>,
}

/// A counter that is sent.
#[derive(Clone, Debug, Default)]
struct Counter {
    id: u32,
    value: u64,
    is_described: bool,
}

/// The counters of one consumer.
#[derive(Clone, Debug, Default)]
struct Counters {
    number: u64,
    is_described: bool,
    cpu: Counter,
    gpu_time: Counter,
    /// By domain.
    energy: [Counter; 3],
    /// Half the width of the interval of the first.
    half_width: Counter,
}

/// A machine with a package, its memory and a GPU.
#[derive(Clone, Debug)]
pub struct Machine {
    processes: Vec<Process>,
    counters: BTreeMap<(Kind, String), Counters>,
    meters: [Counter; 3],
    second: u64,
    next_id: u32,
    next_number: u64,
    model: Model,
    /// Half widths of the intervals are sent as this part of the energy, in thousandths.
    error: u64,
}

const DOMAINS: [&str; 3] = ["package-0", "dram-0", "gpu-0"];
const CPUS: u64 = 8;

impl Machine {
    /// A machine that runs `processes`.
    pub fn new(processes: Vec<Process>) -> Self {
        Self {
            processes,
            counters: BTreeMap::new(),
            meters: Default::default(),
            second: 0,
            next_id: 0,
            next_number: 0,
            model: Model::new(Duration::from_secs(1)),
            error: 30,
        }
    }

    /// The machine of a person who trains a model, compiles, and runs services.
    pub fn office() -> Self {
        let process = |name: &str, pid, user, unit, load| Process {
            name: name.to_owned(),
            pid,
            user,
            unit,
            container: "",
            load,
            gpu: 0,
            lives: 0..u64::MAX,
        };
        let mut all = vec![
            process("python3 train.py", 4211, "ada", "session-3.scope", 1900),
            process("rustc", 5120, "ada", "session-3.scope", 970),
            process("rustc", 5123, "ada", "session-3.scope", 640),
            process("cargo", 5101, "ada", "session-3.scope", 120),
            process("firefox", 3977, "ada", "session-3.scope", 310),
            process("postgres", 911, "root", "postgresql.service", 85),
            process("python3 -m http.server", 6001, "ada", "session-3.scope", 12),
            process("nginx", 7001, "root", "docker.service", 44),
            process("java org.example.Main", 7002, "root", "docker.service", 380),
            process("sshd", 801, "root", "ssh.service", 2),
            process("systemd-journald", 402, "root", "systemd-journald.service", 6),
            process("kworker/0:1H-events", 61, "root", "", 3),
        ];
        all[0].gpu = 140_000;
        all[7].container = "web";
        all[8].container = "api";
        Self::new(all)
    }

    /// A machine with so many processes, all of which run in every second.
    pub fn with_processes(count: u32) -> Self {
        let process = |n: u32| Process {
            name: format!("worker-{}", n % 97),
            pid: 1000 + n,
            user: if n.is_multiple_of(3) { "root" } else { "ada" },
            unit: "load.service",
            container: "",
            load: 1 + u64::from(n % 7),
            gpu: 0,
            lives: 0..u64::MAX,
        };
        Self::new((0..count).map(process).collect())
    }

    /// Adds a process.
    pub fn add(&mut self, process: Process) {
        self.processes.push(process);
    }

    /// What the messages so far have built up.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Runs for so many seconds, and sends its messages to its model.
    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            for message in self.second() {
                self.model.apply(&message);
            }
        }
    }

    /// The messages of the next second: the meters, then who used what.
    pub fn second(&mut self) -> [Message; 2] {
        let (start, end) = (BEGIN + self.second * SECOND, BEGIN + (self.second + 1) * SECOND);
        let (mut meters, mut usage) = (Message::default(), Message::default());
        let mut points = Points::of(start, end);
        let living: Vec<_> =
            self.processes.iter().filter(|p| p.lives.contains(&self.second)).cloned().collect();
        let mut total = [0; 3];
        let mut busy = 0;
        for process in &living {
            let wave = WAVES[((self.second + u64::from(process.pid)) % 8) as usize];
            let nanos = process.load * wave * SECOND / 100_000;
            let gpu = process.gpu * wave * 10;
            let energy = [nanos * BUSY / 1_000_000, nanos * DRAM_BUSY / 1_000_000, gpu];
            busy += nanos;
            for (total, part) in total.iter_mut().zip(energy) {
                *total += part;
            }
            for (kind, id) in groups_of(process) {
                let description = describe(kind, &id, process);
                let gpu_nanos = if gpu > 0 { SECOND * wave / 160 } else { 0 };
                self.count(description, [nanos, gpu_nanos], energy, &mut usage, &mut points);
            }
        }
        let idle = [IDLE * 1000, DRAM_IDLE * 1000, GPU_IDLE * 1000];
        let unknown = [UNKNOWN * 1000, 0, 0];
        for (kind, energy) in [(Kind::Idle, idle), (Kind::Unattributed, unknown)] {
            let nanos = if kind == Kind::Idle { (CPUS * SECOND).saturating_sub(busy) } else { 0 };
            let closing = Process { name: kind.as_str().to_owned(), ..nobody() };
            let description = describe(kind, "", &closing);
            self.count(description, [nanos, 0], energy, &mut usage, &mut points);
        }
        usage.windows.push(points);
        self.end_processes(&mut usage);
        let mut readings = Points::of(start, end);
        for (domain, name) in DOMAINS.into_iter().enumerate() {
            if !self.meters[domain].is_described {
                let (origin, name) = ("simulated".to_owned(), name.to_owned());
                meters.domains.push(DomainDescription { name: name.clone(), origin, counted: true });
                self.next_id += 1;
                let id = self.next_id;
                self.meters[domain] = Counter { id, value: 0, is_described: true };
                let (consumer, quantity) = (None, Quantity::Meter);
                let series =
                    SeriesDescription { id, quantity, consumer, domain: Some(name), start_unix_nano: BEGIN };
                meters.series.push(series);
            }
            let meter = &mut self.meters[domain];
            meter.value += total[domain] + idle[domain] + unknown[domain];
            readings.count(meter.id, meter.value);
        }
        meters.windows.push(readings);
        self.second += 1;
        [meters, usage]
    }

    /// Counts what a consumer used in a second.
    fn count(
        &mut self,
        mut description: ConsumerDescription,
        nanos: [u64; 2],
        energy: [u64; 3],
        message: &mut Message,
        points: &mut Points,
    ) {
        let start_unix_nano = description.start_unix_nano.max(BEGIN);
        let kind = description.kind;
        let counters = self.counters.entry((kind, description.id.clone())).or_default();
        if !counters.is_described {
            self.next_number += 1;
            (counters.number, counters.is_described) = (self.next_number, true);
            description.number = counters.number;
            message.consumers.push(description);
        }
        let consumer = Some(counters.number);
        let mut send = |counter: &mut Counter, grown: u64, quantity, domain: Option<&str>| {
            if !std::mem::replace(&mut counter.is_described, true) {
                self.next_id += 1;
                counter.id = self.next_id;
                let domain = domain.map(str::to_owned);
                let id = counter.id;
                message.series.push(SeriesDescription { id, quantity, consumer, domain, start_unix_nano });
            }
            counter.value += grown;
            points.count(counter.id, counter.value);
        };
        send(&mut counters.cpu, nanos[0], Quantity::CpuTime, None);
        if nanos[1] > 0 {
            send(&mut counters.gpu_time, nanos[1], Quantity::GpuTime, None);
        }
        for (domain, grown) in energy.into_iter().enumerate().filter(|(_, grown)| *grown > 0) {
            send(&mut counters.energy[domain], grown, Quantity::Energy, Some(DOMAINS[domain]));
        }
        if kind == Kind::Process && energy[0] > 0 {
            let (half_width, gauge) = (counters.energy[0].value * self.error, &mut counters.half_width);
            if !std::mem::replace(&mut gauge.is_described, true) {
                self.next_id += 1;
                gauge.id = self.next_id;
                let (id, domain) = (gauge.id, Some(DOMAINS[0].to_owned()));
                let quantity = Quantity::Uncertainty;
                message.series.push(SeriesDescription { id, quantity, consumer, domain, start_unix_nano });
            }
            points.gauges.push((gauge.id, half_width as f64 / 1e9));
        }
    }

    /// Ends the series of the processes that live no longer.
    fn end_processes(&mut self, message: &mut Message) {
        for process in self.processes.iter().filter(|process| process.lives.end == self.second + 1) {
            let key = (Kind::Process, process.pid.to_string());
            let Some(counters) = self.counters.remove(&key) else { continue };
            let all = counters.energy.iter();
            let all = all.chain([&counters.cpu, &counters.gpu_time, &counters.half_width]);
            message.ended.extend(all.filter(|counter| counter.is_described).map(|counter| counter.id));
        }
    }
}

fn nobody() -> Process {
    let (name, user) = (String::new(), "");
    Process { name, pid: 0, user, unit: "", container: "", load: 0, gpu: 0, lives: 0..u64::MAX }
}

/// The process, and the groups that it is in. Every level has all processes, as the plugin `groups` has them.
fn groups_of(process: &Process) -> Vec<(Kind, String)> {
    vec![
        (Kind::Process, process.pid.to_string()),
        (Kind::User, process.user.to_owned()),
        (Kind::Unit, process.unit.to_owned()),
        (Kind::Container, process.container.to_owned()),
    ]
}

fn describe(kind: Kind, id: &str, process: &Process) -> ConsumerDescription {
    let is_process = kind == Kind::Process;
    let mut attributes = BTreeMap::new();
    let mut add = |key: &str, value: &str| _ = attributes.insert(key.to_owned(), value.to_owned());
    if is_process {
        add("process.pid", id);
        add("process.owner", process.user);
        add("process.linux.cgroup", &format!("/system.slice/{}", process.unit));
        add("systemd.unit", process.unit);
        add("container.id", process.container);
    }
    let root = is_process.then(|| Root {
        id: "1000".to_owned(),
        start_unix_nano: BEGIN - 7200 * SECOND,
        name: if process.user == "ada" { "gnome-shell" } else { "systemd-services" }.to_owned(),
    });
    let root = root.map(|root| Root { id: process.user.len().to_string(), ..root });
    let start_unix_nano = if process.lives.start > 0 {
        BEGIN + process.lives.start * SECOND
    } else {
        BEGIN - 600 * SECOND + u64::from(process.pid)
    };
    let name = if is_process || kind.is_closing() { process.name.clone() } else { id.to_owned() };
    let start_unix_nano = if is_process { start_unix_nano } else { 0 };
    ConsumerDescription { number: 0, kind, id: id.to_owned(), start_unix_nano, name, root, attributes }
}
