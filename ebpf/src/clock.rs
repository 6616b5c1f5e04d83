//! The time of a context switch. The scheduler has just read its own clock, and three loads fetch that value;
//! reading another clock costs more than the rest of accounting. The scheduler's clock runs at the rate of
//! `CLOCK_MONOTONIC` except for the latter's slewing (at most 500 ppm). So the first switch of each
//! millisecond compares the two, and the others add the difference to the scheduler's clock.
//!
//! A comparison is off by the time between the two readings: some hundred nanoseconds, nearly the same each
//! time. The error moves time between neighbouring slices. Nothing is lost or counted twice, because a slice
//! ends where the next one begins.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use wattrace_common::ledger::Cpu;

use crate::maps;
use crate::task::Task;

/// Time on the scheduler's clock after which the clocks are compared again. At 500 ppm they drift by 500 ns
/// in it.
const COMPARE_NS: u64 = 1_000_000;

/// `CLOCK_MONOTONIC`, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// `CLOCK_MONOTONIC` at this context switch from `prev`, at or after the start of the slice.
#[inline(always)]
pub fn at_switch(ledger: &Cpu, prev: impl Task) -> u64 {
    if maps::TASK_CFS_RQ.load() == 0 {
        return now();
    }
    let clock = prev.run_queue_clock();
    if clock.wrapping_sub(ledger.clock_compared.get()) > COMPARE_NS {
        ledger.clock_offset.set(now().wrapping_sub(clock));
        ledger.clock_compared.set(clock);
    }
    clock.wrapping_add(ledger.clock_offset.get()).max(ledger.slice_start_ns.get())
}
