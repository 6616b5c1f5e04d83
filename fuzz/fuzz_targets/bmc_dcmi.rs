//! A BMC's reply over IPMI DCMI.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    _ = wattrace_bmc::fuzzing::parse(bytes);
});
