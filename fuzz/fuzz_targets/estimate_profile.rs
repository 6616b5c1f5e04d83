//! A calibrated profile.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    wattrace_estimate::fuzzing::profile(text);
});
