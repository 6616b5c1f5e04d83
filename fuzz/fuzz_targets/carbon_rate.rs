//! The file of a price or of the grid's intensity.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::texts::rate(bytes));
