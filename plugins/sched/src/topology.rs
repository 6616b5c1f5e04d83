//! Which CPU belongs to which package and core, and which share a core, from `/sys/devices/system/cpu`.

use std::io;
use std::path::Path;

/// The CPUs that may ever be online, with the package of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Package of each CPU, by CPU number; a CPU whose package is not told (it is offline) counts as package
    /// 0's.
    pub package_of: Vec<u32>,
    /// The core of each CPU, named by the lowest of its CPUs; a CPU that is offline counts as a core of its
    /// own.
    pub core_of: Vec<u32>,
    /// The CPU that shares the core of each CPU: the next, of more than one. None for a CPU that is offline.
    pub sibling_of: Vec<Option<usize>>,
}

impl Topology {
    /// Reads the topology below `sysfs` (`/sys`).
    ///
    /// # Errors
    /// `devices/system/cpu/possible` cannot be read or makes no sense.
    pub fn read(sysfs: &Path) -> io::Result<Self> {
        let cpus = sysfs.join("devices/system/cpu");
        let path = cpus.join("possible");
        let explain = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let possible = std::fs::read_to_string(&path).map_err(explain)?;
        let count = list(&possible)
            .and_then(|cpus| cpus.last().map(|last| last + 1))
            .ok_or_else(|| explain(io::Error::new(io::ErrorKind::InvalidData, "not a list of CPUs")))?;
        let package = |cpu: usize| {
            let file = cpus.join(format!("cpu{cpu}/topology/physical_package_id"));
            // Some machines (arm64 without ACPI) say -1: there is one package then.
            std::fs::read_to_string(file).ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0)
        };
        let core = |cpu: usize| {
            let file = cpus.join(format!("cpu{cpu}/topology/thread_siblings_list"));
            let sharing = std::fs::read_to_string(file).ok().and_then(|text| list(&text));
            sharing.and_then(|cpus| cpus.first().copied()).unwrap_or(cpu) as u32
        };
        let sibling = |cpu: usize| {
            let file = cpus.join(format!("cpu{cpu}/topology/thread_siblings_list"));
            let sharing = list(&std::fs::read_to_string(file).ok()?)?;
            let next = sharing.iter().find(|&&other| other > cpu).or(sharing.first())?;
            Some(*next).filter(|&next| next != cpu && next < count)
        };
        Ok(Self {
            package_of: (0..count).map(package).collect(),
            core_of: (0..count).map(core).collect(),
            sibling_of: (0..count).map(sibling).collect(),
        })
    }

    /// The packages' numbers, ascending.
    pub fn packages(&self) -> Vec<u32> {
        let mut all = self.package_of.clone();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The cores' numbers, ascending.
    pub fn cores(&self) -> Vec<u32> {
        let mut all = self.core_of.clone();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The numbers in a list such as `0-3,5`, ascending.
pub(crate) fn list(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse().ok()?, last.parse().ok().filter(|&last: &usize| last < 65536)?);
        // In any other order a list could be as long as it likes.
        if first > last || all.last().is_some_and(|&before| first <= before) {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        for no_list in ["x", "", "0-99999999", "3-0", "0-3,3", "4,0-3", "0-60000,0-60000"] {
            assert_eq!(list(no_list), None, "{no_list}");
        }
    }

    #[test]
    fn cpus_are_grouped_by_package() {
        let sys = tempfile::tempdir().unwrap();
        let cpus = sys.path().join("devices/system/cpu");
        for (cpu, package) in [(0, "0\n"), (1, "1\n"), (3, "-1\n")] {
            std::fs::create_dir_all(cpus.join(format!("cpu{cpu}/topology"))).unwrap();
            std::fs::write(cpus.join(format!("cpu{cpu}/topology/physical_package_id")), package).unwrap();
        }
        std::fs::write(cpus.join("possible"), "0-1,3\n").unwrap();
        let topology = Topology::read(sys.path()).unwrap();
        assert_eq!(topology.package_of, [0, 1, 0, 0]);
        assert_eq!(topology.packages(), [0, 1]);
        assert_eq!(topology.sibling_of, [None; 4], "nothing is said of cores");
        for (cpu, sharing) in [(0, "0,3\n"), (1, "1\n"), (3, "0,3\n")] {
            std::fs::write(cpus.join(format!("cpu{cpu}/topology/thread_siblings_list")), sharing).unwrap();
        }
        let topology = Topology::read(sys.path()).unwrap();
        assert_eq!(topology.sibling_of, [Some(3), None, None, Some(0)]);
        assert_eq!((topology.core_of.clone(), topology.cores()), (vec![0, 1, 2, 0], vec![0, 1, 2]));
        std::fs::write(cpus.join("possible"), "many\n").unwrap();
        let message = Topology::read(sys.path()).unwrap_err().to_string();
        assert!(message.contains("cpu/possible"), "{message}");
    }
}
