//! The ABI between the kernel programs (`ebpf/`) and user space (`plugins/sched`): what lies in the shared maps, byte
//! by byte. Both sides compile this file; the assertions at its end pin the layout.
//!
//! # The ledger
//! Each CPU keeps a ledger of its own, written by that CPU alone, in two pages. The open page takes charges: at every
//! context switch the slice that ends goes to the [`Entry`] of the thread that ran, to [`Page::idle_ns`] for the idle
//! task, or to [`Page::overflow_ns`] when the page has no entry left. A flush, run on that same CPU, charges the running
//! slice, closes the page and opens the other. The reader then reads the closed page at leisure, through a memory map,
//! while the CPU goes on writing the other one. So on each page, by construction,
//!
//! ```text
//! idle_ns + overflow_ns + Σ entries' ns = end_ns − start_ns,    and  start_ns = the previous page's end_ns.
//! ```
#![no_std]

/// Bytes of a task's name, with its terminating zero.
pub const COMM_LEN: usize = 16;
/// Bytes kept of an executable's path.
pub const EXE_LEN: usize = 160;
/// Ways of the index: how many neighbouring slots are tried before a thread gets a second entry on a page.
pub const INDEX_WAYS: u32 = 4;
/// Index slots per ledger entry, so that few threads share a slot.
pub const INDEX_SLOTS_PER_ENTRY: u32 = 2;

/// A CPU's ledger: element of the map `CPUS`, indexed by CPU number.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// When the running slice began (`CLOCK_MONOTONIC`, ns); 0: accounting has not begun on this CPU.
    pub slice_start_ns: u64,
    /// Number of the open page. Its parity says in which half of the CPU's stretch of `ENTRIES` the page lies.
    pub page: u32,
    /// Where in `ENTRIES` the open page begins, and where in `INDEX` this CPU's stretch does: kept here because the
    /// programs look something up at every context switch.
    pub first_entry: u32,
    /// See `first_entry`.
    pub first_slot: u32,
    /// Events that found no room in the ring buffer.
    pub events_lost: u32,
    /// The page that takes charges.
    pub open: Page,
    /// The page that was closed last: number `page − 1`, in the other half.
    pub closed: Page,
    /// Context switches seen.
    pub switches: u64,
}

/// The head of a ledger's page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Page {
    /// First nanosecond charged on this page.
    pub start_ns: u64,
    /// First nanosecond charged on the next page; 0 while open.
    pub end_ns: u64,
    /// Charged to the CPU's idle task.
    pub idle_ns: u64,
    /// Charged to threads for which the page had no entry left.
    pub overflow_ns: u64,
    /// Entries in use.
    pub count: u32,
    /// Charges that went to `overflow_ns`.
    pub overflow_count: u32,
}

/// What one thread used of one CPU during one page: element of the map `ENTRIES`. CPU `c`'s pages lie at
/// `(2 c + half) × entries per page`. A thread may have several entries on a page; they add up.
///
/// The (tid, start) of thread and process are read from the task itself, so that an entry names its consumer even
/// when every event about it was lost.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The thread's id in the initial pid namespace.
    pub tid: u32,
    /// Its process's id.
    pub pid: u32,
    /// When the thread was started (`CLOCK_BOOTTIME`, ns): with `tid` its identity.
    pub thread_start: u64,
    /// When its process's leader was started (`CLOCK_BOOTTIME`, ns): with `pid` the process's identity.
    pub process_start: u64,
    /// Its cgroup v2 id when it first ran on this page.
    pub cgroup: u64,
    /// Time charged.
    pub ns: u64,
    /// The thread's name when it first ran on this page.
    pub comm: [u8; COMM_LEN],
    /// Room for what is counted next.
    pub reserved: u64,
}

/// Where on the open page a thread's entry is: element of the map `INDEX`, indexed by the low bits of the thread id in
/// the CPU's stretch of [`INDEX_SLOTS_PER_ENTRY`] slots per entry. A slot with another page's number is free, so that
/// nothing has to be wiped when a page is opened.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The page's number. Pages count from 1, so that a fresh map's zeros are free.
    pub page: u32,
    /// The entry's position on the page.
    pub position: u32,
}

/// What happened to a process. The value of [`Event::kind`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A process was forked. Threads are not told of: a ledger's entry names its process.
    Fork = 1,
    /// A process executed a program; the record is an [`ExecEvent`].
    Exec = 2,
    /// The last thread of a process is exiting. It may be charged for a little more after this.
    Exit = 3,
    /// A ledger's page is nearly full: it wants to be read now rather than at the next tick.
    Pressure = 4,
}

/// A record in the ring buffer `EVENTS`.
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
    /// Who forked it (`Fork`).
    pub parent_pid: u32,
    /// Its status as `wait` gives it (`Exit`).
    pub wait_status: u32,
    /// When the parent's leader was started (`CLOCK_BOOTTIME`, ns; `Fork`).
    pub parent_start: u64,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Name of the thread that did it.
    pub comm: [u8; COMM_LEN],
}

/// A record in the ring buffer `EVENTS` for [`EventKind::Exec`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecEvent {
    /// Who and when.
    pub event: Event,
    /// Path of the program as it was given to `execve`, zero-terminated, cut to fit.
    pub exe: [u8; EXE_LEN],
}

const _: () = {
    assert!(size_of::<Page>() == 40);
    assert!(size_of::<Cpu>() == 128 && align_of::<Cpu>() == 128);
    assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);
    assert!(size_of::<Slot>() == 8);
    assert!(size_of::<Event>() == 64);
    assert!(size_of::<ExecEvent>() == 64 + EXE_LEN);
};
