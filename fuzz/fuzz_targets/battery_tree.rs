//! A tree of power supplies.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::trees::battery(bytes));
