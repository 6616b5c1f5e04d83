//! What the kernel and our permissions must offer. Each requirement is checked separately and has a remedy.
//! `wattrace doctor` shows the list. Loading reports the first one that is not met, rather than an errno.

use std::fs;
use std::path::Path;

use wattrace_api::{Finding, Verdict, privilege};

use crate::kernel::{KernelMemory, readable_kernel_memory, runs_programs_on_a_cpu};
use crate::namespaces::Namespaces;

/// The facts that the checks use, so that they can be tested without another kernel.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Whether the kernel runs a program on a CPU of our choice, as closing a CPU's ledger needs. `None`:
    /// that cannot be tried.
    pub runs_on_a_cpu: Option<bool>,
    /// Whether `/sys/kernel/btf/vmlinux` exists.
    pub btf: bool,
    /// What programs may read of the kernel's memory. `None`: that cannot be tried.
    pub kernel_memory: Option<KernelMemory>,
    /// `/sys/kernel/security/lockdown`: the modes, that in force in brackets. Empty: securityfs is not
    /// mounted.
    pub lockdown: String,
    /// Whether the kernel is a real-time one (`CONFIG_PREEMPT_RT`).
    pub realtime: bool,
    /// Effective capabilities of this process, as a bit set (`CapEff`).
    pub capabilities: u64,
    /// The namespaces in which this process runs.
    pub namespaces: Namespaces,
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
        // Those that the executable's file gives become effective when they are needed.
        let set = if privilege::is_limited() { "CapPrm:" } else { "CapEff:" };
        let capabilities = status.lines().find_map(|l| l.strip_prefix(set));
        let mounts = read("/proc/mounts");
        let mount = |line: &str| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?.to_string();
            Some((fields.next()?.to_string(), point))
        };
        Self {
            release: read("/proc/sys/kernel/osrelease").trim().to_string(),
            runs_on_a_cpu: runs_programs_on_a_cpu(),
            btf: Path::new(BTF_PATH).exists(),
            kernel_memory: readable_kernel_memory(),
            lockdown: read("/sys/kernel/security/lockdown").trim().to_string(),
            realtime: read("/sys/kernel/realtime").trim() == "1",
            capabilities: capabilities.and_then(|c| u64::from_str_radix(c.trim(), 16).ok()).unwrap_or(0),
            namespaces: Namespaces::gather(),
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

    /// Whether the kernel has what is needed: by a try where one is possible, otherwise by its version.
    fn is_recent_enough(&self) -> bool {
        let by_version = || version(&self.release).is_some_and(|v| v >= (5, 10)) || self.has_backports();
        self.runs_on_a_cpu.unwrap_or_else(by_version)
    }

    /// Whether its version says little: RHEL 8 and its derivatives have the BPF of later kernels.
    fn has_backports(&self) -> bool {
        self.release.contains(".el8") && version(&self.release) == Some((4, 18))
    }

    /// What is found of the kernel's version.
    fn describe_kernel(&self) -> String {
        let release = &self.release;
        let is_old = version(release).is_none_or(|v| v < (5, 10));
        match (self.is_recent_enough(), self.has_backports()) {
            (true, _) if is_old => format!("kernel {release}, with the BPF of a later one"),
            (false, true) => {
                format!("kernel {release}: RHEL 8, whose BPF is that of later kernels only since 8.5")
            }
            _ => format!("kernel {release}"),
        }
    }

    fn kernel_memory(&self) -> KernelMemory {
        let by_file = || match self.lockdown.contains("[confidentiality]") {
            true => KernelMemory::Typed,
            false => KernelMemory::All,
        };
        self.kernel_memory.unwrap_or_else(by_file)
    }

    /// Whether programs may read the kernel's memory by helpers, and so text in it.
    pub(crate) fn reads_kernel_memory(&self) -> bool {
        self.kernel_memory() == KernelMemory::All
    }

    /// What is found of the lockdown, and what it leaves.
    fn describe_kernel_memory(&self) -> String {
        let mode = match &*self.lockdown {
            "" if self.reads_kernel_memory() => "no lockdown".to_owned(),
            "" => "forbidden, as lockdown=confidentiality does".to_owned(),
            modes => format!("lockdown: {modes}"),
        };
        match self.kernel_memory() {
            KernelMemory::Typed if self.btf => {
                format!(
                    "{mode}: paths are looked up, so those of very short processes stay unknown, and \
                     there are no command lines"
                )
            }
            _ => mode,
        }
    }

    fn can(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }
}

/// The running kernel's type information.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// A finding: what is needed, or only useful, and is `met` or not.
fn entry(what: &str, needed: bool, met: bool, found: String, remedy: &str) -> Finding {
    Finding {
        what: what.to_string(),
        verdict: match (met, needed) {
            (true, _) => Verdict::Ok,
            (false, true) => Verdict::Missing,
            (false, false) => Verdict::Optional,
        },
        found,
        remedy: if met { String::new() } else { remedy.to_string() },
    }
}

/// Checks each requirement.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let (denied, permission) = facts.namespaces.without_permission();
    let may_load = facts.can(CAP_SYS_ADMIN) || facts.can(CAP_BPF) && facts.can(CAP_PERFMON);
    let bpf = may_load && !facts.namespaces.private_users;
    let proc = facts.can(CAP_SYS_PTRACE) && facts.can(CAP_DAC_READ_SEARCH);
    let mut all = vec![
        entry(
            "kernel 5.10 or later",
            true,
            facts.is_recent_enough(),
            facts.describe_kernel(),
            "boot a kernel of version 5.10 or later (RHEL 8: update it): older ones cannot close a CPU's \
             ledger on request",
        ),
        entry(
            "kernel memory that programs may read",
            // By types, all that accounting needs can be read.
            facts.kernel_memory() == KernelMemory::Nothing || !facts.btf,
            facts.reads_kernel_memory(),
            facts.describe_kernel_memory(),
            "boot with lockdown=integrity on the kernel's command line: with lockdown=confidentiality the \
             kernel forbids eBPF programs, root's too, to read its memory",
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
            if bpf { "CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN" } else { denied }.into(),
            permission,
        ),
        entry(
            "the host's process ids",
            false,
            !facts.namespaces.private_pids,
            facts.namespaces.describe_pids().into(),
            "start the container with `--pid=host` (Docker, Podman) or `hostPID: true` (Kubernetes)",
        ),
        entry(
            "permission to read other users' /proc and cgroup paths",
            false,
            proc,
            if proc { "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH" } else { "not root: some paths stay empty" }
                .into(),
            "run with sudo, or add cap_sys_ptrace,cap_dac_read_search with setcap",
        ),
    ];
    all.extend(file_systems(facts));
    all
}

/// File systems that wattrace does not need and other tools do.
fn file_systems(facts: &Facts) -> [Finding; 2] {
    let mounted = |kind: &str| facts.mounts.iter().find(|(k, _)| k == kind).map(|(_, point)| point.clone());
    let at =
        |point: &Option<String>| point.as_ref().map_or("not mounted".into(), |p| format!("mounted at {p}"));
    let (tracefs, bpffs) = (mounted("tracefs"), mounted("bpf"));
    [
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
            runs_on_a_cpu: None,
            btf: true,
            kernel_memory: None,
            lockdown: String::new(),
            realtime: false,
            capabilities: u64::MAX,
            namespaces: Namespaces::default(),
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
        let without_btf =
            Facts { btf: false, release: "5.10.16.3-microsoft-standard-WSL2".into(), ..facts() };
        let btf = check(&without_btf).into_iter().find(|f| f.what.contains("BTF")).unwrap();
        assert!(
            btf.verdict == Verdict::Optional && btf.remedy.contains("CONFIG_DEBUG_INFO_BTF=y"),
            "{btf:?}"
        );
        assert!(missing(&without_btf).is_empty());
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
    fn a_kernel_with_backports_is_judged_by_a_try() {
        let rhel = |runs_on_a_cpu| {
            let release = "4.18.0-553.16.1.el8_10.x86_64".into();
            let facts = Facts { release, runs_on_a_cpu, ..facts() };
            check(&facts).swap_remove(0)
        };
        assert_eq!(rhel(None).verdict, Verdict::Ok, "the permission is missing, not the kernel");
        let tried = rhel(Some(true));
        assert!(tried.verdict == Verdict::Ok && tried.found.contains("the BPF of a later one"), "{tried:?}");
        let old = rhel(Some(false));
        assert!(old.verdict == Verdict::Missing && old.found.contains("RHEL 8"), "{old:?}");
        let other = Facts { release: "5.4.0".into(), runs_on_a_cpu: Some(true), ..facts() };
        assert!(missing(&other).is_empty());
        let broken = Facts { runs_on_a_cpu: Some(false), ..facts() };
        assert_eq!(missing(&broken), ["kernel 5.10 or later"]);
    }

    #[test]
    fn in_a_container_the_remedy_is_that_of_a_container() {
        let in_namespaces = |capabilities, namespaces| {
            let facts = Facts { capabilities, namespaces, ..facts() };
            let all = check(&facts);
            let find = |what: &str| all.iter().find(|f| f.what.contains(what)).cloned().unwrap();
            (find("load eBPF"), find("process ids"))
        };
        let usual = Namespaces::default();
        let (user, pids) = in_namespaces(0, usual);
        assert!(user.remedy.contains("sudo setcap") && pids.verdict == Verdict::Ok, "{user:?} {pids:?}");
        let (root, _) = in_namespaces(0, Namespaces { is_root: true, ..usual });
        assert!(root.remedy.contains("--cap-add BPF") && !root.remedy.contains("sudo"), "{root:?}");
        let (users, _) = in_namespaces(u64::MAX, Namespaces { is_root: true, private_users: true, ..usual });
        assert_eq!(users.verdict, Verdict::Missing, "all capabilities, and none that counts");
        assert!(users.found.contains("user namespace"), "{users:?}");
        let (allowed, pids) = in_namespaces(u64::MAX, Namespaces { private_pids: true, ..usual });
        assert_eq!((allowed.verdict, pids.verdict), (Verdict::Ok, Verdict::Optional));
        assert!(pids.remedy.contains("--pid=host"), "{pids:?}");
    }

    #[test]
    fn a_lockdown_that_hides_kernel_memory_is_named_with_the_mode_that_does_not() {
        let of = |facts: &Facts| check(facts).into_iter().find(|f| f.what.contains("kernel memory")).unwrap();
        let under = |lockdown: &str| Facts { lockdown: lockdown.into(), ..facts() };
        for modes in ["", "[none] integrity confidentiality", "none [integrity] confidentiality"] {
            assert_eq!(of(&under(modes)).verdict, Verdict::Ok, "{modes}");
        }
        let strict = under("none integrity [confidentiality]");
        let found = of(&strict);
        assert_eq!(found.verdict, Verdict::Optional, "what accounting needs is read by its type");
        assert!(found.remedy.contains("lockdown=integrity"), "{found:?}");
        assert!(found.found.contains("[confidentiality]: paths are looked up"), "{found:?}");
        let without_types = of(&Facts { btf: false, ..strict.clone() });
        assert_eq!(without_types.verdict, Verdict::Missing);
        // What was tried counts, not what a file says, which may be missing.
        let tried = |memory, facts: &Facts| of(&Facts { kernel_memory: Some(memory), ..facts.clone() });
        assert_eq!(tried(KernelMemory::Nothing, &strict).verdict, Verdict::Missing, "Linux before 5.11");
        let unmounted = tried(KernelMemory::Typed, &facts());
        assert_eq!(unmounted.verdict, Verdict::Optional);
        assert!(unmounted.found.starts_with("forbidden"), "{unmounted:?}");
        assert_eq!(tried(KernelMemory::All, &facts()).found, "no lockdown");
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
