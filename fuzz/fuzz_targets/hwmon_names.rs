//! The names that hwmon's drivers give, in two lines: the driver's and the channel's.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::texts::names(bytes));
