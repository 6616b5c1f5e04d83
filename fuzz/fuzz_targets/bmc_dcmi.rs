//! A BMC's reply over IPMI DCMI.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::bytes::dcmi(bytes));
