//! What the agent itself costs: `idle.rs` beside processes that sleep, `active.rs` beside processes that run.
//! What a context switch costs is `plugins/sched/benches/switch.rs`' business, what a point costs
//! `../pipeline`'s.
//!
//! `sudo cargo bench -p wattrace --bench tick`, or as a part of `cargo xtask bench`.

mod active;
mod idle;
mod machine;

use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // `cargo test --all-targets` runs benchmarks without this argument; there they have nothing to say.
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    // `cargo bench --bench tick -- active`: one of them alone.
    let only = |name: &str| std::env::args().any(|a| a == name);
    if !only("active") {
        idle::run()?;
    }
    if !only("idle") {
        active::run()?;
    }
    Ok(())
}

fn sorted<T>(costs: &[T], of: impl Fn(&T) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median<T>(costs: &[T], of: impl Fn(&T) -> f64) -> f64 {
    sorted(costs, of)[costs.len() / 2]
}

fn target(what: &str, is: f64, at_most: f64) {
    let verdict = if is <= at_most { "met" } else { "missed" };
    println!("  {what}: {is:.3}, target at most {at_most}: {verdict}");
}
