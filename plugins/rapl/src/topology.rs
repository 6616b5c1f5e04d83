//! Which CPUs there are, and the package, die and core of each, from `devices/system/cpu`. Read when meters
//! are opened; `perf` and `msr` choose their CPUs by it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::Place;

/// No machine has a CPU of this number. Lists come from files, and a file may say anything.
const TOO_MANY: u32 = 1 << 16;

/// A CPU to read a meter on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) number: u32,
    pub(crate) place: Place,
}

/// The CPUs that see the same counter. Taken down while they are online: the kernel tells nothing of one that
/// isn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those of a package, or of one die of it.
    Place { package: u32, die: Option<u32> },
    /// These, of one core.
    Core(Vec<u32>),
}

/// The machine's CPUs below a sysfs.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    cpus: PathBuf,
}

impl Topology {
    /// That of the tree at `sysfs_root`. Nothing is read yet.
    pub(crate) fn below(sysfs_root: &Path) -> Self {
        Self { cpus: sysfs_root.join("devices/system/cpu") }
    }

    /// The CPUs that are online now; CPU 0 where that is not told.
    pub(crate) fn online(&self) -> Vec<u32> {
        let told = fs::read_to_string(self.cpus.join("online")).unwrap_or_default();
        parse_cpus(&told).filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| vec![0])
    }

    /// The package of a CPU; 0 where that is not told.
    pub(crate) fn package(&self, cpu: u32) -> u32 {
        self.number(cpu, "physical_package_id")
    }

    /// The die of a CPU within its package; 0 where that is not told.
    fn die(&self, cpu: u32) -> u32 {
        self.number(cpu, "die_id")
    }

    /// The CPUs that share the core of `cpu`, ascending; itself alone where that is not told.
    pub(crate) fn core(&self, cpu: u32) -> Vec<u32> {
        // The one name is the other's older form.
        let told = ["core_cpus_list", "thread_siblings_list"].iter().find_map(|file| self.read(cpu, file));
        told.and_then(|list| parse_cpus(&list))
            .filter(|cpus| cpus.contains(&cpu))
            .unwrap_or_else(|| vec![cpu])
    }

    /// The CPUs of the package of `cpu`; of its die, if dies are metered one by one.
    pub(crate) fn reach_of_place(&self, cpu: u32, dies: bool) -> Reach {
        Reach::Place { package: self.package(cpu), die: dies.then(|| self.die(cpu)) }
    }

    /// Whether `cpu`, which is online, is one of `reach`.
    pub(crate) fn is_within(&self, cpu: u32, reach: &Reach) -> bool {
        match reach {
            Reach::Place { package, die } => {
                self.package(cpu) == *package && die.is_none_or(|die| self.die(cpu) == die)
            }
            Reach::Core(cpus) => cpus.contains(&cpu),
        }
    }

    /// One of `cpus` for each place, with the die told only where a package has several. A second CPU of the
    /// same place would count the same energy again.
    pub(crate) fn one_per_place(&self, cpus: &[u32], dies: bool) -> Vec<Cpu> {
        let seen = cpus.iter().map(|&n| (n, self.package(n), if dies { self.die(n) } else { 0 }));
        arrange(seen.collect())
    }

    fn number(&self, cpu: u32, what: &str) -> u32 {
        // Some machines say -1: there is one package, or die, then.
        self.read(cpu, what).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    fn read(&self, cpu: u32, what: &str) -> Option<String> {
        fs::read_to_string(self.cpus.join(format!("cpu{cpu}/topology/{what}"))).ok()
    }
}

/// `0,28` or `0-1,4`: the numbers, as they stand there; an empty list has none. `None`: that is no list of
/// CPUs.
pub(crate) fn parse_cpus(list: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= TOO_MANY || cpus.len() >= TOO_MANY as usize {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Gives each (CPU, package, die) its place, and keeps the first of each place.
fn arrange(seen: Vec<(u32, u32, u32)>) -> Vec<Cpu> {
    let dies: HashSet<(u32, u32)> = seen.iter().map(|&(_, package, die)| (package, die)).collect();
    let mut taken = HashSet::new();
    let mut cpus = Vec::new();
    for (number, package, die) in seen {
        let several = dies.iter().filter(|d| d.0 == package).count() > 1;
        let place = Place { package, die: several.then_some(die) };
        if taken.insert(place) {
            cpus.push(Cpu { number, place });
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them_and_endless_ones_are_refused() {
        assert_eq!(parse_cpus("0,28\n"), Some(vec![0, 28]));
        assert_eq!(parse_cpus("0-1,4"), Some(vec![0, 1, 4]));
        assert_eq!(parse_cpus("\n"), Some(vec![]));
        let repeated = "0-65535,".repeat(100);
        for nonsense in ["0;1", "3-1", "0-4294967295", "70000", "-1", &repeated] {
            assert_eq!(parse_cpus(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn dies_are_told_apart_only_where_a_package_has_several() {
        let cpus = arrange(vec![(0, 0, 0), (1, 0, 0), (8, 0, 1), (16, 1, 0), (24, 1, 0)]);
        let places: Vec<_> = cpus.iter().map(|cpu| (cpu.number, cpu.place.to_string())).collect();
        let expected = [(0, "0-die-0".to_owned()), (8, "0-die-1".to_owned()), (16, "1".to_owned())];
        assert_eq!(places, expected);
    }

    #[test]
    fn what_is_not_told_is_one_cpu_of_one_core_of_one_package() {
        let root = tempfile::tempdir().unwrap();
        let topology = Topology::below(root.path());
        assert_eq!((topology.online(), topology.package(3), topology.core(3)), (vec![0], 0, vec![3]));
        let cpu = root.path().join("devices/system/cpu/cpu3/topology");
        fs::create_dir_all(&cpu).unwrap();
        fs::write(cpu.join("physical_package_id"), "-1\n").unwrap();
        fs::write(cpu.join("thread_siblings_list"), "1,3\n").unwrap();
        fs::write(root.path().join("devices/system/cpu/online"), "0-2\n").unwrap();
        assert_eq!(
            (topology.online(), topology.package(3), topology.core(3)),
            (vec![0, 1, 2], 0, vec![1, 3])
        );
        // A list that its own CPU isn't in says nothing about it.
        fs::write(cpu.join("core_cpus_list"), "0-1\n").unwrap();
        assert_eq!(topology.core(3), [3]);
    }
}
