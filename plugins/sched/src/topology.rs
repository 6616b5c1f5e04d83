//! Which CPU belongs to which package, from `/sys/devices/system/cpu`.

use std::io;
use std::path::Path;

/// The CPUs that may ever be online, with the package of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Package of each CPU, by CPU number; a CPU whose package is not told (it is offline) counts as package 0's.
    pub package_of: Vec<u32>,
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
        let count = highest_cpu(&possible)
            .ok_or_else(|| explain(io::Error::new(io::ErrorKind::InvalidData, "not a list of CPUs")))?
            as usize
            + 1;
        let package = |cpu: usize| {
            let file = cpus.join(format!("cpu{cpu}/topology/physical_package_id"));
            // Some machines (arm64 without ACPI) say -1: there is one package then.
            std::fs::read_to_string(file).ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0)
        };
        Ok(Self { package_of: (0..count).map(package).collect() })
    }

    /// The packages' numbers, ascending.
    pub fn packages(&self) -> Vec<u32> {
        let mut all = self.package_of.clone();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The highest number in a list such as `0-3,5`.
fn highest_cpu(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse().ok().filter(|&n| n < 65536)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        std::fs::write(cpus.join("possible"), "many\n").unwrap();
        let message = Topology::read(sys.path()).unwrap_err().to_string();
        assert!(message.contains("cpu/possible"), "{message}");
    }
}
