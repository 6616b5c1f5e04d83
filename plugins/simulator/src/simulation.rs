//! A machine at work: lets its time pass from event to event, and keeps the truth and the meters. Everything
//! follows from the machine, the schedule and the seed.

use std::time::Duration;

use crate::machine::{Machine, Part};
use crate::meter::Meter;
use crate::physics::Load;
use crate::random::Random;
use crate::schedule::Schedule;
use crate::scheduler::Scheduler;
use crate::truth::{Energy, Entry, Place, Truth, Use};

/// The number of the first process; the next have the next. Linux gives none above 4194304, so no real
/// process has it.
pub const FIRST_PID: u32 = 5_000_001;

/// A machine at work.
#[derive(Debug)]
pub struct Simulation {
    machine: Machine,
    processes: Vec<Process>,
    scheduler: Scheduler,
    truth: Truth,
    meters: Vec<Meter>,
    /// By CPU: who runs, and what that does and causes.
    loads: Vec<Option<(usize, Load)>>,
    /// By core, at the reference temperature, W.
    leakage: Vec<f64>,
    /// Dynamic power of each package now, and that which it has lately drawn, W.
    dynamic: Vec<f64>,
    heat: Vec<f64>,
    now: u64,
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

/// Since when, and until when, a process was there; ns since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it began.
    pub start: u64,
    /// When it ended, if it has.
    pub end: Option<u64>,
}

impl Simulation {
    /// A machine that begins to work.
    ///
    /// # Errors
    /// Such a machine cannot be, or cannot run the schedule.
    pub fn new(machine: Machine, schedule: &Schedule, seed: u64) -> Result<Self, String> {
        machine.check()?;
        schedule.check(&machine)?;
        let mut first = 0;
        let mut processes = Vec::new();
        for (number, process) in schedule.processes.iter().enumerate() {
            let threads = first..first + process.threads.len();
            first = threads.end;
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
            scheduler,
            processes,
            machine,
        };
        simulation.scheduler.settle(0);
        simulation.weigh();
        Ok(simulation)
    }

    /// Lets time pass until `to` after the start. What was before now stays as it was.
    pub fn advance(&mut self, to: Duration) {
        let to = u64::try_from(to.as_nanos()).unwrap_or(u64::MAX);
        while self.now < to {
            let update = self.machine.meter.update.as_nanos() as u64;
            let next_update = (self.now / update + 1) * update;
            let next = self.scheduler.next(self.now).min(self.next_shift()).min(next_update).min(to);
            self.pass(next - self.now);
            self.scheduler.run(next - self.now);
            let shifts = next == self.next_shift();
            self.now = next;
            if next == next_update {
                for meter in &mut self.meters {
                    meter.update(self.truth.measured(meter.part, meter.place));
                }
            }
            if self.scheduler.settle(next) || shifts {
                self.weigh();
            }
        }
    }

    /// How long the machine has worked.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What is true up to now.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The meters, in the order of [`Machine::meters`] and of places.
    pub fn meters(&self) -> &[Meter] {
        &self.meters
    }

    /// The meters, to read them.
    pub fn meters_mut(&mut self) -> &mut [Meter] {
        &mut self.meters
    }

    /// The processes of the schedule, in its order.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// What a process used and caused at `place`, up to now.
    pub fn of_process(&self, process: &Process, place: Place) -> Entry {
        let mut sum = Entry::default();
        process.threads.clone().for_each(|thread| sum += self.truth.of_thread(thread, place));
        sum
    }

    /// Whether a process has begun, and when; and whether it has ended.
    pub fn life(&self, process: &Process) -> Option<Life> {
        let lives = || process.threads.clone().map(|thread| self.scheduler.life(thread));
        let start = lives().filter_map(|life| life.0).min()?;
        // A thread that has not begun yet will.
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

    /// Works out what everything that runs now does and causes.
    fn weigh(&mut self) {
        self.dynamic.fill(0.0);
        for cpu in 0..self.loads.len() {
            let ghz = self.ghz(self.machine.core_of(cpu));
            let sibling = self.machine.sibling_of(cpu).and_then(|other| self.scheduler.running(other));
            let load = |(thread, mix)| (thread, self.machine.physics.load(mix, ghz, sibling.is_some()));
            self.loads[cpu] = self.scheduler.running(cpu).map(load);
            let watts = self.loads[cpu].map_or(0.0, |(_, load)| load.core + load.uncore);
            self.dynamic[self.machine.package_of(cpu)] += watts;
        }
        for core in 0..self.leakage.len() {
            self.leakage[core] = self.machine.physics.leakage(self.ghz(core));
        }
    }

    /// Charges `ns` of what runs now.
    fn pass(&mut self, ns: u64) {
        if ns == 0 {
            return;
        }
        let times = |rate: f64| (rate * ns as f64).round() as u64;
        let physics = &self.machine.physics;
        for (cpu, load) in self.loads.iter().enumerate() {
            let Some((thread, load)) = load else { continue };
            let core = self.machine.core_of(cpu);
            let used = Use {
                time: ns,
                shared: if load.shared { ns } else { 0 },
                cycles: times(load.cycles),
                instructions: times(load.instructions),
                misses: times(load.misses),
            };
            // A watt is a nanojoule per nanosecond.
            let energy = Energy {
                cores: times(load.core),
                uncore: times(load.uncore),
                dram: times(load.dram),
                ..Energy::default()
            };
            self.truth.ran(*thread, core, Entry { used, energy });
        }
        for (core, watts) in self.leakage.iter().enumerate() {
            let hot = 1.0 + physics.heating * self.heat[self.machine.package_of_core(core)];
            self.truth.leaked(core, times(watts * hot));
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
            self.truth.stood(package, energy);
            *heat += (self.dynamic[package] - *heat) * follows;
        }
        self.truth.platform(times(physics.platform_watts));
    }
}

/// The meters of `machine`, each with noise of its own.
fn meters(machine: &Machine, seed: u64) -> Vec<Meter> {
    let mut meters = Vec::new();
    for &part in &machine.meters {
        let places: Vec<Place> = match part {
            Part::Psys => vec![Place::Everywhere],
            Part::Core => (0..machine.all_cores()).map(Place::Core).collect(),
            _ => (0..machine.packages as usize).map(Place::Package).collect(),
        };
        for place in places {
            let random = Random::new(seed ^ (meters.len() as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95));
            meters.push(Meter::new(part, place, machine.meter.clone(), random));
        }
    }
    meters
}
