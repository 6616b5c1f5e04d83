//! The event log: a ring of [`Event`]s per CPU, and a ring of [`Path`]s for the events that have one. A CPU
//! never waits for the reader. It overwrites the oldest record and counts how many it has written, from which
//! the reader knows which records are complete and how many it missed.
//!
//! This is not the kernel's BPF ring buffer, whose lock is shared by all CPUs and, before 6.12, sleeps on a
//! real-time kernel (`docs/decisions/0004-event-log.md`).

use crate::{COMM_LEN, Pod};

/// Bytes kept of a path.
pub const PATH_LEN: usize = 240;
/// Bytes kept of a command line.
pub const ARGUMENTS_LEN: usize = 256;

/// The value of [`Event::kind`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A process was forked. New threads are not logged: a ledger entry names its process.
    Fork = 1,
    /// A process executed the program at [`Event::path`].
    Exec = 2,
    /// The last thread of a process is exiting. It may still be charged for one more slice.
    Exit = 3,
    /// The cgroup [`Event::cgroup`] was created at [`Event::path`].
    Cgroup = 4,
    /// A thread is exiting that is not the last of its process: the one that [`Event::parent_pid`] and
    /// [`Event::parent_start`] identify. Logged only if it is asked for.
    ThreadExit = 5,
}

/// How much a CPU has logged: an element of the map `LOGGED`, indexed by CPU number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Logged {
    /// Complete events.
    pub events: u64,
    /// Complete paths.
    pub paths: u64,
}

// SAFETY: integers, in the layout of C.
unsafe impl Pod for Logged {}

/// Element of the map `EVENTS`. Number `n` of CPU `c` lies at `c × events per CPU + n % events per CPU`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// An [`EventKind`].
    pub kind: u32,
    /// The process.
    pub pid: u32,
    /// When its leader was started (`CLOCK_BOOTTIME`, ns).
    pub start: u64,
    /// When the event happened (`CLOCK_MONOTONIC`, ns).
    pub at_ns: u64,
    /// `Fork`: the parent process. `ThreadExit`: the thread.
    pub parent_pid: u32,
    /// `Exit`: the status that `wait` returns.
    pub wait_status: u32,
    /// When the parent's leader (`Fork`) or the thread (`ThreadExit`) was started (`CLOCK_BOOTTIME`, ns).
    pub parent_start: u64,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// `Exec`, `Cgroup`: number of its path on this CPU.
    pub path: u64,
    /// Name of the current thread.
    pub comm: [u8; COMM_LEN],
    /// The real user id of the current thread. In a `Fork` that is the parent, whose user the child inherits.
    pub uid: u32,
    /// Padding.
    pub reserved: u32,
}

// SAFETY: integers, in the layout of C.
unsafe impl Pod for Event {}

/// Element of the map `PATHS`. Number `n` of CPU `c` lies at `c × paths per CPU + n % paths per CPU`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// As it was given to `execve`, or a cgroup's path below the root of its hierarchy. Zero-terminated, and
    /// cut if it is too long.
    pub bytes: [u8; PATH_LEN],
    /// Bytes used in the element of the map `ARGUMENTS` at the same index.
    pub arguments_len: u32,
    /// Padding.
    pub reserved: u32,
}

// SAFETY: integers, in the layout of C.
unsafe impl Pod for Path {}

/// Element of the map `ARGUMENTS`: the beginning of a command line, each argument terminated by a zero.
pub type Arguments = [u8; ARGUMENTS_LEN];

// SAFETY: an array of integers.
unsafe impl Pod for Arguments {}

const _: () = {
    assert!(size_of::<Event>() == 80);
    assert!(size_of::<Path>() == 248);
};
