//! A tree of GPUs and their meters.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::trees::drm(bytes));
