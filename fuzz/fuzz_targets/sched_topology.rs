//! Which CPU is in which package and core: lists of CPUs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::trees::topology(bytes));
