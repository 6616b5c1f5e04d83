//! Readings of RAPL's counters: wraps, resets, jumps.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::bytes::readings(bytes));
