//! Numbers that others send, as text and as floating-point numbers.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::texts::numbers(bytes));
