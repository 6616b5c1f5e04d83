//! The shape of a machine: packages, cores and threads, their frequencies, and the meters. `physics.rs` says
//! what running costs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::physics::Physics;
use crate::update_interval::UpdateInterval;

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// Packages (sockets), 1 or more.
    pub packages: u32,
    /// Cores of a package, 1 or more.
    pub cores: u32,
    /// CPUs of a core: 1, or 2 where they share it (SMT).
    pub threads: u32,
    /// Frequencies in GHz, by core; repeated if there are more cores.
    pub ghz: Vec<f64>,
    /// Time after which every core changes to the next one's frequency. Zero: never.
    #[serde(with = "humantime_serde")]
    pub shift: Duration,
    /// The parts that have a meter.
    pub meters: Vec<Part>,
    /// The properties of the meters.
    pub meter: MeterShape,
    /// What running costs. Not configurable.
    #[serde(skip)]
    pub physics: Physics,
}

/// A part of the machine that can have a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Each package: its cores, its uncore and the rest.
    Package,
    /// All cores of each package.
    Cores,
    /// Each core.
    Core,
    /// The uncore of each package: caches that all cores share, memory controllers.
    Uncore,
    /// The memory of each package.
    Dram,
    /// The whole platform.
    Psys,
}

/// The properties of a meter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeterShape {
    /// Energy of one count, in microjoules.
    pub unit: f64,
    /// The same of the memory's meter. 0: as the others.
    pub dram_unit: f64,
    /// By how much software overestimates a count of the memory's meter: 4 where it takes servers of 2014 to
    /// count memory in the unit that they name, and 1 where it knows better.
    pub dram_misread: f64,
    /// Bits of the counter, up to 64: it wraps after 2^bits counts.
    pub bits: u32,
    /// Mean time between updates of the counter.
    #[serde(with = "humantime_serde")]
    pub update: Duration,
    /// How that varies: "constant", "knights-landing", "broadwell", "ice-lake".
    pub update_interval: UpdateInterval,
    /// Standard deviation of the energy counted between two updates, as a part of it.
    pub noise: f64,
    /// Energy filtering: at each update up to this much, in microjoules, is added at random to what the
    /// counter shows. It does not add up over updates, and the counter never decreases.
    pub filter: f64,
    /// Part of the readings that fail.
    pub dropouts: f64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            packages: 1,
            cores: 4,
            threads: 1,
            ghz: vec![3.0],
            shift: Duration::ZERO,
            meters: vec![Part::Package, Part::Dram],
            meter: MeterShape::default(),
            physics: Physics::default(),
        }
    }
}

impl Default for MeterShape {
    /// Like RAPL on Intel's servers, without noise.
    fn default() -> Self {
        Self {
            unit: 61.035_156_25,
            dram_unit: 0.0,
            dram_misread: 1.0,
            bits: 32,
            update: Duration::from_millis(1),
            update_interval: UpdateInterval::Constant,
            noise: 0.0,
            filter: 0.0,
            dropouts: 0.0,
        }
    }
}

impl MeterShape {
    /// Mean age of the counter's value when it is read.
    pub fn age(&self) -> Duration {
        self.update / 2
    }

    /// Energy of one count of the meter of `part`, in microjoules.
    pub(crate) fn unit_of(&self, part: Part) -> f64 {
        if part == Part::Dram && self.dram_unit > 0.0 { self.dram_unit } else { self.unit }
    }

    /// The same, as software takes it to be.
    pub(crate) fn read_unit_of(&self, part: Part) -> f64 {
        self.unit_of(part) * if part == Part::Dram { self.dram_misread } else { 1.0 }
    }
}

/// The largest machine: limits what a typing error can ask for.
const MAX_CPUS: u64 = 4096;

impl Machine {
    /// Checks the values.
    ///
    /// # Errors
    /// Which key is wrong, and which values it may have.
    pub fn check(&self) -> Result<(), String> {
        let cpus = u64::from(self.packages) * u64::from(self.cores) * u64::from(self.threads);
        if !(1..=2).contains(&self.threads) {
            return Err(format!("threads is {}: it must be 1 or 2", self.threads));
        }
        if cpus == 0 || cpus > MAX_CPUS {
            return Err(format!("packages, cores and threads make {cpus} CPUs: it must be 1 to {MAX_CPUS}"));
        }
        if self.ghz.is_empty() || self.ghz.iter().any(|f| !(0.1..=10.0).contains(f)) {
            return Err(format!(
                "ghz is {:?}: it must hold one or more frequencies, from 0.1 to 10",
                self.ghz
            ));
        }
        let meter = &self.meter;
        if !(meter.unit.is_finite() && meter.unit > 0.0 && meter.unit <= 1e6) {
            return Err(format!(
                "meter.unit is {}: it must be above 0, and up to 1000000 microjoules",
                meter.unit
            ));
        }
        for (name, value) in
            [("dram_unit", meter.dram_unit), ("dram_misread", meter.dram_misread), ("filter", meter.filter)]
        {
            if !(0.0..=1e6).contains(&value) {
                return Err(format!("meter.{name} is {value}: it must be from 0 to 1000000"));
            }
        }
        if !(16..=64).contains(&meter.bits) {
            return Err(format!("meter.bits is {}: it must be 16 to 64", meter.bits));
        }
        if meter.update < Duration::from_micros(10) {
            return Err(format!("meter.update is {:?}: it must be at least 10us", meter.update));
        }
        for (name, part) in [("noise", meter.noise), ("dropouts", meter.dropouts)] {
            if !(0.0..1.0).contains(&part) {
                return Err(format!("meter.{name} is {part}: it must be from 0 to below 1"));
            }
        }
        self.physics.check()
    }

    /// Cores of all packages.
    pub fn all_cores(&self) -> usize {
        (self.packages * self.cores) as usize
    }

    /// CPUs of all cores. They are numbered as Linux usually does: one of each core first, then the others.
    pub fn all_cpus(&self) -> usize {
        self.all_cores() * self.threads as usize
    }

    /// The core of a CPU, counted over all packages; also the lowest of its core's CPUs.
    pub fn core_of(&self, cpu: usize) -> usize {
        cpu % self.all_cores()
    }

    /// The package of a core.
    pub fn package_of_core(&self, core: usize) -> usize {
        core / self.cores as usize
    }

    /// The package of a CPU.
    pub fn package_of(&self, cpu: usize) -> usize {
        self.package_of_core(self.core_of(cpu))
    }

    /// The CPU that shares the core of `cpu`.
    pub fn sibling_of(&self, cpu: usize) -> Option<usize> {
        let cores = self.all_cores();
        (self.threads == 2).then(|| if cpu < cores { cpu + cores } else { cpu - cores })
    }

    /// The frequency of a core in GHz, in the `shifts`th span of [`Machine::shift`].
    pub(crate) fn ghz_of(&self, core: usize, shifts: u64) -> f64 {
        let count = self.ghz.len();
        self.ghz[(core + (shifts % count as u64) as usize) % count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbered_core_by_core_before_their_siblings() {
        let machine = Machine { packages: 2, cores: 2, threads: 2, ..Machine::default() };
        assert_eq!(machine.all_cpus(), 8);
        assert_eq!((0..8).map(|cpu| machine.package_of(cpu)).collect::<Vec<_>>(), [0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!((machine.sibling_of(1), machine.sibling_of(6)), (Some(5), Some(2)));
        assert_eq!(Machine::default().sibling_of(0), None);
    }

    #[test]
    fn an_invalid_value_is_refused_with_its_key() {
        let error = |change: fn(&mut Machine)| {
            let mut machine = Machine::default();
            change(&mut machine);
            machine.check().unwrap_err()
        };
        assert!(error(|m| m.threads = 3).starts_with("threads is 3"));
        assert!(error(|m| m.cores = 0).contains("0 CPUs"));
        assert!(error(|m| m.ghz = vec![]).starts_with("ghz"));
        assert!(error(|m| m.meter.bits = 8).starts_with("meter.bits"));
        assert!(error(|m| m.meter.filter = -1.0).starts_with("meter.filter"));
        assert!(error(|m| m.meter.dropouts = 1.0).starts_with("meter.dropouts"));
        assert!(error(|m| m.physics.capacitance = -1.0).contains("capacitance"));
    }
}
