//! What the agent costs while many processes run: a tick a second beside 10,000 that all ran since the last,
//! and a thousand ticks a second beside 100.

use std::process::Command;
use std::time::Duration;

use super::machine::{Agent, Sleepers, clock, sleep_until};
use super::{Result, median, target};

const ROUNDS: usize = 3;
const SPAN: Duration = Duration::from_secs(8);

/// What was measured in one span.
struct Cost {
    cpu_ns: f64,
    wall_ns: f64,
    /// Of the source's, by `wattrace control status`.
    ticks: f64,
    missed: f64,
}

pub(crate) fn run() -> Result<()> {
    let (mut many, mut often, mut ahead) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Each wakes twice between two ticks.
        let active = Sleepers::spawn(10_000, Some(Duration::from_millis(400)))?;
        many.push(measure("jsonl", &["plugins.jsonl.path=/dev/null"], 6)?);
        drop(active);
        let active = Sleepers::spawn(100, Some(Duration::from_micros(900)))?;
        let fast = ["plugins.sched.interval=1ms", "plugins.console.interval=1s", "agent.realtime=true"];
        often.push(measure("console", &fast[..2], 3)?);
        ahead.push(measure("console", &fast, 3)?);
        drop(active);
    }
    let per_tick = |c: &Cost| c.cpu_ns / 1e6 / c.ticks;
    let share = |c: &Cost| 100.0 * c.cpu_ns / c.wall_ns;
    let kept = |c: &Cost| c.ticks * 1e9 / c.wall_ns;
    println!("the agent beside processes that run, medians of {ROUNDS} rounds of {} s", SPAN.as_secs());
    println!(
        "  10,000 active, a tick a second (jsonl): {:.2} ms of CPU time a tick",
        median(&many, per_tick)
    );
    for (how, costs) in [("", &often), (", real-time", &ahead)] {
        println!(
            "  100 active, 1,000 ticks a second (console){how}: {:.2} % of a core, \
             {:.1} ticks a second kept, {:.0} missed",
            median(costs, share),
            median(costs, kept),
            median(costs, |c| c.missed),
        );
    }
    target("ms of CPU time a tick beside 10,000 active", median(&many, per_tick), 20.0);
    target("% of a core at 1 kHz beside 100 active", median(&often, share), 10.0);
    target("ticks a second not kept at 1 kHz", 1_000.0 - median(&often, kept), 1.0);
    target("the same with agent.realtime", 1_000.0 - median(&ahead, kept), 1.0);
    Ok(())
}

/// Runs the agent, and measures it once it has settled for `settle` seconds.
fn measure(output: &str, sets: &[&str], settle: u64) -> Result<Cost> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("control.sock");
    let at = format!("agent.control_socket={}", socket.display());
    let sets: Vec<&str> = sets.iter().copied().chain([at.as_str()]).collect();
    let mut agent = Agent::start(output, &sets)?;
    let ticks = || -> Result<(f64, f64)> {
        let status = Command::new(env!("CARGO_BIN_EXE_wattrace"))
            .args(["control", "--format", "json", "--socket"])
            .arg(&socket)
            .args(["status", "source/sched/*"])
            .output()?;
        let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
        let ticks = &status["elements"][0]["ticks"];
        let number = |key: &str| ticks[key].as_f64().ok_or(format!("no {key} in {status}"));
        Ok((number("count")?, number("missed")?))
    };
    sleep_until(clock(libc::CLOCK_MONOTONIC)? + settle * 1_000_000_000)?;
    let (cpu, wall, before) = (agent.cpu_time()?, clock(libc::CLOCK_MONOTONIC)?, ticks()?);
    sleep_until(wall + SPAN.as_nanos() as u64)?;
    let after = ticks()?;
    let cost = Cost {
        cpu_ns: (agent.cpu_time()? - cpu) as f64,
        wall_ns: (clock(libc::CLOCK_MONOTONIC)? - wall) as f64,
        ticks: after.0 - before.0,
        missed: after.1 - before.1,
    };
    agent.stop()?;
    Ok(cost)
}
