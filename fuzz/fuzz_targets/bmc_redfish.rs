//! A BMC's answers over Redfish.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wattrace_bmc::fuzzing::redfish(bytes);
});
