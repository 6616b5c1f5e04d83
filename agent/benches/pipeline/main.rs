//! What the pipeline itself can do and costs. Each case runs in a process of its own, so that none sees
//! another's memory:
//!
//! | case | measures |
//! | --- | --- |
//! | `throughput.rs` | points a second, CPU time and allocations per point, over the number of series; and at saturation |
//! | `mixed.rs`, `late.rs` | 200 sources of many intervals beside outputs that are slow and that fail; what the machine is to blame for |
//! | `fast_meter.rs` | the agent reading a simulated RAPL meter every millisecond |
//! | `soak.rs` | memory while a million consumers come and go |
//! | `books.rs` | attribution's books, per point and per process |
//!
//! `cargo bench -p wattrace --bench pipeline [-- CASE]`, or as a part of `cargo xtask bench`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run fails")]

mod books;
mod fast_meter;
mod late;
mod machine;
mod mixed;
mod soak;
mod throughput;

use std::process::Command;

type Case = fn(u64);

const CASES: [(&str, &[u64], Case); 9] = [
    ("throughput", &[1_000, 10_000, 100_000, 1_000_000], throughput::lossless),
    ("flat", &[1_000_000], throughput::flat),
    // A part of `flat`.
    ("cost", &[], throughput::cost),
    ("saturation", &[10_000], throughput::saturated),
    ("mixed", &[0], mixed::run),
    // A part of `mixed`.
    ("round", &[], mixed::round),
    ("meter", &[0], fast_meter::run),
    ("soak", &[1_000_000], soak::run),
    ("books", &[0], books::run),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--case") => {
            let name = arguments.next().unwrap_or_default();
            let size = arguments.next().and_then(|n| n.parse().ok()).unwrap_or_default();
            CASES.iter().filter(|(case, ..)| *case == name).for_each(|(_, _, run)| run(size));
        }
        // `cargo test --all-targets` runs benchmarks without `--bench`; there they have nothing to say.
        first => {
            let arguments: Vec<_> = first.map(String::from).into_iter().chain(arguments).collect();
            if arguments.iter().any(|a| a == "--bench") {
                run_all(arguments.iter().find(|a| !a.starts_with("--")));
            }
        }
    }
}

fn run_all(only: Option<&String>) {
    let me = std::env::current_exe().expect("this program has a path");
    for (name, sizes, _) in
        CASES.iter().filter(|(name, ..)| only.is_none_or(|only| name.contains(only.as_str())))
    {
        for size in *sizes {
            let status = Command::new(&me).args(["--case", name, &size.to_string()]).status();
            assert!(status.is_ok_and(|s| s.success()), "case {name} {size} failed");
        }
    }
}
