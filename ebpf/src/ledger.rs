//! Charges every nanosecond once: the slice that ends is charged to one entry of this CPU's open page.
//! `common/` describes the layout of the ledger and its invariant.
//!
//! There are no atomics and no locks: a ledger is written only by its own CPU, with interrupts or at least
//! preemption disabled. The programs that write pages, entries and slots (`switch` and `flush`) do not nest.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_comm};
use aya_log_ebpf::warn;
use wattrace_common::counters::Counts;
use wattrace_common::ledger::{Cpu, Entry, INDEX_SLOTS_PER_ENTRY, INDEX_WAYS, Page, Slot};

use crate::cpu::this_cpu;
use crate::maps::{self, CPUS, ENTRIES, ENTRIES_PER_PAGE, INDEX, LOGGED, WAKE};
use crate::task::Task;
use crate::{clock, counters, irq};

/// What the thread used in the slice that ends.
struct Slice {
    ns: u64,
    shared_ns: u64,
    counts: Counts,
}

/// A context switch from `prev` to `next`. If the CPU was never flushed, accounting begins here.
#[inline(always)]
pub fn switch<T: Task>(ctx: &impl EbpfContext, prev: T, next: T) {
    let Some((_, ledger)) = this_cpu() else { return };
    let now = clock::at_switch(ledger, prev);
    if ledger.slice_start_ns.get() == 0 {
        begin(ledger, prev, now);
    }
    ledger.switches.set(ledger.switches.get() + 1);
    irq::end_all(ledger, now);
    charge_slice(ctx, ledger, prev, now);
    if maps::SHARED_CORES.load() != 0 {
        let is_busy = next.tid() != 0;
        if is_busy != (prev.tid() != 0) {
            set_busy(ledger, is_busy, now);
        }
    }
}

/// On request: charges the running slice of `current`, closes the page and opens the other one.
#[inline(always)]
pub fn flush(ctx: &impl EbpfContext, current: impl Task) {
    let Some((cpu, ledger)) = this_cpu() else { return };
    let now = clock::now().max(ledger.slice_start_ns.get());
    if ledger.slice_start_ns.get() == 0 {
        begin(ledger, current, now);
    }
    irq::split_at(ledger, now);
    charge_slice(ctx, ledger, current, now);
    let page = ledger.open.get();
    if maps::MESSAGES.load() != 0 && page.overflow_count > 0 {
        warn!(ctx, "CPU {}: a page of the ledger was full {} times", cpu, page.overflow_count);
    }
    ledger.closed.set(Page { end_ns: now, ..page });
    ledger.events_read.set(LOGGED.get(cpu).map_or(0, |logged| logged.events));
    let number = ledger.page.get().wrapping_add(1);
    ledger.page.set(number);
    ledger.first_entry.set((2 * cpu + (number & 1)) * ENTRIES_PER_PAGE.load());
    ledger.open.set(Page { start_ns: now, ..Page::default() });
}

/// Begins accounting on a CPU that runs `current`.
#[inline(always)]
fn begin(ledger: &Cpu, current: impl Task, now: u64) {
    set_busy(ledger, current.tid() != 0, now);
    ledger.slice_start_ns.set(now);
    update_page(ledger, |page| page.start_ns = now);
    counters::advance(ledger);
}

/// Charges the time since the slice began to `task`, and begins the next slice at `now`.
#[inline(always)]
fn charge_slice(ctx: &impl EbpfContext, ledger: &Cpu, task: impl Task, now: u64) {
    let ns = irq::charge(ledger, now - ledger.slice_start_ns.replace(now));
    let slice = Slice { ns, shared_ns: shared(ledger, ns, now), counts: counters::advance(ledger) };
    let tid = task.tid();
    if tid == 0 {
        update_page(ledger, |page| page.idle_ns += ns);
    } else if charge(ctx, ledger, task, tid, slice).is_none() {
        update_page(ledger, |page| {
            page.overflow_ns += ns;
            page.overflow_count += 1;
        });
    }
}

/// The part of the slice of `ns` that ends now during which the CPU that shares the core was busy.
#[inline(always)]
fn shared(ledger: &Cpu, ns: u64, now: u64) -> u64 {
    if maps::SHARED_CORES.load() == 0 {
        return 0;
    }
    let Some(sibling) = CPUS.get(ledger.sibling.get()) else { return 0 };
    // SAFETY: one aligned word, which the other CPU may be writing.
    let busy_ns = unsafe { sibling.busy.as_ptr().read_volatile() }.until(now);
    busy_ns.saturating_sub(ledger.sibling_busy_ns.replace(busy_ns)).min(ns)
}

/// Charges the entry of `task`; `None` if the page has no room for it.
#[inline(always)]
fn charge(ctx: &impl EbpfContext, ledger: &Cpu, task: impl Task, tid: u32, slice: Slice) -> Option<()> {
    let start = task.start();
    let stamp = ledger.page.get().wrapping_add(1);
    let first_entry = ledger.first_entry.get();
    let mut free = None;
    for way in 0..INDEX_WAYS {
        let slot = slot(ledger, tid, way)?;
        // SAFETY: see the module's description; nothing else refers to the slot.
        let Slot { stamp: used_on, position } = unsafe { *slot };
        if used_on != stamp {
            free = Some(slot);
            break;
        }
        // SAFETY: as above. The reader keeps to the closed page.
        let entry = unsafe { &mut *ENTRIES.get_ptr_mut(first_entry + position)? };
        if entry.tid == tid && entry.thread_start == start {
            entry.ns += slice.ns;
            if maps::SHARED_CORES.load() != 0 {
                entry.shared_ns += slice.shared_ns;
            }
            counters::add(first_entry + position, slice.counts, false);
            return Some(());
        }
    }
    let position = ledger.open.get().count;
    if position >= ENTRIES_PER_PAGE.load() {
        return None;
    }
    // If all ways are taken, the first is given up. Its thread gets a second entry when it runs again.
    let slot = match free {
        Some(slot) => slot,
        None => self::slot(ledger, tid, 0)?,
    };
    let entry = Entry {
        tid,
        pid: task.pid(),
        thread_start: start,
        process_start: task.process_start(),
        // SAFETY: the helper has no preconditions. The current task is the one that is charged.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        ns: slice.ns,
        shared_ns: slice.shared_ns,
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    // SAFETY: as above.
    unsafe {
        ENTRIES.get_ptr_mut(first_entry + position)?.write(entry);
        slot.write(Slot { stamp, position });
    }
    counters::add(first_entry + position, slice.counts, true);
    update_page(ledger, |page| page.count = position + 1);
    if position == ENTRIES_PER_PAGE.load() / 4 * 3 {
        WAKE.output(ctx, 0u32, 0);
    }
    Some(())
}

#[inline(always)]
fn slot(ledger: &Cpu, tid: u32, way: u32) -> Option<*mut Slot> {
    let mask = ENTRIES_PER_PAGE.load() * INDEX_SLOTS_PER_ENTRY - 1;
    INDEX.get_ptr_mut(ledger.first_slot.get() + ((tid + way) & mask))
}

#[inline(always)]
fn update_page(ledger: &Cpu, change: impl FnOnce(&mut Page)) {
    let mut page = ledger.open.get();
    change(&mut page);
    ledger.open.set(page);
}

#[inline(always)]
fn set_busy(ledger: &Cpu, is_busy: bool, now: u64) {
    // SAFETY: one aligned word, which the sibling may be reading.
    unsafe { ledger.busy.as_ptr().write_volatile(ledger.busy.get().changed_to(is_busy, now)) };
}
