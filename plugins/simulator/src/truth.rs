//! What every thread really used and caused, core by core, and what nobody caused. Whole nanojoules: what a
//! meter measures is their sum and nothing else, to the last one.

use std::ops::AddAssign;

use crate::machine::{Machine, Part};

/// What a thread used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Time that it ran, ns.
    pub time: u64,
    /// Part of it in which the core's other CPU ran something too, ns.
    pub shared: u64,
    /// Cycles.
    pub cycles: u64,
    /// Instructions.
    pub instructions: u64,
    /// Misses of the last-level cache.
    pub misses: u64,
}

/// What it caused, in nanojoules, by where they were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Energy {
    /// In cores.
    pub cores: u64,
    /// In the packages' uncore.
    pub uncore: u64,
    /// In packages, neither in cores nor in the uncore. Nobody causes that.
    pub package: u64,
    /// In the memory.
    pub dram: u64,
    /// In the rest of the platform. Nobody causes that.
    pub platform: u64,
}

impl AddAssign for Use {
    fn add_assign(&mut self, other: Self) {
        self.time += other.time;
        self.shared += other.shared;
        self.cycles += other.cycles;
        self.instructions += other.instructions;
        self.misses += other.misses;
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
    /// What the meter of `part` counts of it.
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

/// A use and what it caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What was used.
    pub used: Use,
    /// What was caused.
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
    /// What all threads used and caused on each core, and the core's static energy.
    cores: Vec<(Entry, u64)>,
    /// Static energy of each package; that of cores is theirs.
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

    /// The thread with number `thread` used and caused `entry` on `core`.
    pub(crate) fn ran(&mut self, thread: usize, core: usize, entry: Entry) {
        let cores = self.cores.len();
        let row = &mut self.threads[thread];
        if row.is_empty() {
            row.resize(cores, Entry::default());
        }
        row[core] += entry;
        self.cores[core].0 += entry;
    }

    /// `nanojoules` leaked in `core`.
    pub(crate) fn leaked(&mut self, core: usize, nanojoules: u64) {
        self.cores[core].1 += nanojoules;
    }

    /// What `package` used beside that.
    pub(crate) fn stood(&mut self, package: usize, energy: Energy) {
        self.packages[package] += energy;
    }

    /// What the platform used beside packages.
    pub(crate) fn platform(&mut self, nanojoules: u64) {
        self.platform += nanojoules;
    }

    /// What a thread used and caused on all of `place`.
    pub fn of_thread(&self, thread: usize, place: Place) -> Entry {
        let mut sum = Entry::default();
        for (core, entry) in self.threads[thread].iter().enumerate() {
            if self.is_in(core, place) {
                sum += *entry;
            }
        }
        sum
    }

    /// What nobody caused there, in nanojoules as the meter of `part` sees it.
    pub fn idle(&self, part: Part, place: Place) -> u64 {
        let leaked = self.cores.iter().enumerate().filter(|(core, _)| self.is_in(*core, place));
        let mut sum = Energy { cores: leaked.map(|(_, (_, ns))| ns).sum(), ..Energy::default() };
        for (package, energy) in self.packages.iter().enumerate() {
            if place == Place::Everywhere || place == Place::Package(package) {
                sum += *energy;
            }
        }
        if place == Place::Everywhere {
            sum.platform += self.platform;
        }
        sum.seen_by(part)
    }

    /// What the meter of `part` measures there, before it errs: what all threads caused, and [`Truth::idle`].
    pub fn measured(&self, part: Part, place: Place) -> u64 {
        let caused = self.cores.iter().enumerate().filter(|(core, _)| self.is_in(*core, place));
        caused.map(|(_, (entry, _))| entry.energy.seen_by(part)).sum::<u64>() + self.idle(part, place)
    }

    fn is_in(&self, core: usize, place: Place) -> bool {
        match place {
            Place::Everywhere => true,
            Place::Package(package) => core / self.cores_per_package == package,
            Place::Core(number) => core == number,
        }
    }
}

/// A place in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The whole machine.
    Everywhere,
    /// A package.
    Package(usize),
    /// A core, counted over all packages.
    Core(usize),
}
