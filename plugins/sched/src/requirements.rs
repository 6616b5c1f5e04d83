//! What the kernel and our permissions must offer. Each requirement is checked separately and has a remedy.
//! `wattrace doctor` shows the list. Loading reports the first one that is not met, rather than an errno.

use std::fs;
use std::path::Path;

use wattrace_api::{Finding, Verdict, privilege};
use wattrace_procfs::{real_uid, status_field};

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
    /// The command that installs a newer kernel, where it is known.
    pub kernel_command: Option<String>,
}

const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

impl Facts {
    /// Reads them from the running system.
    pub fn gather() -> Self {
        Self {
            runs_on_a_cpu: runs_programs_on_a_cpu(),
            kernel_memory: readable_kernel_memory(),
            namespaces: Namespaces::gather(),
            ..Self::below(Path::new("/"))
        }
    }

    /// Reads those that are in `/proc` and `/sys` from the directories of these names below `root`, which may
    /// be another machine's. Nothing is tried.
    pub fn below(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let status = read("proc/self/status");
        // Those that the executable's file gives become effective when they are needed.
        let set = if privilege::is_limited() { "CapPrm" } else { "CapEff" };
        let capabilities = status_field(&status, set);
        let mounts = read("proc/mounts");
        let mount = |line: &str| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?.to_string();
            Some((fields.next()?.to_string(), point))
        };
        Self {
            release: read("proc/sys/kernel/osrelease").trim().to_string(),
            runs_on_a_cpu: None,
            btf: root.join(BTF_PATH.trim_start_matches('/')).exists(),
            kernel_memory: None,
            lockdown: read("sys/kernel/security/lockdown").trim().to_string(),
            realtime: read("sys/kernel/realtime").trim() == "1",
            capabilities: capabilities.and_then(|c| u64::from_str_radix(c, 16).ok()).unwrap_or(0),
            namespaces: Namespaces { is_root: real_uid(&status) == Some(0), ..Namespaces::default() },
            mounts: mounts.lines().filter_map(mount).collect(),
            most_threads: ["pid_max", "threads-max"]
                .iter()
                .filter_map(|file| read(&format!("proc/sys/kernel/{file}")).trim().parse().ok())
                .min()
                .unwrap_or(usize::MAX),
            kernel_command: None,
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

    /// `remedy`, with the command that installs a newer kernel.
    fn with_command(&self, remedy: &str) -> String {
        match &self.kernel_command {
            Some(command) => format!("{remedy}: `{command}`, then reboot"),
            None => remedy.to_owned(),
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
    let proc = facts.can(CAP_SYS_PTRACE) && facts.can(CAP_DAC_READ_SEARCH);
    let mut all = vec![
        entry(
            "kernel 5.10 or later",
            true,
            facts.is_recent_enough(),
            facts.describe_kernel(),
            &facts.with_command(
                "boot a kernel of version 5.10 or later (RHEL 8: update it): older ones cannot close a \
                 CPU's ledger on request",
            ),
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
            &facts.with_command(
                "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (those of Debian 11, Ubuntu 20.10, Fedora \
                 31, RHEL 8.2 and later are), and make sure that /sys is mounted",
            ),
        ),
        permission(facts),
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

/// Whether programs may be loaded.
pub(crate) fn permission(facts: &Facts) -> Finding {
    let (denied, remedy) = facts.namespaces.without_permission();
    let may_load = facts.can(CAP_SYS_ADMIN) || facts.can(CAP_BPF) && facts.can(CAP_PERFMON);
    let bpf = may_load && !facts.namespaces.private_users;
    let found = if bpf { "CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN" } else { denied };
    entry("permission to load eBPF programs", true, bpf, found.into(), remedy)
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
mod tests;
