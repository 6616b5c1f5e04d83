//! The time of a context switch. The scheduler has just read its own clock: three loads fetch it, where
//! reading another costs more than all of accounting. It runs at the same pace as `CLOCK_MONOTONIC` but for
//! the latter's slewing (at most 500 ppm), so both are compared at the first switch of every millisecond, and
//! time since then is the scheduler's.
//!
//! A comparison is off by the time between the two readings, some hundred nanoseconds, the same at every
//! switch but for jitter. Whatever it is goes to one task rather than its neighbour; nothing is lost or
//! counted twice, since a slice ends where the next begins.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use wattrace_common::ledger::Cpu;

use crate::maps;
use crate::task::Task;

/// Time on the scheduler's clock after which it is compared again: at 500 ppm it has then drifted by 500 ns.
const COMPARE_NS: u64 = 1_000_000;

/// `CLOCK_MONOTONIC`, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// `CLOCK_MONOTONIC` at this context switch from `prev`, never before the slice began.
#[inline(always)]
pub fn at_switch(ledger: &mut Cpu, prev: impl Task) -> u64 {
    if maps::TASK_CFS_RQ.load() == 0 {
        return now();
    }
    let clock = prev.run_queue_clock();
    if clock.wrapping_sub(ledger.clock_compared) > COMPARE_NS {
        ledger.clock_offset = now().wrapping_sub(clock);
        ledger.clock_compared = clock;
    }
    clock.wrapping_add(ledger.clock_offset).max(ledger.slice_start_ns)
}
