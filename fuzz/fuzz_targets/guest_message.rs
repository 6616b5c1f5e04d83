//! What a host says of a machine's energy.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wattrace_guest::fuzzing::message(bytes);
});
