//! A tree of CPU frequencies and thermometers, and a list of CPUs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::trees::context(bytes));
