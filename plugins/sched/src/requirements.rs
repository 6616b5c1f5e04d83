//! What the kernel and our permissions must offer. Each requirement is checked separately and has a remedy.
//! `wattrace doctor` shows the list. Loading reports the first one that is not met, rather than an errno.

use std::fs;
use std::path::Path;

use wattrace_api::{Finding, Verdict};

/// The facts that the checks use, so that they can be tested without another kernel.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Whether `/sys/kernel/btf/vmlinux` exists.
    pub btf: bool,
    /// Whether the kernel is a real-time one (`CONFIG_PREEMPT_RT`).
    pub realtime: bool,
    /// Effective capabilities of this process, as a bit set (`CapEff`).
    pub capabilities: u64,
    /// File system types and mount points (`/proc/mounts`).
    pub mounts: Vec<(String, String)>,
    /// The most threads that can exist at once: the minimum of `pid_max` and `threads-max`.
    pub most_threads: usize,
}

const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

impl Facts {
    /// Reads them from the running system.
    pub fn gather() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let capabilities = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
        let mounts = read("/proc/mounts");
        let mount = |line: &str| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?.to_string();
            Some((fields.next()?.to_string(), point))
        };
        Self {
            release: read("/proc/sys/kernel/osrelease").trim().to_string(),
            btf: Path::new(BTF_PATH).exists(),
            realtime: read("/sys/kernel/realtime").trim() == "1",
            capabilities: capabilities.and_then(|c| u64::from_str_radix(c.trim(), 16).ok()).unwrap_or(0),
            mounts: mounts.lines().filter_map(mount).collect(),
            most_threads: ["pid_max", "threads-max"]
                .iter()
                .filter_map(|file| read(&format!("/proc/sys/kernel/{file}")).trim().parse().ok())
                .min()
                .unwrap_or(usize::MAX),
        }
    }

    /// Whether the kernel's ring buffer may be used. Before 6.12 its lock sleeps on a real-time kernel. Only
    /// log messages (`aya-log`) use it, which are off on such kernels.
    pub(crate) fn ring_buffer_is_safe(&self) -> bool {
        !self.realtime || version(&self.release).is_some_and(|v| v >= (6, 12))
    }

    fn can(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }
}

/// The running kernel's type information.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Checks each requirement.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let entry = |what: &str, needed, met, found: String, remedy: &str| Finding {
        what: what.to_string(),
        verdict: match (met, needed) {
            (true, _) => Verdict::Ok,
            (false, true) => Verdict::Missing,
            (false, false) => Verdict::Optional,
        },
        found,
        remedy: if met { String::new() } else { remedy.to_string() },
    };
    let mounted = |kind: &str| facts.mounts.iter().find(|(k, _)| k == kind).map(|(_, point)| point.clone());
    let at =
        |point: &Option<String>| point.as_ref().map_or("not mounted".into(), |p| format!("mounted at {p}"));
    let (tracefs, bpffs) = (mounted("tracefs"), mounted("bpf"));
    let bpf = facts.can(CAP_SYS_ADMIN) || facts.can(CAP_BPF) && facts.can(CAP_PERFMON);
    let proc = facts.can(CAP_SYS_PTRACE) && facts.can(CAP_DAC_READ_SEARCH);
    vec![
        entry(
            "kernel 5.10 or later",
            true,
            version(&facts.release).is_some_and(|v| v >= (5, 10)),
            format!("kernel {}", facts.release),
            "boot a kernel of version 5.10 or later: older ones cannot close a CPU's ledger on request",
        ),
        entry(
            "kernel type information (BTF)",
            false,
            facts.btf,
            format!(
                "{BTF_PATH} is {}",
                if facts.btf {
                    "present"
                } else {
                    "missing: tracing costs more, and has no paths and command lines"
                }
            ),
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (those of Debian 11, Ubuntu 20.10, Fedora 31, \
             RHEL 8.2 and later are), and make sure that /sys is mounted",
        ),
        entry(
            "permission to load eBPF programs",
            true,
            bpf,
            if bpf {
                "CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN"
            } else {
                "neither root nor CAP_BPF with CAP_PERFMON"
            }
            .into(),
            "run with sudo, or once: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep \
             $(command -v wattrace)",
        ),
        entry(
            "permission to read other users' /proc and cgroup paths",
            false,
            proc,
            if proc { "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH" } else { "not root: some paths stay empty" }
                .into(),
            "run with sudo, or add cap_sys_ptrace,cap_dac_read_search with setcap",
        ),
        entry(
            "tracefs",
            false,
            tracefs.is_some(),
            format!("{} (wattrace works without it; perf and bpftrace need it)", at(&tracefs)),
            "sudo mount -t tracefs tracefs /sys/kernel/tracing",
        ),
        entry(
            "bpffs",
            false,
            bpffs.is_some(),
            format!("{} (wattrace works without it; pinned maps and programs need it)", at(&bpffs)),
            "sudo mount -t bpf bpf /sys/fs/bpf",
        ),
    ]
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            release: "6.1.0-18-amd64".into(),
            btf: true,
            realtime: false,
            capabilities: u64::MAX,
            mounts: vec![],
            most_threads: 32768,
        }
    }

    fn missing(facts: &Facts) -> Vec<String> {
        check(facts).into_iter().filter(|f| f.verdict == Verdict::Missing).map(|f| f.what).collect()
    }

    #[test]
    fn each_missing_piece_is_named_with_a_remedy() {
        assert!(missing(&facts()).is_empty());
        for (old, new) in [("5.9.16", "5.10.0"), ("4.19.0", "5.10.0-rc1"), ("nonsense", "6.1")] {
            assert_eq!(missing(&Facts { release: old.into(), ..facts() }), ["kernel 5.10 or later"]);
            assert!(missing(&Facts { release: new.into(), ..facts() }).is_empty());
        }
        let safe = |realtime, release: &str| {
            Facts { release: release.into(), realtime, ..facts() }.ring_buffer_is_safe()
        };
        assert_eq!((safe(true, "6.11.9"), safe(true, "6.12.0"), safe(false, "5.10.0")), (false, true, true));
        assert!(missing(&Facts { btf: false, ..facts() }).is_empty(), "it is optional");
        let only = |bits: &[u32]| bits.iter().map(|b| 1u64 << b).sum();
        let caps = |bits: &[u32]| Facts { capabilities: only(bits), ..facts() };
        assert!(missing(&caps(&[CAP_SYS_ADMIN])).is_empty());
        assert!(missing(&caps(&[CAP_BPF, CAP_PERFMON])).is_empty());
        assert_eq!(missing(&caps(&[CAP_BPF])), ["permission to load eBPF programs"]);
        for r in check(&caps(&[])) {
            assert_eq!(r.verdict == Verdict::Ok, r.remedy.is_empty(), "{r:?}");
        }
    }

    #[test]
    fn an_unmounted_file_system_is_reported_but_not_required() {
        let find = |f: &Facts, what| check(f).into_iter().find(|r| r.what == what).unwrap();
        let absent = find(&facts(), "tracefs");
        assert!(absent.verdict == Verdict::Optional && absent.remedy.contains("mount -t tracefs"));
        let mounts =
            vec![("tracefs".into(), "/sys/kernel/tracing".into()), ("bpf".into(), "/sys/fs/bpf".into())];
        let there = Facts { mounts, ..facts() };
        assert!(
            find(&there, "tracefs").found.contains("/sys/kernel/tracing")
                && find(&there, "bpffs").verdict == Verdict::Ok
        );
    }
}
