//! What happened to processes and cgroups: a ring of [`Event`]s per CPU, and a ring of [`Path`]s for those
//! that name one. The CPU never waits for the reader: it overwrites the oldest. It counts what it has
//! written, so that the reader knows which events are whole, and how many it missed.
//!
//! Not the kernel's ring buffer: its lock is shared by all CPUs, and before 6.12 sleeps on a real-time
//! kernel.

use crate::COMM_LEN;

/// Bytes kept of a path.
pub const PATH_LEN: usize = 240;
/// Bytes kept of a command line.
pub const ARGUMENTS_LEN: usize = 256;

/// What happened. The value of [`Event::kind`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A process was forked. Threads are not told of: a ledger's entry names its process.
    Fork = 1,
    /// A process executed a program, whose path is at [`Event::path`].
    Exec = 2,
    /// The last thread of a process is exiting. It may be charged for a little more after this.
    Exit = 3,
    /// A cgroup was made: [`Event::cgroup`], whose path is at [`Event::path`].
    Cgroup = 4,
    /// A thread is exiting that is not the last of its process: the one that [`Event::parent_pid`] and
    /// [`Event::parent_start`] name. Told only where asked for.
    ThreadExit = 5,
}

/// How much a CPU has logged: element of the map `LOGGED`, by CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Logged {
    /// Events, whole ones.
    pub events: u64,
    /// Paths, whole ones.
    pub paths: u64,
}

/// Element of the map `EVENTS`: number `n` of CPU `c` lies at `c × events per CPU + n % events per CPU`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// An [`EventKind`].
    pub kind: u32,
    /// The process.
    pub pid: u32,
    /// When its leader was started (`CLOCK_BOOTTIME`, ns).
    pub start: u64,
    /// When this happened (`CLOCK_MONOTONIC`, ns).
    pub at_ns: u64,
    /// Who forked it (`Fork`); the thread (`ThreadExit`).
    pub parent_pid: u32,
    /// Its status as `wait` gives it (`Exit`).
    pub wait_status: u32,
    /// When the parent's leader (`Fork`) or the thread (`ThreadExit`) was started (`CLOCK_BOOTTIME`, ns).
    pub parent_start: u64,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Number of its path on this CPU (`Exec`, `Cgroup`).
    pub path: u64,
    /// Name of the thread that did it.
    pub comm: [u8; COMM_LEN],
    /// The real user id of who did it (`Fork`: of the parent, and so of the child).
    pub uid: u32,
    /// Keeps elements of 8 bytes' size.
    pub reserved: u32,
}

/// Element of the map `PATHS`: number `n` of CPU `c` lies at `c × paths per CPU + n % paths per CPU`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// As it was given to `execve`, or below its hierarchy's root for a cgroup; zero-terminated, cut to fit.
    pub bytes: [u8; PATH_LEN],
    /// Bytes used in the element of the map `ARGUMENTS` at the same place.
    pub arguments_len: u32,
    /// Keeps elements of 8 bytes' size.
    pub reserved: u32,
}

/// Element of the map `ARGUMENTS`: the beginning of a command line, each argument ended by a zero.
pub type Arguments = [u8; ARGUMENTS_LEN];

const _: () = {
    assert!(size_of::<Event>() == 80);
    assert!(size_of::<Path>() == 248);
};
