//! Chooses the CPUs to read meters on: one for each package or die. `wattrace-topology` reads the package,
//! die and core of a CPU; `perf` and `msr` open their meters on the CPUs chosen here.

use std::collections::HashSet;
use std::path::Path;

use wattrace_topology::Cpus;

use crate::domain::PackageDie;

/// A CPU to read a meter on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MeterCpu {
    pub(crate) number: u32,
    pub(crate) package_die: PackageDie,
}

/// The CPUs on which a counter reads the same. Recorded while they are online: the kernel does not describe a
/// CPU that is offline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CounterScope {
    /// Those of a package, or of one of its dies.
    Package { package: u32, die: Option<u32> },
    /// These, of one core.
    Core(Vec<u32>),
}

/// The machine's CPUs below a sysfs. Nothing is kept: each call reads.
#[derive(Clone, Debug)]
pub(crate) struct MeterCpus {
    cpus: Cpus,
}

impl MeterCpus {
    /// Those of the tree at `sysfs_root`.
    pub(crate) fn below(sysfs_root: &Path) -> Self {
        Self { cpus: Cpus::below(sysfs_root) }
    }

    /// The CPUs that are online now; CPU 0 if the kernel does not say.
    pub(crate) fn online(&self) -> Vec<u32> {
        self.cpus.online().unwrap_or_else(|| vec![0])
    }

    /// The package of a CPU; 0 if the kernel does not say.
    pub(crate) fn package(&self, cpu: u32) -> u32 {
        self.cpus.package(cpu).unwrap_or(0)
    }

    /// The die of a CPU within its package; 0 if the kernel does not say.
    fn die(&self, cpu: u32) -> u32 {
        self.cpus.die(cpu).unwrap_or(0)
    }

    /// The CPUs that share the core of `cpu`, itself included, ascending.
    pub(crate) fn core(&self, cpu: u32) -> Vec<u32> {
        self.cpus.core(cpu)
    }

    /// The CPUs of the package of `cpu`; of its die, if each die has a counter of its own.
    pub(crate) fn scope_of_package(&self, cpu: u32, dies: bool) -> CounterScope {
        CounterScope::Package { package: self.package(cpu), die: dies.then(|| self.die(cpu)) }
    }

    /// Whether `cpu`, which is online, is one of `scope`.
    pub(crate) fn is_within(&self, cpu: u32, scope: &CounterScope) -> bool {
        match scope {
            CounterScope::Package { package, die } => {
                self.package(cpu) == *package && die.is_none_or(|die| self.die(cpu) == die)
            }
            CounterScope::Core(cpus) => cpus.contains(&cpu),
        }
    }

    /// One of `cpus` for each package, or for each die if `dies` and the package has several. A second CPU of
    /// the same package or die would count the same energy twice.
    pub(crate) fn one_per_package(&self, cpus: &[u32], dies: bool) -> Vec<MeterCpu> {
        let seen = cpus.iter().map(|&n| (n, self.package(n), if dies { self.die(n) } else { 0 }));
        first_of_each(seen.collect())
    }
}

/// Keeps the first CPU of each package and die, given (CPU, package, die).
fn first_of_each(seen: Vec<(u32, u32, u32)>) -> Vec<MeterCpu> {
    let dies: HashSet<(u32, u32)> = seen.iter().map(|&(_, package, die)| (package, die)).collect();
    let mut taken = HashSet::new();
    let mut cpus = Vec::new();
    for (number, package, die) in seen {
        let several = dies.iter().filter(|d| d.0 == package).count() > 1;
        let package_die = PackageDie { package, die: several.then_some(die) };
        if taken.insert(package_die) {
            cpus.push(MeterCpu { number, package_die });
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_die_is_named_only_if_the_package_has_several() {
        let cpus = first_of_each(vec![(0, 0, 0), (1, 0, 0), (8, 0, 1), (16, 1, 0), (24, 1, 0)]);
        let package_dies: Vec<_> = cpus.iter().map(|cpu| (cpu.number, cpu.package_die.to_string())).collect();
        let expected = [(0, "0-die-0".to_owned()), (8, "0-die-1".to_owned()), (16, "1".to_owned())];
        assert_eq!(package_dies, expected);
    }

    #[test]
    fn without_files_there_is_one_cpu_of_one_core_of_one_package() {
        let root = tempfile::tempdir().unwrap();
        let topology = MeterCpus::below(root.path());
        assert_eq!((topology.online(), topology.package(3), topology.core(3)), (vec![0], 0, vec![3]));
        let scope = topology.scope_of_package(3, true);
        assert_eq!(scope, CounterScope::Package { package: 0, die: Some(0) });
        assert!(topology.is_within(5, &scope) && !topology.is_within(5, &CounterScope::Core(vec![3])));
    }
}
