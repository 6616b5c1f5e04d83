//! Every nanosecond once: the slice that ends is charged to one entry of this CPU's open page. See `common/` for the
//! ledger's layout and what holds of it.
//!
//! No atomics and no locks: a ledger is written by its own CPU only, with interrupts or at least preemption off.

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_smp_processor_id, bpf_ktime_get_ns,
};
use wattrace_common::{Cpu, Entry, INDEX_SLOTS_PER_ENTRY, INDEX_WAYS, Page, Slot};

use crate::maps::{CPUS, ENTRIES, ENTRIES_PER_PAGE, INDEX, PRESSURE, pressure};
use crate::task::Task;

/// The CPU this runs on and its ledger.
#[inline(always)]
fn this_cpu() -> Option<(u32, &'static mut Cpu)> {
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

/// At a context switch: `task` ran since the last one.
#[inline(always)]
pub fn switch(task: impl Task) {
    let Some((_, ledger)) = this_cpu() else { return };
    // Accounting begins on a CPU with its first flush: only then is it known since when the running task runs.
    if ledger.slice_start_ns == 0 {
        return;
    }
    ledger.switches += 1;
    charge_slice(ledger, task);
}

/// On request: charges the running slice, then closes the page and opens the other.
#[inline(always)]
pub fn flush(task: impl Task) {
    let Some((cpu, ledger)) = this_cpu() else { return };
    let now = if ledger.slice_start_ns == 0 {
        // SAFETY: the helper has no preconditions.
        let now = unsafe { bpf_ktime_get_ns() };
        ledger.slice_start_ns = now;
        ledger.open.start_ns = now;
        now
    } else {
        charge_slice(ledger, task)
    };
    ledger.closed = ledger.open;
    ledger.closed.end_ns = now;
    ledger.page = ledger.page.wrapping_add(1);
    ledger.first_entry = (2 * cpu + (ledger.page & 1)) * ENTRIES_PER_PAGE.load();
    ledger.first_slot = cpu * ENTRIES_PER_PAGE.load() * INDEX_SLOTS_PER_ENTRY;
    ledger.open = Page { start_ns: now, end_ns: 0, idle_ns: 0, overflow_ns: 0, count: 0, overflow_count: 0 };
}

/// Charges the time since the slice began to `task` and begins the next slice. Returns now.
#[inline(always)]
fn charge_slice(ledger: &mut Cpu, task: impl Task) -> u64 {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let ns = now - ledger.slice_start_ns;
    ledger.slice_start_ns = now;
    let tid = task.tid();
    if tid == 0 {
        ledger.open.idle_ns += ns;
    } else if charge(ledger, task, tid, ns).is_none() {
        ledger.open.overflow_ns += ns;
        ledger.open.overflow_count += 1;
        raise(pressure::FULL);
    }
    now
}

/// Has the next event tell that a page fills. Races with other CPUs are harmless: each of them asks for the same reading.
#[inline(always)]
fn raise(level: u32) {
    if let Some(pressure) = PRESSURE.get_ptr_mut(0) {
        // SAFETY: the map outlives the program; one aligned word.
        unsafe { pressure.write_volatile(level) };
    }
}

/// Charges `ns` to the entry of `task`; `None` if the page has no room for it.
#[inline(always)]
fn charge(ledger: &mut Cpu, task: impl Task, tid: u32, ns: u64) -> Option<()> {
    let start = task.start();
    let mut free = None;
    for way in 0..INDEX_WAYS {
        let slot = slot(ledger, tid, way)?;
        if slot.page != ledger.page {
            free = Some(slot);
            break;
        }
        let entry = entry(ledger, slot.position)?;
        if entry.tid == tid && entry.thread_start == start {
            entry.ns += ns;
            return Some(());
        }
    }
    let position = ledger.open.count;
    if position >= ENTRIES_PER_PAGE.load() {
        return None;
    }
    // With all ways taken the first is given up: its thread gets a second entry when it runs again, and both add up.
    let slot = match free {
        Some(slot) => slot,
        None => slot(ledger, tid, 0)?,
    };
    let entry = entry(ledger, position)?;
    entry.tid = tid;
    entry.pid = task.pid();
    entry.thread_start = start;
    entry.process_start = task.process_start();
    // SAFETY: the helper has no preconditions. It speaks of the current task, which is the one that is charged.
    entry.cgroup = unsafe { bpf_get_current_cgroup_id() };
    entry.comm = bpf_get_current_comm().unwrap_or_default();
    entry.ns = ns;
    *slot = Slot { page: ledger.page, position };
    ledger.open.count = position + 1;
    if position == ENTRIES_PER_PAGE.load() / 4 * 3 {
        raise(pressure::HIGH);
    }
    Some(())
}
