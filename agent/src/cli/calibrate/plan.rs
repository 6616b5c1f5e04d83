//! The steps of a calibration: which CPUs are loaded in each. Only `Machine::find` reads the machine.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use wattrace_topology::Topology;

/// How often each load is repeated.
pub(super) const REPETITIONS: usize = 3;
/// The loads, as parts of each package's CPUs.
const LEVELS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// A load that is held for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// One of [`LEVELS`]; the first CPUs of all cores are loaded before their second ones.
    Level(usize),
    /// Both CPUs of half of the cores: shows what sharing a core means for power.
    Pairs,
}

impl Step {
    /// A number for each load; repetitions of a load have the same.
    pub(super) fn number(self) -> usize {
        match self {
            Step::Level(level) => level,
            Step::Pairs => LEVELS.len(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Level(level) => write!(f, "{:.0} % of the CPUs", LEVELS[*level] * 100.0),
            Step::Pairs => f.write_str("half of the cores"),
        }
    }
}

/// The machine's CPUs.
pub(super) struct Machine {
    /// CPU numbers by package and core.
    packages: Vec<Vec<Vec<usize>>>,
    /// One more than the highest CPU number.
    numbers: usize,
}

impl Machine {
    pub(super) fn find() -> Result<Self, String> {
        let Topology { package_of, core_of, .. } =
            Topology::read(Path::new("/sys")).map_err(|e| e.to_string())?;
        let allowed = super::load::allowed().map_err(|e| format!("sched_getaffinity: {e}"))?;
        let missing = (0..package_of.len()).filter(|cpu| !allowed.contains(cpu)).count();
        if missing > 0 {
            tracing::warn!("{missing} CPUs are offline or this process may not use them: they stay idle");
        }
        Self::new(&package_of, &core_of, &allowed).ok_or_else(|| "this process may use no CPU".to_owned())
    }

    /// From the package and the core of each CPU, for the CPUs in `allowed`.
    fn new(package_of: &[u32], core_of: &[u32], allowed: &[usize]) -> Option<Self> {
        let mut packages: BTreeMap<u32, BTreeMap<u32, Vec<usize>>> = BTreeMap::new();
        for &cpu in allowed {
            if let (Some(&package), Some(&core)) = (package_of.get(cpu), core_of.get(cpu)) {
                packages.entry(package).or_default().entry(core).or_default().push(cpu);
            }
        }
        let packages: Vec<Vec<Vec<usize>>> =
            packages.into_values().map(|cores| cores.into_values().collect()).collect();
        (!packages.is_empty()).then_some(Self { packages, numbers: package_of.len() })
    }

    pub(super) fn cpus(&self) -> usize {
        self.packages.iter().flatten().map(Vec::len).sum()
    }

    pub(super) fn packages(&self) -> u32 {
        self.packages.len() as u32
    }

    pub(super) fn shares_cores(&self) -> bool {
        self.packages.iter().flatten().any(|cpus| cpus.len() > 1)
    }

    /// All steps: every load in each repetition, in alternating order, so that a drift (of temperature, for
    /// example) is not mistaken for an effect of the load.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut once: Vec<Step> = [0, 4, 2, 1, 3].into_iter().map(Step::Level).collect();
        if self.shares_cores() {
            once.push(Step::Pairs);
        }
        let mut all = Vec::new();
        for _ in 0..REPETITIONS {
            all.extend_from_slice(&once);
            once.reverse();
        }
        all
    }

    /// The duty of each CPU in a step, 0 to 1, by CPU number.
    pub(super) fn duties(&self, step: Step) -> Vec<f64> {
        let mut duties = vec![0.0; self.numbers];
        for cores in &self.packages {
            match step {
                Step::Level(level) => {
                    let mut left = LEVELS[level] * cores.iter().map(Vec::len).sum::<usize>() as f64;
                    let cpus_per_core = cores.iter().map(Vec::len).max().unwrap_or(0);
                    // The first CPU of each core, then the second of each, …
                    for cpu in
                        (0..cpus_per_core).flat_map(|n| cores.iter().filter_map(move |cpus| cpus.get(n)))
                    {
                        duties[*cpu] = left.clamp(0.0, 1.0);
                        left -= 1.0;
                    }
                }
                Step::Pairs => {
                    let half = &cores[..cores.len().div_ceil(2)];
                    half.iter().flatten().for_each(|&cpu| duties[cpu] = 1.0);
                }
            }
        }
        duties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two packages of two cores with two CPUs each; the second CPUs are numbered after all first ones.
    fn two_sockets() -> Machine {
        let all: Vec<usize> = (0..8).collect();
        Machine::new(&[0, 0, 1, 1, 0, 0, 1, 1], &[0, 1, 2, 3, 0, 1, 2, 3], &all).unwrap()
    }

    #[test]
    fn the_first_cpus_of_cores_are_loaded_before_the_second_ones_in_every_package() {
        let machine = two_sockets();
        assert_eq!((machine.cpus(), machine.packages(), machine.shares_cores()), (8, 2, true));
        let duties = |step| machine.duties(step);
        assert_eq!(duties(Step::Level(0)), [0.0; 8]);
        assert_eq!(duties(Step::Level(1)), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(duties(Step::Level(3)), [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(duties(Step::Pairs), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_level_between_two_cpus_is_a_partial_duty() {
        let machine = Machine::new(&[0, 0], &[0, 1], &[0, 1]).unwrap();
        assert!(!machine.shares_cores());
        assert_eq!(machine.duties(Step::Level(1)), [0.5, 0.0]);
        assert_eq!(machine.duties(Step::Level(3)), [1.0, 0.5]);
        let mut numbers: Vec<_> = machine.steps().iter().map(|s| s.number()).collect();
        assert_eq!(numbers[..10], [0, 4, 2, 1, 3, 3, 1, 2, 4, 0]);
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    }

    #[test]
    fn cores_with_four_cpus_are_filled_evenly_and_cpus_that_are_not_allowed_stay_idle() {
        let machine = Machine::new(&[0; 8], &[0, 0, 0, 0, 4, 4, 4, 4], &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        assert_eq!(machine.duties(Step::Level(1)), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(machine.duties(Step::Pairs), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let machine = Machine::new(&[0; 4], &[0, 0, 2, 2], &[1, 2, 3]).unwrap();
        assert_eq!(machine.duties(Step::Level(4)), [0.0, 1.0, 1.0, 1.0]);
        assert!(Machine::new(&[0], &[0], &[7]).is_none());
    }
}
