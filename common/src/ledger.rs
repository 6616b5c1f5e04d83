//! The ledger: how long each thread ran. Every CPU has one, which that CPU alone writes, in two pages. The
//! open page takes charges: at every context switch the slice that ends is charged to the [`Entry`] of the
//! thread that ran, to [`Page::idle_ns`] if that was the idle task, or to [`Page::overflow_ns`] if the page
//! has no entry left. A flush runs on the same CPU. It charges the running slice, closes the page and opens
//! the other one. The reader then reads the closed page through a memory mapping while the CPU writes the
//! other one. By construction, on each page:
//!
//! ```text
//! idle_ns + irq_ns + overflow_ns + Σ entries' ns = end_ns − start_ns
//! start_ns = end_ns of the previous page
//! ```

use core::cell::Cell;

use crate::counters::{COUNTERS, CounterValue};
use crate::{COMM_LEN, Pod};

/// Ways of the index: how many neighbouring slots are tried before a thread gets a second entry on a page.
pub const INDEX_WAYS: u32 = 4;
/// Index slots per ledger entry. More slots than entries, so that few threads share a slot.
pub const INDEX_SLOTS_PER_ENTRY: u32 = 2;
/// Value of [`Cpu::sibling`] for a CPU that does not share its core.
pub const NO_SIBLING: u32 = u32::MAX;

/// A CPU's ledger: an element of the map `CPUS`, indexed by CPU number. User space sets `sibling` and, for
/// the CPU's first page, `first_entry` and `first_slot`, before it attaches the programs. From then on only
/// programs on that CPU write it.
///
/// The fields are cells because programs on the same CPU nest: an interrupt's program may run in the middle
/// of a flush. No program may hold an exclusive reference to a `Cpu`.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Cpu {
    /// Start of the running slice (`CLOCK_MONOTONIC`, ns). 0: accounting has not begun on this CPU.
    pub slice_start_ns: Cell<u64>,
    /// `CLOCK_MONOTONIC` minus the scheduler's clock on this CPU at the last comparison. Wraps.
    pub clock_offset: Cell<u64>,
    /// The scheduler's clock at that comparison.
    pub clock_compared: Cell<u64>,
    /// Number of the open page, from 0. The page lies in the half of the CPU's part of `ENTRIES` that its
    /// lowest bit selects.
    pub page: Cell<u32>,
    /// Index in `ENTRIES` of the open page's first entry. Stored because programs look up an entry at every
    /// switch.
    pub first_entry: Cell<u32>,
    /// Index in `INDEX` of this CPU's first slot.
    pub first_slot: Cell<u32>,
    /// The CPU that shares the core, or [`NO_SIBLING`]. With more than two threads per core, the next one.
    pub sibling: Cell<u32>,
    /// How long this CPU was busy (not idle). The sibling reads it.
    pub busy: Cell<Busy>,
    /// How long the sibling had been busy at the start of the running slice.
    pub sibling_busy_ns: Cell<u64>,
    /// Start of the running interrupt. Valid while `irq_depth` is not 0.
    pub irq_start_ns: Cell<u64>,
    /// Interrupt time within the running slice that is not charged yet.
    pub irq_pending_ns: Cell<u64>,
    /// How many interrupts are nested in each other now.
    pub irq_depth: Cell<u32>,
    /// Padding.
    pub reserved: u32,
    /// Events that this CPU had logged at the last flush, which the reader therefore knows ([`crate::log`]).
    pub events_read: Cell<u64>,
    /// The page that takes charges.
    pub open: Cell<Page>,
    /// The page that was closed last: number `page − 1`, in the other half.
    pub closed: Cell<Page>,
    /// Context switches seen.
    pub switches: Cell<u64>,
    /// The counters at the start of the running slice, if any are read.
    pub counter_starts: [Cell<CounterValue>; COUNTERS],
}

// SAFETY: the programs of one CPU use an element one at a time or nested, never in parallel. Other CPUs read
// `busy` alone, with a volatile load of one aligned word.
unsafe impl Sync for Cpu {}
// SAFETY: integers, in the layout of C.
unsafe impl Pod for Cpu {}

/// The head of a ledger's page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// First nanosecond charged on this page.
    pub start_ns: u64,
    /// First nanosecond charged on the next page. 0 while this one is open.
    pub end_ns: u64,
    /// Charged to the CPU's idle task.
    pub idle_ns: u64,
    /// Charged to interrupts, if they are accounted separately.
    pub irq_ns: u64,
    /// Charged to threads for which the page had no entry left.
    pub overflow_ns: u64,
    /// Entries in use.
    pub count: u32,
    /// Number of charges to `overflow_ns`.
    pub overflow_count: u32,
}

/// What one thread used of one CPU during one page: an element of the map `ENTRIES`. The pages of CPU `c`
/// begin at `(2 c + half) × entries per page`. A thread may have several entries on a page, which add up.
///
/// The (tid, start) of the thread and of its process are read from the task itself, so an entry identifies
/// its consumer even if every event about it was lost.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The thread's id in the initial pid namespace.
    pub tid: u32,
    /// Its process's id.
    pub pid: u32,
    /// When the thread was started (`CLOCK_BOOTTIME`, ns). With `tid`, its identity.
    pub thread_start: u64,
    /// When its process's leader was started (`CLOCK_BOOTTIME`, ns). With `pid`, the process's identity.
    pub process_start: u64,
    /// Its cgroup v2 id when it first ran on this page.
    pub cgroup: u64,
    /// Time charged.
    pub ns: u64,
    /// The part of `ns` during which the CPU that shares the core was busy too.
    pub shared_ns: u64,
    /// The thread's name when it first ran on this page.
    pub comm: [u8; COMM_LEN],
}

// SAFETY: integers, in the layout of C.
unsafe impl Pod for Entry {}

/// Where a thread's entry is on the open page: an element of the map `INDEX`, addressed by the low bits of
/// the thread id within the CPU's part, which has [`INDEX_SLOTS_PER_ENTRY`] slots per entry. A slot with the
/// stamp of another page is free, so opening a page clears nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The page's number plus one, so that the zeros of a new map are free slots.
    pub stamp: u32,
    /// The entry's position on the page.
    pub position: u32,
}

/// How long a CPU was busy, as a function of time, in one word that the sibling can read while it is written.
/// While the CPU is idle, the word is how long it was busy before. While it is busy, the word is the time at
/// which it would have become busy if it had never been idle since.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy(u64);

impl Busy {
    const IS_BUSY: u64 = 1 << 63;

    /// How long the CPU was busy until `now`, ns.
    #[inline(always)]
    pub fn until(self, now: u64) -> u64 {
        if self.0 & Self::IS_BUSY == 0 { self.0 } else { now.wrapping_sub(self.0 & !Self::IS_BUSY) }
    }

    /// The word for a CPU that is busy or idle from `now` on.
    #[inline(always)]
    pub fn changed_to(self, busy: bool, now: u64) -> Self {
        let ns = self.until(now);
        Self(if busy { now.wrapping_sub(ns) | Self::IS_BUSY } else { ns })
    }
}

const _: () = {
    assert!(size_of::<Page>() == 48);
    assert!(size_of::<Cpu>() == 384 && align_of::<Cpu>() == 128);
    assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);
    assert!(size_of::<Slot>() == 8);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_computed_from_one_word() {
        let idle = Busy::default();
        assert_eq!(idle.until(1_000), 0);
        let busy = idle.changed_to(true, 1_000);
        assert_eq!((busy.until(1_000), busy.until(1_300)), (0, 300));
        let idle = busy.changed_to(false, 1_500);
        assert_eq!((idle.until(1_500), idle.until(9_000)), (500, 500));
        assert_eq!(idle.changed_to(true, 9_000).changed_to(true, 9_100).until(9_200), 700);
    }
}
