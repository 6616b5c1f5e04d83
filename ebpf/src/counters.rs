//! Hardware counters, read at every context switch if asked for. Each is a perf event per CPU, opened by user
//! space.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{BPF_F_CURRENT_CPU, bpf_perf_event_value};
use aya_ebpf::helpers::bpf_perf_event_read_value;
use aya_ebpf::maps::PerfEventArray;
use wattrace_common::counters::{
    CACHE_MISSES as MISSES, COUNTERS as COUNT, CYCLES as CYCLE, Counts, INSTRUCTIONS as INSTRUCTION, Reading,
};
use wattrace_common::ledger::Cpu;

use crate::clock;
use crate::maps::{CACHE_MISSES, COUNTER_COST, COUNTERS, COUNTS, CYCLES, INSTRUCTIONS};

/// What can be counted.
const WANTED: [(u32, &PerfEventArray<u64>); COUNT] =
    [(CYCLE, &CYCLES), (INSTRUCTION, &INSTRUCTIONS), (MISSES, &CACHE_MISSES)];

/// Readings whose cost is averaged.
const TRIALS: u32 = 64;

/// What the counters of this CPU, whose `ledger` it is, advanced by since the last call.
#[inline(always)]
pub fn advance(ledger: &mut Cpu) -> Counts {
    let mut counts = [0; COUNT];
    for (which, counter) in WANTED {
        if COUNTERS.load() & 1 << which != 0 {
            let reading = read(counter);
            let start = &mut ledger.counter_starts[which as usize];
            counts[which as usize] = reading.since(*start);
            *start = reading;
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
    for (which, _) in WANTED {
        if COUNTERS.load() & 1 << which != 0 {
            let which = which as usize;
            sums[which] = if fresh { counts[which] } else { sums[which] + counts[which] };
        }
    }
}

/// Reads the counters, for the benchmark.
#[inline(always)]
pub fn read_only() {
    for (which, counter) in WANTED {
        if COUNTERS.load() & 1 << which != 0 {
            read(counter);
        }
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
    // The helper fills it whatever it returns: with zeros if there is no counter on this CPU.
    let mut value = MaybeUninit::<Reading>::uninit();
    // SAFETY: a map is its definition to the kernel, which the verifier checks; `Reading` has the layout of
    // what is written.
    unsafe {
        bpf_perf_event_read_value(
            (&raw const *counter).cast_mut().cast::<c_void>(),
            BPF_F_CURRENT_CPU,
            value.as_mut_ptr().cast::<bpf_perf_event_value>(),
            size_of::<bpf_perf_event_value>() as u32,
        );
        value.assume_init()
    }
}
