//! Counters of a Cray node and of resctrl.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::texts::counter(bytes));
