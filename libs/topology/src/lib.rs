//! Reads lists of CPUs (`list.rs`), and the package, die and core of each CPU from `/sys/devices/system/cpu`.
//!
//! [`Cpus`] reads one file a question, for callers that ask about a CPU now and then: CPUs go online and
//! offline while the agent runs. [`Topology`] is a snapshot of all CPUs, for callers that index by CPU.

mod cpus;
mod list;

use std::io;
use std::path::Path;

pub use cpus::Cpus;
pub use list::parse_list;

/// The CPUs that may ever be online, with the package and core of each: a snapshot.
///
/// The kernel describes no CPU that is offline. Such a CPU counts as package 0's, as a core of its own,
/// without siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The package of each CPU, by CPU number.
    pub package_of: Vec<u32>,
    /// The core of each CPU, named by the lowest of its CPUs.
    pub core_of: Vec<u32>,
    /// The next CPU on the core of each CPU, in a circle; `None` for a CPU that has its core for itself.
    pub sibling_of: Vec<Option<usize>>,
}

impl Topology {
    /// Reads the topology below `sysfs_root` (`/sys`).
    ///
    /// # Errors
    /// `devices/system/cpu/possible` cannot be read or is not a list of CPUs.
    pub fn read(sysfs_root: &Path) -> io::Result<Self> {
        let cpus = Cpus::below(sysfs_root);
        let possible = cpus.possible()?;
        let count = possible.last().map_or(0, |last| last + 1);
        let cores: Vec<Vec<u32>> = (0..count).map(|cpu| cpus.core(cpu)).collect();
        let next = |(cpu, core): (u32, &Vec<u32>)| {
            let next = core.iter().find(|&&other| other > cpu).or(core.first())?;
            Some(*next as usize).filter(|_| *next != cpu && *next < count)
        };
        Ok(Self {
            package_of: (0..count).map(|cpu| cpus.package(cpu).unwrap_or(0)).collect(),
            core_of: (0..count).zip(&cores).map(|(cpu, core)| *core.first().unwrap_or(&cpu)).collect(),
            sibling_of: (0..count).zip(&cores).map(next).collect(),
        })
    }

    /// The packages' numbers, ascending.
    pub fn packages(&self) -> Vec<u32> {
        distinct(&self.package_of)
    }

    /// The cores' numbers, ascending.
    pub fn cores(&self) -> Vec<u32> {
        distinct(&self.core_of)
    }
}

fn distinct(numbers: &[u32]) -> Vec<u32> {
    let mut all = numbers.to_vec();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn cpus_are_grouped_by_package_and_core() {
        let sys = tempfile::tempdir().unwrap();
        let cpus = sys.path().join("devices/system/cpu");
        for (cpu, package) in [(0, "0\n"), (1, "1\n"), (3, "-1\n")] {
            fs::create_dir_all(cpus.join(format!("cpu{cpu}/topology"))).unwrap();
            fs::write(cpus.join(format!("cpu{cpu}/topology/physical_package_id")), package).unwrap();
        }
        fs::write(cpus.join("possible"), "0-1,3\n").unwrap();
        let topology = Topology::read(sys.path()).unwrap();
        assert_eq!(topology.package_of, [0, 1, 0, 0]);
        assert_eq!(topology.packages(), [0, 1]);
        assert_eq!(topology.sibling_of, [None; 4], "no file names siblings");
        for (cpu, siblings) in [(0, "0,3\n"), (1, "1\n"), (3, "0,3\n")] {
            fs::write(cpus.join(format!("cpu{cpu}/topology/thread_siblings_list")), siblings).unwrap();
        }
        let topology = Topology::read(sys.path()).unwrap();
        assert_eq!(topology.sibling_of, [Some(3), None, None, Some(0)]);
        assert_eq!((topology.core_of.clone(), topology.cores()), (vec![0, 1, 2, 0], vec![0, 1, 2]));
    }

    #[test]
    fn four_threads_of_a_core_follow_each_other_in_a_circle() {
        let sys = tempfile::tempdir().unwrap();
        let cpus = sys.path().join("devices/system/cpu");
        for cpu in 0..4 {
            fs::create_dir_all(cpus.join(format!("cpu{cpu}/topology"))).unwrap();
            fs::write(cpus.join(format!("cpu{cpu}/topology/core_cpus_list")), "0-3\n").unwrap();
        }
        fs::write(cpus.join("possible"), "0-3\n").unwrap();
        let topology = Topology::read(sys.path()).unwrap();
        assert_eq!(topology.sibling_of, [Some(1), Some(2), Some(3), Some(0)]);
        assert_eq!(topology.cores(), [0]);
        // A sibling that can never be online is none.
        fs::write(cpus.join("possible"), "0-2\n").unwrap();
        assert_eq!(Topology::read(sys.path()).unwrap().sibling_of, [Some(1), Some(2), None]);
    }

    #[test]
    fn this_machine_is_read() {
        let topology = Topology::read(Path::new("/sys")).unwrap();
        assert!(!topology.packages().is_empty() && topology.cores().len() >= topology.packages().len());
        assert_eq!(topology.package_of.len(), topology.sibling_of.len());
    }

    #[test]
    fn an_error_names_the_file() {
        let sys = tempfile::tempdir().unwrap();
        let message = Topology::read(sys.path()).unwrap_err().to_string();
        assert!(message.contains("devices/system/cpu/possible"), "{message}");
        fs::create_dir_all(sys.path().join("devices/system/cpu")).unwrap();
        for text in ["many\n", "\n", ""] {
            fs::write(sys.path().join("devices/system/cpu/possible"), text).unwrap();
            let message = Topology::read(sys.path()).unwrap_err().to_string();
            assert!(message.contains("cpu/possible: not a list of CPUs"), "{text:?}: {message}");
        }
    }
}
