//! Capabilities that the executable's file gives to whoever runs it (`setcap`). They are for the kernel's own
//! files: a path that the user names is opened with the user's rights.
//!
//! The agent calls [`limit`] before it starts any thread. From then on, the capabilities that open files are
//! permitted and not effective, and [`for_kernel_file`] makes them effective around one call, for one thread.

use std::io;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_ambient_set, set_capabilities,
};

/// Whether [`limit`] has found capabilities of the file.
static LIMITED: AtomicBool = AtomicBool::new(false);

/// What opens files that belong to others.
const OF_FILES: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SYS_PTRACE);

/// Files of `/proc/PID` that do not lead elsewhere when they are opened or listed, and `exe`, whose link is
/// only read.
const OF_PROCESSES: [&str; 10] =
    ["stat", "status", "statm", "cgroup", "cmdline", "exe", "fd", "fdinfo", "maps", "smaps_rollup"];

/// Finds out whether the executable's file gave this process capabilities. If so, those that open files
/// become ineffective. Call it before any thread is started: a thread begins with its creator's.
///
/// # Errors
/// The capabilities can be neither read nor set.
pub fn limit() -> io::Result<bool> {
    // Root has its own rights. In a user namespace, capabilities hold only within it.
    if rustix::process::getuid().is_root() {
        return Ok(false);
    }
    let sets = capabilities(None)?;
    // Another user's process has capabilities from its parent (ambient, as systemd gives them), or from its
    // file.
    let of_file = |capability: CapabilitySet| {
        sets.permitted.contains(capability) && !capability_is_in_ambient_set(capability).unwrap_or(false)
    };
    if !sets.permitted.iter().any(of_file) {
        return Ok(false);
    }
    // The file may give them as permitted only, so that it can be run where not all of them may be had.
    set_capabilities(None, CapabilitySets { effective: sets.permitted.difference(OF_FILES), ..sets })?;
    LIMITED.store(true, Relaxed);
    Ok(true)
}

/// Whether this process has its capabilities from the executable's file: the user is not the one who gave
/// them.
pub fn is_limited() -> bool {
    LIMITED.load(Relaxed)
}

/// Calls `f`, which opens `path` or looks at it. If `path` is one of the kernel's own files of processes,
/// devices and cgroups, all capabilities of this process are effective meanwhile. Start no thread in `f`.
pub fn for_kernel_file<T>(path: &Path, f: impl FnOnce() -> T) -> T {
    if !is_limited() || !is_of_kernel(path) {
        return f();
    }
    let _lowered = Raised::now();
    f()
}

/// Whether nobody but the kernel decides what opening `path` opens. `/proc/PID/cwd`, `root` and `fd/N` lead
/// to where a process is, and `..` leads out of a tree.
fn is_of_kernel(path: &Path) -> bool {
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) || path.components().any(|c| c == Component::ParentDir) {
        return false;
    }
    let mut part = || parts.next().and_then(|part| part.as_os_str().to_str()).unwrap_or_default();
    match (part(), part(), part(), part()) {
        ("sys", ..) | ("dev", "cpu", ..) => true,
        ("proc", pid, file, below) => {
            let is_process = pid == "self" || !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
            is_process && OF_PROCESSES.contains(&file) && (file != "fd" || below.is_empty())
        }
        _ => false,
    }
}

/// Capabilities of this thread that are effective until this is dropped.
struct Raised(CapabilitySets);

impl Raised {
    /// `None`: they cannot be changed, and the file is opened without them.
    fn now() -> Option<Self> {
        let sets = capabilities(None).ok()?;
        let effective = sets.effective.union(sets.permitted.intersection(OF_FILES));
        set_capabilities(None, CapabilitySets { effective, ..sets }).ok()?;
        Some(Self(sets))
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        // A thread may always give up what it has.
        let _ = set_capabilities(None, self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_kernel_are_opened_with_more_rights() {
        for (path, expected) in [
            ("/sys/class/powercap/intel-rapl:0/energy_uj", true),
            ("/sys/fs/cgroup", true),
            ("/dev/cpu/3/msr", true),
            ("/proc/12/exe", true),
            ("/proc/12/fdinfo/7", true),
            ("/proc/12/fd", true),
            ("/proc/self/cgroup", true),
            ("/proc/12/fd/7", false),
            ("/proc/12/cwd/1/fd", false),
            ("/proc/12/root/etc/shadow", false),
            ("/proc/12/environ", false),
            ("/proc/12/task/12/cwd", false),
            ("/proc/kcore", false),
            ("/proc", false),
            ("/sys/../root/secret", false),
            ("/tmp/sys/class", false),
            ("sys/class", false),
            ("/dev/mem", false),
            ("/root/secret.txt", false),
            ("", false),
        ] {
            assert_eq!(is_of_kernel(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn without_capabilities_of_a_file_nothing_changes() {
        let effective = || capabilities(None).unwrap().effective;
        let before = effective();
        if rustix::process::getuid().is_root() {
            assert!(!limit().unwrap() && !is_limited());
        }
        assert_eq!(for_kernel_file(Path::new("/proc/1/exe"), effective), before);
    }
}
