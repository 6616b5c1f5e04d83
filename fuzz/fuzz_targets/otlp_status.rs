//! A status over gRPC, with its details.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::bytes::status(bytes));
