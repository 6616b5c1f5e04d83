//! A script of what runs: processes with threads, each with the CPUs that it may use, its start and end, and
//! its phases. `scheduler.rs` decides when a thread gets a CPU.

use std::time::Duration;

use crate::machine::Machine;
use crate::mix::Mix;

/// What runs on a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// The processes, in the order of their numbers.
    pub processes: Vec<Process>,
}

/// A process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its name.
    pub name: String,
    /// Its threads. It ends with the last of them.
    pub threads: Vec<Thread>,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thread {
    /// The CPUs that it may run on; none: all.
    pub cpus: Vec<usize>,
    /// When it starts, after the simulation's start.
    pub start: Duration,
    /// When it is ended, in whatever phase. Zero: never.
    pub stop: Duration,
    /// How often it goes through its phases before it ends. 0: without end.
    pub rounds: u64,
    /// Its phases, in order.
    pub phases: Vec<Phase>,
}

/// Running, and then sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Phase {
    /// CPU time of the phase.
    pub run: Duration,
    /// Time that it sleeps after that.
    pub sleep: Duration,
    /// How much both vary from round to round, as a part of themselves, 0 to 1.
    pub jitter: f64,
    /// What it executes.
    pub mix: Mix,
}

impl Phase {
    /// `run` of `mix`, then `sleep`.
    pub fn new(mix: Mix, run: Duration, sleep: Duration) -> Self {
        Self { run, sleep, jitter: 0.0, mix }
    }

    /// `mix` without pause.
    pub fn steady(mix: Mix) -> Self {
        Self::new(mix, Duration::from_secs(1), Duration::ZERO)
    }

    /// `mix` for `part` of every 10 ms.
    pub fn duty(mix: Mix, part: f64) -> Self {
        let run = Duration::from_millis(10).mul_f64(part.clamp(0.0, 1.0));
        Self::new(mix, run, Duration::from_millis(10) - run)
    }

    /// The same, with `jitter`.
    #[must_use]
    pub fn varying(self, jitter: f64) -> Self {
        Self { jitter, ..self }
    }
}

impl Process {
    /// A process of one thread that repeats `phases` without end.
    pub fn new(name: impl Into<String>, phases: Vec<Phase>) -> Self {
        Self { name: name.into(), threads: vec![Thread { phases, ..Thread::default() }] }
    }

    /// All its threads run on `cpus` only.
    #[must_use]
    pub fn on(mut self, cpus: &[usize]) -> Self {
        self.threads.iter_mut().for_each(|thread| thread.cpus = cpus.to_vec());
        self
    }

    /// All its threads live from `start` to `stop` (zero: to the end).
    #[must_use]
    pub fn from_to(mut self, start: Duration, stop: Duration) -> Self {
        self.threads.iter_mut().for_each(|thread| (thread.start, thread.stop) = (start, stop));
        self
    }

    /// All its threads end after `rounds` of their phases.
    #[must_use]
    pub fn rounds(mut self, rounds: u64) -> Self {
        self.threads.iter_mut().for_each(|thread| thread.rounds = rounds);
        self
    }
}

impl Schedule {
    /// Checks that `machine` can run it.
    ///
    /// # Errors
    /// Which process cannot run, and why.
    pub fn check(&self, machine: &Machine) -> Result<(), String> {
        let cpus = machine.all_cpus();
        for process in &self.processes {
            let name = &process.name;
            if process.threads.is_empty() {
                return Err(format!("`{name}` has no thread"));
            }
            for thread in &process.threads {
                if let Some(cpu) = thread.cpus.iter().find(|&&cpu| cpu >= cpus) {
                    return Err(format!("`{name}` runs on CPU {cpu}: the machine has 0 to {}", cpus - 1));
                }
                if thread.phases.iter().all(|phase| phase.run.is_zero()) {
                    return Err(format!("`{name}` never runs: give it a phase with a run above 0"));
                }
                if thread.phases.iter().any(|phase| !(0.0..=1.0).contains(&phase.jitter)) {
                    return Err(format!("`{name}` has a jitter that is not from 0 to 1"));
                }
                if !thread.stop.is_zero() && thread.stop <= thread.start {
                    return Err(format!("`{name}` stops before it starts"));
                }
            }
        }
        Ok(())
    }
}
