//! Hardware counters, read at every context switch if user space asks for them. Each is a perf event per CPU,
//! opened by user space and read in `perf.rs`.

use aya_ebpf::maps::PerfEventArray;
use wattrace_common::counters::INSTRUCTIONS as INSTRUCTION;
use wattrace_common::counters::{CACHE_MISSES as MISSES, COUNTERS as COUNT, CYCLES as CYCLE, Counts};
use wattrace_common::ledger::Cpu;

use crate::clock;
use crate::maps::{CACHE_MISSES, COUNTER_COST, COUNTERS, COUNTS, CYCLES, INSTRUCTIONS};
use crate::perf;

/// The counters by position.
const ALL: [(u32, &PerfEventArray<u64>); COUNT] =
    [(CYCLE, &CYCLES), (INSTRUCTION, &INSTRUCTIONS), (MISSES, &CACHE_MISSES)];

/// Number of reads whose cost is averaged.
const TRIALS: u32 = 64;

/// The increase of this CPU's counters since the last call.
#[inline(always)]
pub fn advance(ledger: &Cpu) -> Counts {
    let mut counts = [0; COUNT];
    for (which, counter) in ALL {
        if COUNTERS.load() & 1 << which != 0 {
            let value = perf::read(counter);
            counts[which as usize] = value.since(ledger.counter_starts[which as usize].replace(value));
        }
    }
    counts
}

/// Adds `counts` to those of the ledger entry at index `at`, or sets them if the entry is new.
#[inline(always)]
pub fn add(at: u32, counts: Counts, is_new: bool) {
    if COUNTERS.load() == 0 {
        return;
    }
    let Some(sums) = COUNTS.get_ptr_mut(at) else { return };
    // SAFETY: only this CPU's programs write the element, and those that do so do not nest.
    let sums = unsafe { &mut *sums };
    for (which, _) in ALL {
        if COUNTERS.load() & 1 << which != 0 {
            let which = which as usize;
            sums[which] = if is_new { counts[which] } else { sums[which] + counts[which] };
        }
    }
}

/// Measures what reading the cycle counter once costs on this CPU.
#[inline(always)]
pub fn measure_cost() {
    let start = clock::now();
    for _ in 0..TRIALS {
        perf::read(&CYCLES);
    }
    let cost = (clock::now() - start) / u64::from(TRIALS);
    if let Some(at) = COUNTER_COST.get_ptr_mut(0) {
        // SAFETY: the map outlives the program, and user space runs one instance at a time.
        unsafe { at.write(cost) };
    }
}
