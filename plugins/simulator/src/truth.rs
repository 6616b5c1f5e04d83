//! What every thread used and caused on each core, and the energy that no thread caused. In whole nanojoules:
//! a meter measures exactly their sum.

use std::ops::AddAssign;

use crate::machine::{Machine, Part};

/// What is counted of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// CPU time, ns.
    pub time: u64,
    /// The part of it in which the core's other CPU was busy too, ns.
    pub shared: u64,
    /// Cycles.
    pub cycles: u64,
    /// Instructions.
    pub instructions: u64,
    /// Misses of the last-level cache.
    pub misses: u64,
    /// Cycles, each weighted by the square of the clock in GHz at which it ran.
    pub weighted_cycles: u64,
}

/// Energy in nanojoules, by the part of the machine that drew it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Energy {
    /// In cores.
    pub cores: u64,
    /// In the packages' uncore.
    pub uncore: u64,
    /// In packages, outside of cores and uncore. No thread causes it.
    pub package: u64,
    /// In the memory.
    pub dram: u64,
    /// In the rest of the platform. No thread causes it.
    pub platform: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.time += other.time;
        self.shared += other.shared;
        self.cycles += other.cycles;
        self.instructions += other.instructions;
        self.misses += other.misses;
        self.weighted_cycles += other.weighted_cycles;
    }
}

impl AddAssign for Energy {
    fn add_assign(&mut self, other: Self) {
        self.cores += other.cores;
        self.uncore += other.uncore;
        self.package += other.package;
        self.dram += other.dram;
        self.platform += other.platform;
    }
}

impl Energy {
    /// The energy that the meter of `part` counts.
    pub fn seen_by(&self, part: Part) -> u64 {
        match part {
            Part::Core | Part::Cores => self.cores,
            Part::Uncore => self.uncore,
            Part::Package => self.cores + self.uncore + self.package,
            Part::Dram => self.dram,
            Part::Psys => self.cores + self.uncore + self.package + self.dram + self.platform,
        }
    }
}

/// What was counted, and the energy that it caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What was counted.
    pub used: Counts,
    /// The energy that it caused.
    pub energy: Energy,
}

impl AddAssign for Entry {
    fn add_assign(&mut self, other: Self) {
        self.used += other.used;
        self.energy += other.energy;
    }
}

/// The truth about a simulation up to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// By thread and core; empty for a thread that never ran.
    threads: Vec<Vec<Entry>>,
    /// By core: what all threads used and caused, and its static energy, nJ.
    cores: Vec<(Entry, u64)>,
    /// Static energy of each package, without that of its cores.
    packages: Vec<Energy>,
    platform: u64,
    cores_per_package: usize,
}

impl Truth {
    pub(crate) fn new(machine: &Machine, threads: usize) -> Self {
        Self {
            threads: vec![Vec::new(); threads],
            cores: vec![Default::default(); machine.all_cores()],
            packages: vec![Energy::default(); machine.packages as usize],
            platform: 0,
            cores_per_package: machine.cores as usize,
        }
    }

    /// Adds what the thread number `thread` used and caused on `core`.
    pub(crate) fn add(&mut self, thread: usize, core: usize, entry: Entry) {
        let cores = self.cores.len();
        let row = &mut self.threads[thread];
        if row.is_empty() {
            row.resize(cores, Entry::default());
        }
        row[core] += entry;
        self.cores[core].0 += entry;
    }

    /// Adds the leakage of `core`.
    pub(crate) fn add_leakage(&mut self, core: usize, nanojoules: u64) {
        self.cores[core].1 += nanojoules;
    }

    /// Adds the static energy of `package`, without that of its cores.
    pub(crate) fn add_static(&mut self, package: usize, energy: Energy) {
        self.packages[package] += energy;
    }

    /// Adds the energy of the platform outside of packages and memory.
    pub(crate) fn add_platform(&mut self, nanojoules: u64) {
        self.platform += nanojoules;
    }

    /// What a thread used and caused in `location`.
    pub fn of_thread(&self, thread: usize, location: Location) -> Entry {
        let mut sum = Entry::default();
        for (core, entry) in self.threads[thread].iter().enumerate() {
            if self.is_in(core, location) {
                sum += *entry;
            }
        }
        sum
    }

    /// The energy that no thread caused there, in nanojoules, as counted by the meter of `part`.
    pub fn idle(&self, part: Part, location: Location) -> u64 {
        let leaked = self.cores.iter().enumerate().filter(|(core, _)| self.is_in(*core, location));
        let mut sum = Energy { cores: leaked.map(|(_, (_, ns))| ns).sum(), ..Energy::default() };
        for (package, energy) in self.packages.iter().enumerate() {
            if location == Location::Everywhere || location == Location::Package(package) {
                sum += *energy;
            }
        }
        if location == Location::Everywhere {
            sum.platform += self.platform;
        }
        sum.seen_by(part)
    }

    /// What an exact meter of `part` measures there: the energy that all threads caused, and [`Truth::idle`].
    pub fn measured(&self, part: Part, location: Location) -> u64 {
        let caused = self.cores.iter().enumerate().filter(|(core, _)| self.is_in(*core, location));
        caused.map(|(_, (entry, _))| entry.energy.seen_by(part)).sum::<u64>() + self.idle(part, location)
    }

    fn is_in(&self, core: usize, location: Location) -> bool {
        match location {
            Location::Everywhere => true,
            Location::Package(package) => core / self.cores_per_package == package,
            Location::Core(number) => core == number,
        }
    }
}

/// A location in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// The whole machine.
    Everywhere,
    /// A package.
    Package(usize),
    /// A core, counted over all packages.
    Core(usize),
}
