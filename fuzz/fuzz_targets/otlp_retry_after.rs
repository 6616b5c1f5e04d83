//! The header Retry-After.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::bytes::retry_after(bytes));
