//! The keys of `[plugins.simulator]`, and the schedule that they describe.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

use crate::machine::Machine;
use crate::mix::Mix;
use crate::schedule::{Phase, Process, Schedule, Thread};

/// `[plugins.simulator]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatorConfig {
    /// What runs: "real", this machine's own processes, metered by constant powers; or "script", `threads` on
    /// a simulated `machine`.
    pub schedule: ScheduleKind,
    /// With "real": power of a package, W.
    pub idle_watts: f64,
    /// With "real": additional power of each busy CPU, W.
    pub busy_watts: f64,
    /// With "script": time between readings, from 1 ms up.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// With "script": the seed of everything random.
    pub seed: u64,
    /// With "script": whether cycles, instructions and cache misses are counted.
    pub counters: bool,
    /// With "script": a directory for a copy of the machine in the form of /sys. Empty: none.
    pub sysfs: PathBuf,
    /// With "script": the machine.
    pub machine: Machine,
    /// With "script": the threads. Those with the same `process` belong to one process.
    pub threads: Vec<ThreadConfig>,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// This machine's own processes.
    Real,
    /// A script.
    Script,
}

/// A thread of the script.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThreadConfig {
    /// Name of its process.
    pub process: String,
    /// Number of such processes, which are named NAME-1, NAME-2, ….
    pub copies: u32,
    /// Time from the start of one of them to that of the next.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// The CPUs that it may run on. Empty: all.
    pub cpus: Vec<usize>,
    /// When it starts.
    #[serde(with = "humantime_serde")]
    pub start: Duration,
    /// How long it lives. "0s": until its rounds are done.
    #[serde(with = "humantime_serde")]
    pub lives: Duration,
    /// CPU time of a round.
    #[serde(with = "humantime_serde")]
    pub run: Duration,
    /// Sleep in a round.
    #[serde(with = "humantime_serde")]
    pub sleep: Duration,
    /// How much both vary, as a part of themselves.
    pub jitter: f64,
    /// Rounds after which it ends. 0: it does not end.
    pub rounds: u64,
    /// What it executes: "integer", "branchy", "float", "vector", "stream", "chase".
    pub mix: Mix,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            schedule: ScheduleKind::Real,
            idle_watts: 10.0,
            busy_watts: 20.0,
            interval: Duration::from_secs(1),
            seed: 1,
            counters: true,
            sysfs: PathBuf::new(),
            machine: Machine::default(),
            threads: Vec::new(),
        }
    }
}

impl Default for ThreadConfig {
    fn default() -> Self {
        Self {
            process: String::new(),
            copies: 1,
            every: Duration::ZERO,
            cpus: Vec::new(),
            start: Duration::ZERO,
            lives: Duration::ZERO,
            run: Duration::from_millis(10),
            sleep: Duration::ZERO,
            jitter: 0.0,
            rounds: 0,
            mix: Mix::Integer,
        }
    }
}

/// Processes of a script: limits what a typing error can ask for.
const MAX_PROCESSES: usize = 100_000;

impl SimulatorConfig {
    /// The schedule that the keys describe, if they are valid.
    pub(crate) fn script(&self) -> Result<Schedule, Error> {
        let wrong = |message: String| Err(Error::fatal(format!("plugins.simulator.{message}")));
        for (key, watts) in [("idle_watts", self.idle_watts), ("busy_watts", self.busy_watts)] {
            if !(0.0..=1e6).contains(&watts) {
                return wrong(format!("{key} is {watts}: it must be from 0 to 1000000"));
            }
        }
        if self.schedule == ScheduleKind::Real {
            return Ok(Schedule::default());
        }
        if self.interval < Duration::from_millis(1) {
            return wrong(format!("interval is {:?}: it must be at least 1ms", self.interval));
        }
        if self.threads.is_empty() {
            return wrong(
                "threads is empty: say what runs, as in \
                 threads = [{ process = \"one\", run = \"6ms\", sleep = \"4ms\" }]"
                    .to_owned(),
            );
        }
        let mut schedule = Schedule::default();
        for thread in &self.threads {
            if thread.process.is_empty() {
                return wrong("threads: one has no process: name its process".to_owned());
            }
            for copy in 0..thread.copies {
                schedule.add(thread, copy);
                if schedule.processes.len() > MAX_PROCESSES {
                    return wrong(format!("threads make more than {MAX_PROCESSES} processes"));
                }
            }
        }
        if let Err(message) = self.machine.check() {
            return wrong(format!("machine.{message}"));
        }
        match schedule.check(&self.machine) {
            Ok(()) => Ok(schedule),
            Err(message) => wrong(format!("threads: {message}")),
        }
    }
}

impl Schedule {
    /// Adds a thread to its process, which the first thread creates.
    fn add(&mut self, config: &ThreadConfig, copy: u32) {
        let single = config.copies == 1;
        let name = if single { config.process.clone() } else { format!("{}-{}", config.process, copy + 1) };
        let start = config.start + config.every * copy;
        let stop = if config.lives.is_zero() { Duration::ZERO } else { start + config.lives };
        let phase = Phase { run: config.run, sleep: config.sleep, jitter: config.jitter, mix: config.mix };
        let rounds = config.rounds;
        let thread = Thread { cpus: config.cpus.clone(), start, stop, rounds, phases: vec![phase] };
        match self.processes.iter_mut().find(|process| process.name == name) {
            Some(process) => process.threads.push(thread),
            None => self.processes.push(Process { name, threads: vec![thread] }),
        }
    }
}
