//! Reads one fact about one CPU at a time from `/sys/devices/system/cpu`. `lib.rs` takes a snapshot of all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wattrace_meter::sysfs::read_text;

use crate::list::parse_list;

/// The CPUs below a sysfs. Nothing is kept: each call reads.
#[derive(Clone, Debug)]
pub struct Cpus {
    directory: PathBuf,
}

impl Cpus {
    /// Those below `sysfs_root` (`/sys`).
    pub fn below(sysfs_root: &Path) -> Self {
        Self { directory: sysfs_root.join("devices/system/cpu") }
    }

    /// The directory of a CPU.
    pub fn directory(&self, cpu: u32) -> PathBuf {
        self.directory.join(format!("cpu{cpu}"))
    }

    /// The CPUs that may ever be online, ascending; at least one.
    ///
    /// # Errors
    /// `possible` cannot be read or is not a list of CPUs. The message names the file.
    pub fn possible(&self) -> io::Result<Vec<u32>> {
        let path = self.directory.join("possible");
        let explain = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let text = read_text(&path).map_err(explain)?;
        parse_list(&text)
            .filter(|cpus| !cpus.is_empty())
            .ok_or_else(|| explain(io::Error::new(io::ErrorKind::InvalidData, "not a list of CPUs")))
    }

    /// The CPUs that are online now, ascending; `None` if the kernel does not say.
    pub fn online(&self) -> Option<Vec<u32>> {
        let text = read_text(&self.directory.join("online")).ok()?;
        parse_list(&text).filter(|cpus| !cpus.is_empty())
    }

    /// The CPUs that have a directory, ascending. Some of them may be offline.
    pub fn present(&self) -> Vec<u32> {
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("cpu")?.parse().ok();
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut cpus: Vec<u32> = entries.filter_map(number).collect();
        cpus.sort_unstable();
        cpus
    }

    /// The packages of all CPUs, ascending.
    pub fn packages(&self) -> Vec<u32> {
        let mut packages: Vec<u32> = self.present().into_iter().filter_map(|cpu| self.package(cpu)).collect();
        packages.sort_unstable();
        packages.dedup();
        packages
    }

    /// The package of a CPU; `None` if the kernel does not say: the CPU is offline, or the number is -1
    /// because there is only one package.
    pub fn package(&self, cpu: u32) -> Option<u32> {
        self.topology(cpu, "physical_package_id")?.trim().parse().ok()
    }

    /// The die of a CPU within its package; `None` as for [`Cpus::package`].
    pub fn die(&self, cpu: u32) -> Option<u32> {
        self.topology(cpu, "die_id")?.trim().parse().ok()
    }

    /// The CPUs that share the core of `cpu` (SMT siblings), ascending, with `cpu` among them; `cpu` alone if
    /// the kernel does not say.
    pub fn core(&self, cpu: u32) -> Vec<u32> {
        // `core_cpus_list` is the newer name (5.1) of the same file.
        let list =
            ["core_cpus_list", "thread_siblings_list"].iter().find_map(|file| self.topology(cpu, file));
        list.and_then(|list| parse_list(&list))
            .filter(|cpus| cpus.contains(&cpu))
            .unwrap_or_else(|| vec![cpu])
    }

    fn topology(&self, cpu: u32, file: &str) -> Option<String> {
        read_text(&self.directory(cpu).join("topology").join(file)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> (Self, Cpus) {
            let root = tempfile::tempdir().unwrap();
            let cpus = Cpus::below(root.path());
            (Self(root), cpus)
        }

        fn put(&self, file: &str, text: &str) {
            let path = self.0.path().join("devices/system/cpu").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn without_files_a_cpu_has_a_core_of_its_own_and_nothing_else_is_known() {
        let (_tree, cpus) = Tree::new();
        assert_eq!((cpus.online(), cpus.package(3), cpus.die(3)), (None, None, None));
        assert_eq!((cpus.core(3), cpus.present(), cpus.packages()), (vec![3], vec![], vec![]));
        assert!(cpus.possible().is_err());
    }

    #[test]
    fn a_cpu_has_a_package_a_die_and_siblings() {
        let (tree, cpus) = Tree::new();
        tree.put("online", "0-2\n");
        tree.put("cpu3/topology/physical_package_id", "1\n");
        tree.put("cpu3/topology/die_id", "2\n");
        tree.put("cpu3/topology/thread_siblings_list", "1,3\n");
        assert_eq!(cpus.online(), Some(vec![0, 1, 2]));
        assert_eq!((cpus.package(3), cpus.die(3), cpus.core(3)), (Some(1), Some(2), vec![1, 3]));
        tree.put("cpu3/topology/core_cpus_list", "3\n");
        assert_eq!(cpus.core(3), [3], "the newer name goes first");
    }

    #[test]
    fn malformed_files_say_nothing() {
        let (tree, cpus) = Tree::new();
        for text in ["-1\n", "x", "", "4294967296"] {
            tree.put("cpu3/topology/physical_package_id", text);
            tree.put("cpu3/topology/die_id", text);
            tree.put("cpu3/topology/core_cpus_list", text);
            tree.put("online", text);
            assert_eq!((cpus.package(3), cpus.die(3), cpus.online()), (None, None, None), "{text}");
            assert_eq!(cpus.core(3), [3], "{text}");
        }
        // A list without the CPU itself is not about this CPU.
        tree.put("cpu3/topology/core_cpus_list", "0-1\n");
        assert_eq!(cpus.core(3), [3]);
    }

    #[test]
    fn present_cpus_and_packages_are_those_with_a_directory() {
        let (tree, cpus) = Tree::new();
        for (cpu, package) in [(10, 1), (9, 0), (2, 1), (0, 0)] {
            tree.put(&format!("cpu{cpu}/topology/physical_package_id"), &package.to_string());
        }
        tree.put("cpu11/online", "0");
        tree.put("cpufreq/policy0", "");
        tree.put("cpuidle/x", "");
        assert_eq!(cpus.present(), [0, 2, 9, 10, 11]);
        assert_eq!(cpus.packages(), [0, 1]);
    }
}
