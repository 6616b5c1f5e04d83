//! What the kernel says of RAPL, in text: a first byte decides which file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::texts::rapl(bytes));
