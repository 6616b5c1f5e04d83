//! `/proc/cpuinfo`, and the power that is looked up by it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::texts::cpuinfo(bytes));
