//! What kind of system this is, from files below a root directory, so that tests can show other machines. It
//! says nothing of devices: plugins look for those.
//!
//! | file | holds |
//! | --- | --- |
//! | `system/distribution.rs` | the distribution, and its commands that install something |
//! | `system/virtualisation.rs` | the virtual machine and the container around this process |

mod distribution;
mod virtualisation;

use std::fs;
use std::path::Path;

use serde::Serialize;

pub(super) use self::distribution::{Distribution, Package};
pub(super) use self::virtualisation::Virtualisation;

/// A system.
#[derive(Clone, Debug, Serialize)]
pub(super) struct System {
    pub(super) distribution: Distribution,
    /// `uname -r`.
    pub(super) kernel: String,
    pub(super) architecture: String,
    pub(super) processor: Processor,
    #[serde(flatten)]
    pub(super) virtualisation: Virtualisation,
    pub(super) cgroups: Cgroups,
    /// `kernel.perf_event_paranoid`.
    pub(super) perf_event_paranoid: Option<i32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub(super) unprivileged_bpf_disabled: Option<u32>,
}

/// What `/proc/cpuinfo` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Processor {
    pub(super) model: String,
    pub(super) cpus: usize,
    /// Whether it is x86 of a vendor whose processors have RAPL.
    #[serde(skip)]
    pub(super) may_have_rapl: bool,
    /// Whether it reports a hypervisor; `None`: it would not, as on Arm.
    #[serde(skip)]
    pub(super) has_hypervisor: Option<bool>,
}

/// Which versions of control groups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cgroups {
    /// None.
    None,
    V1,
    V2,
    /// Controllers in v1, and v2 beside them without any.
    Hybrid,
}

impl System {
    /// Reads `/proc`, `/sys`, `/etc` and `/run` below `root`.
    pub(super) fn read(root: &Path) -> Self {
        let processor = Processor::parse(&text(root, "proc/cpuinfo"));
        let number = |file: &str| text(root, &format!("proc/sys/kernel/{file}"));
        let architecture = match number("arch") {
            unknown if unknown.is_empty() => std::env::consts::ARCH.to_owned(),
            known => known,
        };
        Self {
            distribution: Distribution::read(root),
            kernel: number("osrelease"),
            architecture,
            virtualisation: Virtualisation::read(root, processor.has_hypervisor),
            processor,
            cgroups: Cgroups::parse(&text(root, "proc/self/mounts")),
            perf_event_paranoid: number("perf_event_paranoid").parse().ok(),
            unprivileged_bpf_disabled: number("unprivileged_bpf_disabled").parse().ok(),
        }
    }
}

impl Processor {
    fn parse(cpuinfo: &str) -> Self {
        let fields = || cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let fields = || fields().map(|(key, value)| (key.trim_end(), value.trim()));
        let first = |wanted: &str| fields().find(|(key, _)| *key == wanted).map(|(_, value)| value);
        let vendor = first("vendor_id");
        Self {
            model: first("model name").or_else(|| first("Model")).unwrap_or_default().to_owned(),
            cpus: fields().filter(|(key, _)| *key == "processor").count(),
            may_have_rapl: matches!(vendor, Some("GenuineIntel" | "AuthenticAMD" | "HygonGenuine")),
            has_hypervisor: first("flags").map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }
}

impl Cgroups {
    fn parse(mounts: &str) -> Self {
        let is_mounted = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
        match (is_mounted("cgroup"), is_mounted("cgroup2")) {
            (false, false) => Cgroups::None,
            (true, false) => Cgroups::V1,
            (false, true) => Cgroups::V2,
            (true, true) => Cgroups::Hybrid,
        }
    }
}

/// The content of a file without white space at its ends; empty if it cannot be read.
pub(super) fn text(root: &Path, path: &str) -> String {
    let bytes = fs::read(root.join(path)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Files below a root, for tests.
#[cfg(test)]
pub(super) fn files(all: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in all {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_read_from_files_below_a_root() {
        let cpuinfo = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Gold 6130\n\
                       flags\t\t: fpu vme hypervisors\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\n";
        let root = files(&[
            ("proc/cpuinfo", cpuinfo),
            ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
            ("proc/sys/kernel/arch", "x86_64\n"),
            ("proc/sys/kernel/perf_event_paranoid", "-1\n"),
            ("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"),
        ]);
        let system = System::read(root.path());
        assert_eq!((&*system.kernel, &*system.architecture), ("6.1.0-18-amd64", "x86_64"));
        assert_eq!(system.processor.model, "Intel(R) Xeon(R) Gold 6130");
        assert_eq!((system.processor.cpus, system.processor.may_have_rapl), (2, true));
        assert_eq!((system.perf_event_paranoid, system.unprivileged_bpf_disabled), (Some(-1), None));
        assert_eq!((system.cgroups, system.virtualisation.machine), (Cgroups::V2, None));
    }

    #[test]
    fn an_arm_board_has_no_rapl_and_says_nothing_of_a_hypervisor() {
        let cpuinfo = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5\n";
        let processor = Processor::parse(cpuinfo);
        assert_eq!((&*processor.model, processor.cpus), ("Raspberry Pi 5", 1));
        assert_eq!((processor.may_have_rapl, processor.has_hypervisor), (false, None));
    }

    #[test]
    fn control_groups_of_both_versions_are_a_hybrid() {
        let v1 = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n";
        let v2 = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(Cgroups::parse(""), Cgroups::None);
        assert_eq!(Cgroups::parse(v1), Cgroups::V1);
        assert_eq!(Cgroups::parse(&[v1, v2].concat()), Cgroups::Hybrid);
    }
}
