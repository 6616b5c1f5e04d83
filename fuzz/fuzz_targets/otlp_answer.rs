//! An answer of a collector over HTTP.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::bytes::answer(bytes));
