//! What ran. Each CPU keeps a ledger of its own, written by that CPU alone, in two pages. The open page takes
//! charges: at every context switch the slice that ends goes to the [`Entry`] of the thread that ran, to
//! [`Page::idle_ns`] for the idle task, or to [`Page::overflow_ns`] when the page has no entry left. A flush,
//! run on that same CPU, charges the running slice, closes the page and opens the other. The reader then
//! reads the closed page at leisure, through a memory map, while the CPU goes on writing the other one. So on
//! each page, by construction,
//!
//! ```text
//! idle_ns + irq_ns + overflow_ns + Σ entries' ns = end_ns − start_ns,    and  start_ns = the previous page's end_ns.
//! ```

use crate::COMM_LEN;
use crate::counters::Starts;

/// Ways of the index: how many neighbouring slots are tried before a thread gets a second entry on a page.
pub const INDEX_WAYS: u32 = 4;
/// Index slots per ledger entry, so that few threads share a slot.
pub const INDEX_SLOTS_PER_ENTRY: u32 = 2;
/// In [`Cpu::sibling`]: the CPU has its core to itself.
pub const NO_SIBLING: u32 = u32::MAX;

/// A CPU's ledger: element of the map `CPUS`, indexed by CPU number. User space sets `sibling` and, for a
/// CPU's first page, `first_entry` and `first_slot`, before the programs are attached; from then on the CPU
/// is the only writer.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// When the running slice began (`CLOCK_MONOTONIC`, ns); 0: accounting has not begun on this CPU.
    pub slice_start_ns: u64,
    /// `CLOCK_MONOTONIC` minus the scheduler's clock on this CPU, as of the last comparison; wraps.
    pub clock_offset: u64,
    /// The scheduler's clock at that comparison.
    pub clock_compared: u64,
    /// Number of the open page, from 0. Its parity says in which half of the CPU's stretch of `ENTRIES` the
    /// page lies.
    pub page: u32,
    /// Where in `ENTRIES` the open page begins, and where in `INDEX` this CPU's stretch does: kept here
    /// because the programs look something up at every context switch.
    pub first_entry: u32,
    /// See `first_entry`.
    pub first_slot: u32,
    /// The CPU that shares its core, or [`NO_SIBLING`]. Of more than one, the next.
    pub sibling: u32,
    /// How long this CPU was busy (not idle): see [`Busy`].
    pub busy: Busy,
    /// How long the sibling had been busy when the running slice began.
    pub sibling_busy_ns: u64,
    /// When the running interrupt began; valid while `irq_depth` is not 0.
    pub irq_start_ns: u64,
    /// Interrupt time that is not charged yet: part of the running slice.
    pub irq_pending_ns: u64,
    /// Interrupts nested in each other now.
    pub irq_depth: u32,
    /// Keeps what follows aligned.
    pub reserved: u32,
    /// Events that this CPU had logged at the last flush ([`crate::log`]): the reader knows of them.
    pub events_read: u64,
    /// The page that takes charges.
    pub open: Page,
    /// The page that was closed last: number `page − 1`, in the other half.
    pub closed: Page,
    /// Context switches seen.
    pub switches: u64,
    /// The counters as the running slice began, if anything is counted.
    pub counter_starts: Starts,
}

/// The head of a ledger's page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// First nanosecond charged on this page.
    pub start_ns: u64,
    /// First nanosecond charged on the next page; 0 while open.
    pub end_ns: u64,
    /// Charged to the CPU's idle task.
    pub idle_ns: u64,
    /// Charged to interrupts, where they are told apart.
    pub irq_ns: u64,
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
/// The (tid, start) of thread and process are read from the task itself, so that an entry names its consumer
/// even when every event about it was lost.
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
    /// Of `ns`: while the CPU that shares the core was busy too.
    pub shared_ns: u64,
    /// The thread's name when it first ran on this page.
    pub comm: [u8; COMM_LEN],
}

/// Where on the open page a thread's entry is: element of the map `INDEX`, indexed by the low bits of the
/// thread id in the CPU's stretch of [`INDEX_SLOTS_PER_ENTRY`] slots per entry. A slot with another page's
/// stamp is free, so that nothing has to be wiped when a page is opened.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The page's number plus one, so that a fresh map's zeros are free.
    pub stamp: u32,
    /// The entry's position on the page.
    pub position: u32,
}

/// How long a CPU was busy, as a function of time, in one word: whoever shares the core reads it while it is
/// written. An idle CPU's word is how long it was busy before; a busy one's says since when it would have
/// been, had it never idled.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy(u64);

impl Busy {
    const NOW: u64 = 1 << 63;

    /// How long it was busy until `now`, ns.
    #[inline(always)]
    pub fn until(self, now: u64) -> u64 {
        if self.0 & Self::NOW == 0 { self.0 } else { now.wrapping_sub(self.0 & !Self::NOW) }
    }

    /// The word from `now` on, if the CPU is then busy or not.
    #[inline(always)]
    pub fn turned(self, busy: bool, now: u64) -> Self {
        let ns = self.until(now);
        Self(if busy { now.wrapping_sub(ns) | Self::NOW } else { ns })
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
    fn time_spent_busy_is_read_off_one_word() {
        let idle = Busy::default();
        assert_eq!(idle.until(1_000), 0);
        let busy = idle.turned(true, 1_000);
        assert_eq!((busy.until(1_000), busy.until(1_300)), (0, 300));
        let idle = busy.turned(false, 1_500);
        assert_eq!((idle.until(1_500), idle.until(9_000)), (500, 500));
        assert_eq!(idle.turned(true, 9_000).turned(true, 9_100).until(9_200), 700);
    }
}
