//! Readings of RAPL's counters: wraps, resets, jumps.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wattrace_rapl::fuzzing::readings(bytes);
});
