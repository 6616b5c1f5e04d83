//! A tree of hwmon's and iio's files.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::trees::hwmon(bytes));
