//! A simulated machine: advances time from event to event, and keeps the truth and the meters. The machine,
//! the schedule and the seed determine everything.

use std::time::Duration;

use wattrace_api::weighted_cycles;

use crate::machine::{Machine, Part};
use crate::meter::SimulatedMeter;
use crate::physics::{Load, Own};
use crate::random::Random;
use crate::schedule::Schedule;
use crate::scheduler::Scheduler;
use crate::truth::{Counts, Energy, Entry, Location, Truth};

/// The pid of the first process; the others follow. Linux gives none above 4194304, so no real process has
/// it.
pub const FIRST_PID: u32 = 5_000_001;

/// A machine that runs a schedule.
#[derive(Debug)]
pub struct Simulation {
    machine: Machine,
    processes: Vec<Process>,
    /// By thread: how its process differs from others of its kind of code.
    own: Vec<Own>,
    scheduler: Scheduler,
    truth: Truth,
    meters: Vec<SimulatedMeter>,
    /// By CPU: the running thread, and what it does and causes.
    loads: Vec<Option<(usize, Load)>>,
    /// By core, at the reference temperature, W.
    leakage: Vec<f64>,
    /// Dynamic power of each package now, and its recent mean, which heats the package, W.
    dynamic: Vec<f64>,
    heat: Vec<f64>,
    now: u64,
    /// When the meters are updated next, and what it varies by.
    next_update: u64,
    random: Random,
}

/// A process of the schedule.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The numbers of its threads.
    threads: std::ops::Range<usize>,
}

/// When a process started and ended, ns since the simulation's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it started.
    pub start: u64,
    /// When it ended, if it has.
    pub end: Option<u64>,
}

impl Simulation {
    /// A machine at time 0.
    ///
    /// # Errors
    /// If the machine or the schedule is invalid.
    pub fn new(machine: Machine, schedule: &Schedule, seed: u64) -> Result<Self, String> {
        machine.check()?;
        schedule.check(&machine)?;
        let mut first = 0;
        let (mut processes, mut own) = (Vec::new(), Vec::new());
        let mut differences = Random::new(seed.rotate_left(47));
        for (number, process) in schedule.processes.iter().enumerate() {
            let threads = first..first + process.threads.len();
            first = threads.end;
            own.resize(first, machine.physics.own(&mut differences));
            let pid = FIRST_PID.saturating_add(number as u32);
            processes.push(Process { pid, name: process.name.clone(), threads });
        }
        let scheduler = Scheduler::new(&machine, schedule, seed);
        let mut simulation = Self {
            truth: Truth::new(&machine, first),
            meters: meters(&machine, seed),
            loads: vec![None; machine.all_cpus()],
            leakage: vec![0.0; machine.all_cores()],
            dynamic: vec![0.0; machine.packages as usize],
            heat: vec![0.0; machine.packages as usize],
            now: 0,
            next_update: machine.meter.update.as_nanos() as u64,
            random: Random::new(seed.rotate_left(17)),
            scheduler,
            processes,
            own,
            machine,
        };
        simulation.scheduler.settle(0);
        simulation.update_loads();
        Ok(simulation)
    }

    /// Lets time pass until `to` after the start. Does nothing if that is in the past.
    pub fn advance(&mut self, to: Duration) {
        let to = u64::try_from(to.as_nanos()).unwrap_or(u64::MAX);
        while self.now < to {
            let next = self.scheduler.next(self.now).min(self.next_shift()).min(self.next_update).min(to);
            self.charge(next - self.now);
            self.scheduler.run(next - self.now);
            let shifts = next == self.next_shift();
            self.now = next;
            if next == self.next_update {
                let meter = &self.machine.meter;
                let mean = meter.update.as_nanos() as u64;
                self.next_update += meter.update_interval.next(mean, &mut self.random);
                for meter in &mut self.meters {
                    meter.update(self.truth.measured(meter.part, meter.location));
                }
            }
            if self.scheduler.settle(next) || shifts {
                self.update_loads();
            }
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The truth up to now.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The meters, in the order of [`Machine::meters`] and of locations.
    pub fn meters(&self) -> &[SimulatedMeter] {
        &self.meters
    }

    /// The meters, to read them.
    pub fn meters_mut(&mut self) -> &mut [SimulatedMeter] {
        &mut self.meters
    }

    /// The processes of the schedule, in its order.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// What a process used and caused at `location`, up to now.
    pub fn of_process(&self, process: &Process, location: Location) -> Entry {
        let mut sum = Entry::default();
        process.threads.clone().for_each(|thread| sum += self.truth.of_thread(thread, location));
        sum
    }

    /// When a process started and ended; `None` if it has not started.
    pub fn life(&self, process: &Process) -> Option<Life> {
        let lives = || process.threads.clone().map(|thread| self.scheduler.life(thread));
        let start = lives().filter_map(|life| life.0).min()?;
        // A thread that has not started yet will.
        let ended = lives().all(|life| life.1.is_some());
        Some(Life { start, end: ended.then(|| lives().filter_map(|life| life.1).max()).flatten() })
    }

    /// The frequency of a core now, GHz.
    pub fn ghz(&self, core: usize) -> f64 {
        self.machine.ghz_of(core, self.shifts())
    }

    fn shifts(&self) -> u64 {
        self.now.checked_div(self.machine.shift.as_nanos() as u64).unwrap_or(0)
    }

    fn next_shift(&self) -> u64 {
        match self.machine.shift.as_nanos() as u64 {
            0 => u64::MAX,
            shift => (self.now / shift + 1) * shift,
        }
    }

    /// Computes what every running thread does and causes from now on.
    fn update_loads(&mut self) {
        self.dynamic.fill(0.0);
        let mut awake = vec![0_u32; self.dynamic.len()];
        for cpu in (0..self.loads.len()).filter(|&cpu| self.scheduler.running(cpu).is_some()) {
            awake[self.machine.package_of(cpu)] += 1;
        }
        for cpu in 0..self.loads.len() {
            let ghz = self.ghz(self.machine.core_of(cpu));
            let sibling = self.machine.sibling_of(cpu).and_then(|other| self.scheduler.running(other));
            let physics = &self.machine.physics;
            // That the package is awake is caused by all that run there, each alike.
            let awake = physics.awake_watts / f64::from(awake[self.machine.package_of(cpu)].max(1));
            let load = |(thread, mix)| {
                let load = physics.load(mix, ghz, sibling.is_some(), self.own[thread]);
                (thread, Load { uncore: load.uncore + awake, ..load })
            };
            self.loads[cpu] = self.scheduler.running(cpu).map(load);
            let watts = self.loads[cpu].map_or(0.0, |(_, load)| load.core + load.uncore);
            self.dynamic[self.machine.package_of(cpu)] += watts;
        }
        for core in 0..self.leakage.len() {
            self.leakage[core] = self.machine.physics.leakage(self.ghz(core));
        }
    }

    /// Adds `ns` of the current loads to the truth.
    fn charge(&mut self, ns: u64) {
        if ns == 0 {
            return;
        }
        let times = |rate: f64| (rate * ns as f64).round() as u64;
        let physics = &self.machine.physics;
        for (cpu, load) in self.loads.iter().enumerate() {
            let Some((thread, load)) = load else { continue };
            let core = self.machine.core_of(cpu);
            let used = Counts {
                time: ns,
                shared: if load.shared { ns } else { 0 },
                cycles: times(load.cycles),
                instructions: times(load.instructions),
                misses: times(load.misses),
                weighted_cycles: weighted_cycles(times(load.cycles), ns),
            };
            // A watt is a nanojoule per nanosecond.
            let energy = Energy {
                cores: times(load.core),
                uncore: times(load.uncore),
                dram: times(load.dram),
                ..Energy::default()
            };
            self.truth.add(*thread, core, Entry { used, energy });
        }
        for (core, watts) in self.leakage.iter().enumerate() {
            let hot = 1.0 + physics.heating * self.heat[self.machine.package_of_core(core)];
            self.truth.add_leakage(core, times(watts * hot));
        }
        let follows = 1.0 - (-(ns as f64) * 1e-9 / physics.heating_s.max(1e-3)).exp();
        for (package, heat) in self.heat.iter_mut().enumerate() {
            let hot = 1.0 + physics.heating * *heat;
            let energy = Energy {
                uncore: times(physics.uncore_watts * hot),
                package: times(physics.package_watts * hot),
                dram: times(physics.dram_watts),
                ..Energy::default()
            };
            self.truth.add_static(package, energy);
            *heat += (self.dynamic[package] - *heat) * follows;
        }
        self.truth.add_platform(times(physics.platform_watts));
    }
}

/// The meters of `machine`, each with noise of its own.
fn meters(machine: &Machine, seed: u64) -> Vec<SimulatedMeter> {
    let mut meters = Vec::new();
    for &part in &machine.meters {
        let locations: Vec<Location> = match part {
            Part::Psys => vec![Location::Everywhere],
            Part::Core => (0..machine.all_cores()).map(Location::Core).collect(),
            _ => (0..machine.packages as usize).map(Location::Package).collect(),
        };
        for location in locations {
            let random = Random::new(seed ^ (meters.len() as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95));
            meters.push(SimulatedMeter::new(part, location, machine.meter.clone(), random));
        }
    }
    meters
}
