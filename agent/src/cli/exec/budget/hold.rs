//! Pauses, slows down and stops the command: by a cgroup of its own where one can be created, otherwise by
//! signals to its processes.

use std::collections::HashSet;
use std::fs::{self, File};

use rustix::process::{Pid, Signal, kill_process};
use tracing::debug;
use wattrace_cgroup::{CpuLimit, ScopedCgroup};
use wattrace_procfs::Procfs;
use wattrace_procfs::namespace::pids_are_private;

/// CPUs that a command gets when its budget is used up and it is slowed down.
const SLOW: f64 = 0.05;

/// Rounds in which processes are looked for: each finds those that were forked meanwhile.
const ROUNDS: usize = 16;

/// What holds the command.
pub(super) enum Hold {
    /// A cgroup of its own.
    Cgroup(ScopedCgroup, Option<CpuLimit>),
    /// Signals to its processes.
    Signals {
        /// The pid of its first process; 0: it does not run yet.
        first: u32,
        /// The processes that were paused.
        paused: HashSet<u32>,
    },
}

impl Hold {
    /// A cgroup if possible.
    pub(super) fn open() -> Self {
        match create() {
            Ok(cgroup) => Hold::Cgroup(cgroup, None),
            Err(e) => {
                debug!("the command gets no cgroup of its own: {e}; it is stopped by signals");
                Self::signals()
            }
        }
    }

    pub(super) fn signals() -> Self {
        Hold::Signals { first: 0, paused: HashSet::new() }
    }

    /// A cgroup whose CPU time can be limited.
    ///
    /// # Errors
    /// There is none; the message has the remedy.
    pub(super) fn limited() -> Result<Self, String> {
        let limited = create().and_then(|scoped| {
            let limit = CpuLimit::of(scoped.cgroup().clone())?;
            Ok(Hold::Cgroup(scoped, Some(limit)))
        });
        limited.map_err(|e| {
            format!(
                "--on-budget throttle needs a cgroup v2 whose controller `cpu` is enabled ({e}): run it \
                 under `systemd-run --scope -p Delegate=yes` (with --user if you are not root), or use \
                 --on-budget stop"
            )
        })
    }

    /// How it holds the command.
    pub(super) fn means(&self) -> &'static str {
        match self {
            Hold::Cgroup(..) => "cgroup",
            Hold::Signals { .. } => "signals",
        }
    }

    /// What the command writes `0` to, to be in the cgroup.
    pub(super) fn to_join(&self) -> Option<File> {
        match self {
            Hold::Cgroup(scoped, _) => scoped.cgroup().to_join().ok(),
            Hold::Signals { .. } => None,
        }
    }

    /// The path of the cgroup.
    pub(super) fn cgroup(&self) -> Option<&str> {
        match self {
            Hold::Cgroup(scoped, _) => Some(scoped.path()),
            Hold::Signals { .. } => None,
        }
    }

    /// The command runs as process `pid`.
    pub(super) fn begin(&mut self, pid: u32) {
        if let Hold::Signals { first, .. } = self {
            *first = pid;
        }
    }

    /// Lets none of its processes run. `known` are those that have been seen, by their pids in the initial
    /// namespace.
    pub(super) fn pause(&mut self, known: impl FnOnce() -> Vec<u32>) {
        match self {
            Hold::Cgroup(scoped, _) => report("paused", scoped.cgroup().freeze(true)),
            Hold::Signals { first, paused } => signal_all(*first, known(), Signal::STOP, paused),
        }
    }

    /// Lets them run again.
    pub(super) fn resume(&mut self) {
        match self {
            Hold::Cgroup(scoped, _) => report("resumed", scoped.cgroup().freeze(false)),
            Hold::Signals { paused, .. } => paused.drain().for_each(|pid| signal(pid, Signal::CONT)),
        }
    }

    /// Asks its processes to end. They are paused, and do so when they are resumed.
    pub(super) fn terminate(&self) {
        match self {
            Hold::Cgroup(scoped, _) => report("asked to end", scoped.cgroup().signal(Signal::TERM)),
            Hold::Signals { paused, .. } => paused.iter().for_each(|&pid| signal(pid, Signal::TERM)),
        }
    }

    /// Whether it has processes that have not exited, as far as is known.
    pub(super) fn has_processes(&self, known: impl FnOnce() -> Vec<u32>) -> bool {
        match self {
            Hold::Cgroup(scoped, _) => {
                let cgroups = scoped.cgroup().subtree();
                cgroups.iter().any(|cgroup| cgroup.processes().is_ok_and(|pids| !pids.is_empty()))
            }
            Hold::Signals { first, .. } => {
                let lives = |pid| Procfs::default().stat(pid).is_some_and(|stat| !stat.is_zombie());
                lives(*first) || (!pids_are_private() && known().into_iter().any(lives))
            }
        }
    }

    /// Ends its processes.
    pub(super) fn kill(&self, known: impl FnOnce() -> Vec<u32>) {
        match self {
            Hold::Cgroup(scoped, _) => report("killed", scoped.cgroup().kill()),
            Hold::Signals { first, .. } => signal_all(*first, known(), Signal::KILL, &mut HashSet::new()),
        }
    }

    /// Limits it to [`SLOW`] CPUs.
    ///
    /// # Errors
    /// It has no cgroup whose CPU time can be limited.
    pub(super) fn throttle(&mut self) -> std::io::Result<()> {
        match self {
            Hold::Cgroup(_, Some(limit)) => limit.set(SLOW),
            _ => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }
}

fn create() -> std::io::Result<ScopedCgroup> {
    ScopedCgroup::create(&format!("wattrace-exec-{}", std::process::id()))
}

fn report(what: &str, result: std::io::Result<()>) {
    if let Err(e) = result {
        tracing::warn!("the command could not be {what}: {e}");
    }
}

fn signal(pid: u32, signal: Signal) {
    // An error means that it is gone, or belongs to another user.
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// Signals the process `first`, its descendants, and the processes in `known` that descend from it through
/// parents that have exited. Adds them to `done`; those in it are left out.
fn signal_all(first: u32, known: Vec<u32>, number: Signal, done: &mut HashSet<u32>) {
    // In another namespace, those are other processes.
    let known = if pids_are_private() { Vec::new() } else { known };
    for _ in 0..ROUNDS {
        let mut found = vec![first];
        found.extend(&known);
        let mut next = 0;
        while let Some(&pid) = found.get(next) {
            next += 1;
            found.extend(children(pid));
        }
        let before = done.len();
        for pid in found {
            if done.insert(pid) {
                signal(pid, number);
            }
        }
        if done.len() == before {
            return;
        }
    }
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

impl Drop for Hold {
    fn drop(&mut self) {
        // What outlives the command goes on.
        self.resume();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    /// Waits until all of `pids` are in `state`.
    fn until(state: char, pids: &[u32]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_so = |&pid: &u32| Procfs::default().stat(pid).is_some_and(|stat| stat.state == state);
        while !pids.iter().all(is_so) {
            assert!(Instant::now() < deadline, "{pids:?} are not all {state}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn without_a_cgroup_a_tree_is_paused_resumed_and_killed_by_signals() {
        let mut child = Command::new("sh").args(["-c", "sleep 100 & wait"]).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while children(child.id()).is_empty() {
            assert!(Instant::now() < deadline, "the shell has no child");
        }
        let tree = [child.id(), children(child.id())[0]];
        let mut hold = Hold::signals();
        hold.begin(child.id());
        hold.pause(Vec::new);
        until('T', &tree);
        hold.resume();
        until('S', &tree);
        assert!(hold.has_processes(Vec::new));
        hold.kill(Vec::new);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(!hold.has_processes(Vec::new));
    }
}
