//! A unit, and a formula's expression.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::texts::formula(bytes));
