//! Hardware counters, read at every context switch if asked for. Each is a perf event per CPU, opened by user space.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_F_CURRENT_CPU, bpf_perf_event_value};
use aya_ebpf::helpers::bpf_perf_event_read_value;
use aya_ebpf::maps::PerfEventArray;
use wattrace_common::counters::{
    CACHE_MISSES as MISSES, COUNTERS as COUNT, CYCLES as CYCLE, Counts, INSTRUCTIONS as INSTRUCTION, Reading,
};

use crate::clock;
use crate::maps::{CACHE_MISSES, COUNTER_COST, COUNTER_STARTS, COUNTERS, COUNTS, CYCLES, INSTRUCTIONS};

/// Readings whose cost is averaged.
const TRIALS: u32 = 64;

/// Notes where the counters of `cpu` stand as accounting begins.
#[inline(always)]
pub fn begin(cpu: u32) {
    advance(cpu);
}

/// What the counters of `cpu`, on which this runs, advanced by since the last call.
#[inline(always)]
pub fn advance(cpu: u32) -> Counts {
    let mut counts = [0; COUNT];
    if COUNTERS.load() == 0 {
        return counts;
    }
    let Some(starts) = COUNTER_STARTS.get_ptr_mut(cpu) else { return counts };
    // SAFETY: the map outlives the program; only this CPU writes the element.
    let starts = unsafe { &mut *starts };
    for (which, counter) in [(CYCLE, &CYCLES), (INSTRUCTION, &INSTRUCTIONS), (MISSES, &CACHE_MISSES)] {
        if COUNTERS.load() & 1 << which != 0 {
            let reading = read(counter);
            counts[which as usize] = reading.since(starts[which as usize]);
            starts[which as usize] = reading;
        }
    }
    counts
}

/// Adds `counts` beside the ledger's entry at `place`, which is a `fresh` one or has been counted for before.
#[inline(always)]
pub fn add(place: u32, counts: Counts, fresh: bool) {
    if COUNTERS.load() == 0 {
        return;
    }
    let Some(sums) = COUNTS.get_ptr_mut(place) else { return };
    // SAFETY: as in `advance`.
    let sums = unsafe { &mut *sums };
    for which in 0..COUNT {
        sums[which] = if fresh { counts[which] } else { sums[which] + counts[which] };
    }
}

/// Notes what reading the cycle counter once takes here.
#[inline(always)]
pub fn measure_cost() {
    let begun = clock::now();
    for _ in 0..TRIALS {
        read(&CYCLES);
    }
    let cost = (clock::now() - begun) / u64::from(TRIALS);
    if let Some(place) = COUNTER_COST.get_ptr_mut(0) {
        // SAFETY: the map outlives the program, which one user runs at a time.
        unsafe { place.write(cost) };
    }
}

#[inline(always)]
fn read(counter: &'static PerfEventArray<u64>) -> Reading {
    let mut value = bpf_perf_event_value { counter: 0, enabled: 0, running: 0 };
    // SAFETY: a map is its definition to the kernel, which the verifier checks; `value` is written within its size.
    unsafe {
        bpf_perf_event_read_value(
            (&raw const *counter).cast_mut().cast::<c_void>(),
            BPF_F_CURRENT_CPU,
            &mut value,
            size_of::<bpf_perf_event_value>() as u32,
        );
    }
    Reading { counter: value.counter, enabled: value.enabled, running: value.running }
}
