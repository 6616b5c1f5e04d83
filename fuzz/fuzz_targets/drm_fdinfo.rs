//! What the kernel says of a GPU's clients.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::texts::fdinfo(bytes));
