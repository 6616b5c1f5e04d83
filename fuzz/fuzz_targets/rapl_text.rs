//! What the kernel says of RAPL, in text: a first byte decides which file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wattrace_rapl::fuzzing::{cpu_list, energy_uj, event, modalias, zones};

fuzz_target!(|text: &str| {
    let Some((which, text)) = text.split_at_checked(1) else { return };
    match which {
        "e" => energy_uj(text.as_bytes()),
        "z" => zones(text),
        "p" => event(text),
        "c" => cpu_list(text),
        _ => modalias(text),
    }
});
