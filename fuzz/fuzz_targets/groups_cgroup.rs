//! A cgroup's path, and `/proc/PID/cgroup`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wattrace_fuzz_targets::texts::cgroup(bytes));
