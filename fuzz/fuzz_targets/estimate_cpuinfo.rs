//! `/proc/cpuinfo`, and the power that is looked up by it.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    wattrace_estimate::fuzzing::cpuinfo(text);
});
