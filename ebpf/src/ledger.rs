//! Every nanosecond once: the slice that ends is charged to one entry of this CPU's open page. See `common/`
//! for the ledger's layout and what holds of it.
//!
//! No atomics and no locks: a ledger is written by its own CPU only, with interrupts or at least preemption
//! off.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_smp_processor_id};
use aya_log_ebpf::warn;
use wattrace_common::counters::Counts;
use wattrace_common::ledger::{Cpu, Entry, INDEX_SLOTS_PER_ENTRY, INDEX_WAYS, Page, Slot};

use crate::maps::{self, CPUS, ENTRIES, ENTRIES_PER_PAGE, INDEX, LOGGED, WAKE};
use crate::task::Task;
use crate::{clock, counters, irq};

/// The CPU this runs on and its ledger.
#[inline(always)]
pub fn this_cpu() -> Option<(u32, &'static mut Cpu)> {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: the map outlives the program, and no other CPU writes this element.
    Some((cpu, unsafe { &mut *CPUS.get_ptr_mut(cpu)? }))
}

#[inline(always)]
fn entry(ledger: &Cpu, position: u32) -> Option<&'static mut Entry> {
    // SAFETY: as for `this_cpu`; readers keep to the closed page.
    Some(unsafe { &mut *ENTRIES.get_ptr_mut(ledger.first_entry + position)? })
}

#[inline(always)]
fn slot(ledger: &Cpu, tid: u32, way: u32) -> Option<&'static mut Slot> {
    let mask = ENTRIES_PER_PAGE.load() * INDEX_SLOTS_PER_ENTRY - 1;
    // SAFETY: as for `this_cpu`.
    Some(unsafe { &mut *INDEX.get_ptr_mut(ledger.first_slot + ((tid + way) & mask))? })
}

/// At a context switch from `prev` to `next`. Without a flush before, accounting begins on this CPU here.
#[inline(always)]
pub fn switch<T: Task>(ctx: &impl EbpfContext, prev: T, next: T) {
    let Some((_, ledger)) = this_cpu() else { return };
    let now = clock::at_switch(ledger, prev);
    if ledger.slice_start_ns == 0 {
        begin(ledger, prev, now);
    }
    ledger.switches += 1;
    irq::leave_all(ledger, now);
    charge_slice(ctx, ledger, prev, now);
    if maps::SHARED_CORES.load() != 0 {
        let busy = next.tid() != 0;
        if busy != (prev.tid() != 0) {
            ledger.busy = ledger.busy.turned(busy, now);
        }
    }
}

/// On request: charges the running slice of `current`, then closes the page and opens the other.
#[inline(always)]
pub fn flush(ctx: &impl EbpfContext, current: impl Task) {
    let Some((cpu, ledger)) = this_cpu() else { return };
    let now = clock::now().max(ledger.slice_start_ns);
    if ledger.slice_start_ns == 0 {
        begin(ledger, current, now);
    }
    irq::interrupt(ledger, now);
    charge_slice(ctx, ledger, current, now);
    if maps::MESSAGES.load() != 0 && ledger.open.overflow_count > 0 {
        warn!(ctx, "CPU {}: a page of the ledger was full {} times", cpu, ledger.open.overflow_count);
    }
    ledger.closed = Page { end_ns: now, ..ledger.open };
    ledger.events_read = LOGGED.get(cpu).map_or(0, |logged| logged.events);
    ledger.page = ledger.page.wrapping_add(1);
    ledger.first_entry = (2 * cpu + (ledger.page & 1)) * ENTRIES_PER_PAGE.load();
    ledger.open = Page::default();
    ledger.open.start_ns = now;
}

/// Begins accounting on a CPU, which runs `current`, at `now`.
#[inline(always)]
fn begin(ledger: &mut Cpu, current: impl Task, now: u64) {
    ledger.busy = ledger.busy.turned(current.tid() != 0, now);
    ledger.slice_start_ns = now;
    ledger.open.start_ns = now;
    counters::advance(ledger);
}

/// Charges the time since the slice began to `task`, and begins the next slice at `now`.
#[inline(always)]
fn charge_slice(ctx: &impl EbpfContext, ledger: &mut Cpu, task: impl Task, now: u64) {
    let slice = now - ledger.slice_start_ns;
    ledger.slice_start_ns = now;
    let ns = irq::charge(ledger, slice);
    let shared_ns = shared(ledger, ns, now);
    let counts = counters::advance(ledger);
    let tid = task.tid();
    if tid == 0 {
        ledger.open.idle_ns += ns;
    } else if charge(ctx, ledger, task, tid, ns, shared_ns, counts).is_none() {
        ledger.open.overflow_ns += ns;
        ledger.open.overflow_count += 1;
    }
}

/// Of the slice of `ns` that ends `now`, how much the CPU that shares the core was busy.
#[inline(always)]
fn shared(ledger: &mut Cpu, ns: u64, now: u64) -> u64 {
    if maps::SHARED_CORES.load() == 0 {
        return 0;
    }
    let Some(sibling) = CPUS.get_ptr(ledger.sibling) else { return 0 };
    // SAFETY: the map outlives the program; one aligned word, which its CPU may be writing.
    let busy_ns = unsafe { (&raw const (*sibling).busy).read_volatile() }.until(now);
    let shared = busy_ns.saturating_sub(ledger.sibling_busy_ns);
    ledger.sibling_busy_ns = busy_ns;
    shared.min(ns)
}

/// Charges the entry of `task`; `None` if the page has no room for it.
#[inline(always)]
fn charge(
    ctx: &impl EbpfContext,
    ledger: &mut Cpu,
    task: impl Task,
    tid: u32,
    ns: u64,
    shared_ns: u64,
    counts: Counts,
) -> Option<()> {
    let start = task.start();
    let stamp = ledger.page.wrapping_add(1);
    let mut free = None;
    for way in 0..INDEX_WAYS {
        let slot = slot(ledger, tid, way)?;
        if slot.stamp != stamp {
            free = Some(slot);
            break;
        }
        let entry = entry(ledger, slot.position)?;
        if entry.tid == tid && entry.thread_start == start {
            entry.ns += ns;
            if maps::SHARED_CORES.load() != 0 {
                entry.shared_ns += shared_ns;
            }
            counters::add(ledger.first_entry + slot.position, counts, false);
            return Some(());
        }
    }
    let position = ledger.open.count;
    if position >= ENTRIES_PER_PAGE.load() {
        return None;
    }
    // With all ways taken the first is given up: its thread gets a second entry when it runs again, and both
    // add up.
    let slot = match free {
        Some(slot) => slot,
        None => slot(ledger, tid, 0)?,
    };
    let entry = entry(ledger, position)?;
    entry.tid = tid;
    entry.pid = task.pid();
    entry.thread_start = start;
    entry.process_start = task.process_start();
    // SAFETY: the helper has no preconditions. It speaks of the current task, which is the one that is
    // charged.
    entry.cgroup = unsafe { bpf_get_current_cgroup_id() };
    entry.comm = bpf_get_current_comm().unwrap_or_default();
    entry.ns = ns;
    entry.shared_ns = shared_ns;
    counters::add(ledger.first_entry + position, counts, true);
    *slot = Slot { stamp, position };
    ledger.open.count = position + 1;
    if position == ENTRIES_PER_PAGE.load() / 4 * 3 {
        WAKE.output(ctx, 0u32, 0);
    }
    Some(())
}
