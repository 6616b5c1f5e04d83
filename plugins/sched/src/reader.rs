//! Reads a CPU's ledger page by page, also while the CPU is offline: its page cannot be closed then, but is
//! not written either. What is read of an open page is subtracted when the page is closed.

use wattrace_api::weighted_cycles;
use wattrace_common::ledger::{Entry, Page};

use crate::kernel::{Counter, PageView};

/// A consumer's use of a CPU, by [`quantity`].
pub(crate) type Quantities = [u64; quantity::COUNT];

/// Positions in [`Quantities`].
pub(crate) mod quantity {
    /// CPU time, ns.
    pub(crate) const TIME: usize = 0;
    /// The part of it during which the CPU that shares the core was busy too.
    pub(crate) const SHARED: usize = 1;
    /// The first hardware counter.
    pub(crate) const COUNTERS: usize = 2;
    /// Cycles weighted by the square of the clock. Not counted, but computed where the clock is known: of one
    /// thread on one CPU.
    pub(crate) const WEIGHTED_CYCLES: usize = COUNTERS + wattrace_common::counters::COUNTERS;
    /// The number of quantities.
    pub(crate) const COUNT: usize = WEIGHTED_CYCLES + 1;
}

/// Reads one CPU's ledger.
#[derive(Debug, Default)]
pub(crate) struct CpuReader {
    ahead: Ahead,
    /// Idle time that was read of an open page but was not idle: the CPU came online at that moment.
    idle_excess: u64,
    /// The change of the excess at the last pass, by which charges exceed the time that passed (wraps).
    excess_change: u64,
}

/// What was read of a page while it was open.
#[derive(Debug, Default)]
struct Ahead {
    number: u32,
    page: Page,
    entries: Vec<Quantities>,
}

impl CpuReader {
    /// What a closed page has that was not read before. Calls `charge` for each entry with new charges.
    pub(crate) fn closed(&mut self, view: &PageView<'_>, charge: impl FnMut(&Entry, &Quantities)) -> Page {
        let since = self.since(view, view.page, charge);
        self.ahead = Ahead::default();
        since
    }

    /// The same for the open page of a CPU that is offline: it has been idle from `slice_start_ns` until
    /// `now`.
    pub(crate) fn offline(
        &mut self,
        view: &PageView<'_>,
        slice_start_ns: u64,
        now: u64,
        charge: impl FnMut(&Entry, &Quantities),
    ) -> Page {
        let idle_ns = view.page.idle_ns + now.saturating_sub(slice_start_ns);
        let page = Page { idle_ns, end_ns: now, ..view.page };
        let since = self.since(view, page, charge);
        let entries = (0..view.entries.len()).map(|at| quantities(view, at)).collect();
        self.ahead = Ahead { number: view.number, page, entries };
        since
    }

    /// By how much the charges of the last pass exceed the time that it covers (wraps).
    pub(crate) fn take_excess_change(&mut self) -> u64 {
        std::mem::take(&mut self.excess_change)
    }

    fn since(
        &mut self,
        view: &PageView<'_>,
        page: Page,
        mut charge: impl FnMut(&Entry, &Quantities),
    ) -> Page {
        let nothing = Ahead::default();
        let ahead = if self.ahead.number == view.number { &self.ahead } else { &nothing };
        for (at, entry) in view.entries.iter().enumerate() {
            let mut used = quantities(view, at);
            if let Some(before) = ahead.entries.get(at) {
                if used == *before {
                    continue;
                }
                used.iter_mut().zip(before).for_each(|(used, before)| *used = used.wrapping_sub(*before));
            }
            let cycles = used[quantity::COUNTERS + Counter::Cycles.position()];
            used[quantity::WEIGHTED_CYCLES] = weighted_cycles(cycles, used[quantity::TIME]);
            charge(entry, &used);
        }
        let before = &ahead.page;
        let charged_idle = before.idle_ns + self.idle_excess;
        let excess = charged_idle.saturating_sub(page.idle_ns);
        self.excess_change = excess.wrapping_sub(self.idle_excess);
        self.idle_excess = excess;
        Page {
            start_ns: if before.end_ns == 0 { page.start_ns } else { before.end_ns },
            idle_ns: page.idle_ns.saturating_sub(charged_idle),
            irq_ns: page.irq_ns - before.irq_ns,
            overflow_ns: page.overflow_ns - before.overflow_ns,
            overflow_count: page.overflow_count - before.overflow_count,
            ..page
        }
    }
}

fn quantities(view: &PageView<'_>, at: usize) -> Quantities {
    let entry = &view.entries[at];
    let mut all = [0; quantity::COUNT];
    all[quantity::TIME] = entry.ns;
    all[quantity::SHARED] = entry.shared_ns;
    if let Some(counts) = view.counts.get(at) {
        all[quantity::COUNTERS..quantity::WEIGHTED_CYCLES].copy_from_slice(counts);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tid: u32, ns: u64) -> Entry {
        Entry {
            tid,
            pid: tid,
            thread_start: 1,
            process_start: 1,
            cgroup: 0,
            ns,
            shared_ns: 0,
            comm: [0; wattrace_common::COMM_LEN],
        }
    }

    fn page(start_ns: u64, end_ns: u64, idle_ns: u64, count: u32) -> Page {
        Page { start_ns, end_ns, idle_ns, irq_ns: 0, overflow_ns: 0, count, overflow_count: 0 }
    }

    fn view(number: u32, page: Page, entries: &[Entry]) -> PageView<'_> {
        PageView { number, page, entries, counts: &[] }
    }

    fn charged(sum: &mut u64) -> impl FnMut(&Entry, &Quantities) {
        |_, used| *sum += used[quantity::TIME]
    }

    #[test]
    fn a_cpu_that_goes_and_comes_back_is_charged_every_nanosecond_once() {
        let mut reader = CpuReader::default();
        let (mut used, mut idle) = (0, 0);
        // Page 4 ran a task for 30 ns and idles since 100; the CPU is offline when it is read at 150, and at
        // 250.
        let open = [entry(7, 30)];
        for now in [150, 250] {
            let part = reader.offline(&view(4, page(50, 0, 20, 1), &open), 100, now, charged(&mut used));
            idle += part.idle_ns;
        }
        assert_eq!((used, idle), (30, 170), "50 ns to the slice's start, 150 since");
        // It is back at 300, runs the task again until 310 and another until 320, and is closed.
        let closed = [entry(7, 40), entry(8, 10)];
        let part = reader.closed(&view(4, page(50, 320, 220, 2), &closed), charged(&mut used));
        idle += part.idle_ns;
        assert_eq!((part.start_ns, part.end_ns), (250, 320));
        assert_eq!((used, idle), (50, 220));
        // The next page is read whole.
        let next = [entry(8, 30)];
        let part = reader.closed(&view(5, page(320, 400, 50, 1), &next), charged(&mut used));
        assert_eq!((used, part.idle_ns, part.start_ns), (80, 50, 320));
    }

    #[test]
    fn cycles_are_weighted_by_the_clock_of_the_time_that_is_charged() {
        let mut reader = CpuReader::default();
        let mut weighted = Vec::new();
        // Ten nanoseconds at 3 GHz, read while the CPU is offline; then ten at 1 GHz.
        for (now, ns, cycles) in [(100, 10, 30), (200, 20, 40)] {
            let (entries, counts) = ([entry(7, ns)], [[cycles, 0, 0]]);
            let view = PageView { counts: &counts, ..view(4, page(0, 0, 0, 1), &entries) };
            let charge = |_: &Entry, used: &Quantities| weighted.push(used[quantity::WEIGHTED_CYCLES]);
            reader.offline(&view, 50, now, charge);
        }
        assert_eq!(weighted, [30 * 9, 10]);
    }

    #[test]
    fn idle_time_that_was_charged_too_early_is_subtracted() {
        let mut reader = CpuReader::default();
        let mut used = 0;
        let early = reader.offline(&view(1, page(0, 0, 0, 0), &[]), 0, 110, charged(&mut used));
        assert_eq!(early.idle_ns, 110);
        // But it came back at 100 and was busy from then on.
        let busy = [entry(1, 50)];
        let part = reader.closed(&view(1, page(0, 150, 100, 1), &busy), charged(&mut used));
        assert_eq!((part.idle_ns, used), (0, 50));
        let part = reader.closed(&view(2, page(150, 250, 100, 0), &[]), charged(&mut used));
        assert_eq!(part.idle_ns, 90, "250 in all");
    }
}
