//! `/proc/PID/stat` and `/proc/PID/status`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::bytes::proc(bytes));
