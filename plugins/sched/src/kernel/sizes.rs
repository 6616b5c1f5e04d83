//! The sizes of the maps: as large as is useful within the bound on memory.

use wattrace_common::counters::Counts;
use wattrace_common::ledger::{Entry, INDEX_SLOTS_PER_ENTRY};
use wattrace_common::log::{ARGUMENTS_LEN, Event, Path};
use wattrace_common::process_stats::ProcessStats;

use super::options::Options;

/// The sizes of the maps. Per CPU they are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Possible CPUs.
    pub(super) cpus: usize,
    /// Entries on a page of a CPU's ledger.
    pub(super) entries_per_page: usize,
    /// Events in a CPU's ring.
    pub(super) events_per_cpu: usize,
    /// Paths in a CPU's ring.
    pub(super) paths_per_cpu: usize,
}

impl Sizes {
    /// The largest sizes within the bound. A page needs no more entries than there can be threads. The
    /// smallest sizes exceed the bound if they must, so that a busy CPU can run for a while.
    pub(super) fn within(options: &Options, most_threads: usize) -> Self {
        let cpus = options.siblings.len().max(1);
        let counted = if options.counters.is_empty() { 0 } else { size_of::<Counts>() };
        let per_entry = 2 * (size_of::<Entry>() + counted) + INDEX_SLOTS_PER_ENTRY as usize * 8;
        let arguments = if options.command_lines { ARGUMENTS_LEN } else { 0 };
        let stats = if options.process_stats { size_of::<ProcessStats>() } else { 0 };
        let per_event = size_of::<Event>() + stats + (size_of::<Path>() + arguments) / 2;
        let bytes = options.memory_mib as usize * 1024 * 1024 / cpus;
        let entries = (bytes / 4 * 3 / per_entry).min(most_threads).clamp(256, 16384);
        let events = (bytes / 4 / per_event).clamp(256, 4096);
        let events_per_cpu = 1 << events.ilog2();
        Self {
            cpus,
            entries_per_page: 1 << entries.ilog2(),
            events_per_cpu,
            paths_per_cpu: events_per_cpu / 2,
        }
    }

    pub(super) fn slots_per_cpu(&self) -> usize {
        self.entries_per_page * INDEX_SLOTS_PER_ENTRY as usize
    }

    pub(super) fn globals(&self) -> [(&'static str, u32); 3] {
        [
            ("ENTRIES_PER_PAGE", self.entries_per_page as u32),
            ("EVENTS_PER_CPU", self.events_per_cpu as u32),
            ("PATHS_PER_CPU", self.paths_per_cpu as u32),
        ]
    }

    /// The number of elements of each map.
    pub(super) fn maps(&self, counters: bool, arguments: bool, stats: bool) -> [(&'static str, usize); 9] {
        let entries = 2 * self.cpus * self.entries_per_page;
        let events = self.cpus * self.events_per_cpu;
        let paths = self.cpus * self.paths_per_cpu;
        [
            ("CPUS", self.cpus),
            ("ENTRIES", entries),
            ("INDEX", self.cpus * self.slots_per_cpu()),
            ("COUNTS", if counters { entries } else { 1 }),
            ("EVENTS", events),
            ("PROCESS_STATS", if stats { events } else { 1 }),
            ("PATHS", paths),
            ("ARGUMENTS", if arguments { paths } else { 1 }),
            ("LOGGED", self.cpus),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_stay_within_their_memory_bound() {
        let sizes = |cpus, memory_mib, threads| {
            Sizes::within(&Options { memory_mib, ..Options::of_cpus(cpus) }, threads)
        };
        let bytes = |s: &Sizes| {
            s.cpus * (s.entries_per_page * (2 * 64 + 16) + s.events_per_cpu * 72 + s.paths_per_cpu * 248)
        };
        assert_eq!(
            (sizes(2, 32, 1 << 22).entries_per_page, sizes(2, 32, 1 << 22).events_per_cpu),
            (16384, 4096)
        );
        for cpus in [1, 2, 16, 128] {
            let sizes = sizes(cpus, 32, 1 << 22);
            assert!(bytes(&sizes) <= 32 << 20, "{sizes:?}");
        }
        // No more than there can be threads, and never less than the minimum.
        assert_eq!(sizes(2, 32, 1000).entries_per_page, 512);
        assert_eq!(sizes(100_000, 32, 1 << 22).entries_per_page, 256);
        assert_eq!(sizes(2, 0, 10).entries_per_page, 256);
    }
}
