//! What the agent itself costs while processes sleep: CPU time per tick, memory and descriptors beside 100,
//! 1,000 and 10,000 of them, in interleaved rounds.

use super::machine::{Agent, Sleepers, clock, sleep_until};
use super::{Result, median, sorted, target};

const COUNTS: [usize; 3] = [100, 1_000, 10_000];
const ROUNDS: usize = 3;
/// Seconds that the agent gets to start and settle in, and those that are measured then.
const SETTLE: u64 = 3;
const SPAN: u64 = 10;

/// What was measured in one span.
#[derive(Clone, Copy)]
struct Cost {
    cpu_ns: f64,
    wall_ns: f64,
    rss_mb: f64,
    anonymous_mb: f64,
    descriptors: f64,
}

pub(crate) fn run() -> Result<()> {
    let mut costs: [Vec<Cost>; COUNTS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (costs, count) in costs.iter_mut().zip(COUNTS) {
            let idle = Sleepers::spawn(count, None)?;
            costs.push(measure()?);
            drop(idle);
        }
    }
    report(&costs);
    Ok(())
}

fn report(costs: &[Vec<Cost>; COUNTS.len()]) {
    println!(
        "the agent beside idle processes, medians of {ROUNDS} interleaved rounds of {SPAN} s, a tick a second"
    );
    println!(
        "  processes   CPU µs/tick (min … max)   vs {}   % of a core   RSS MB   anon MB   fds",
        COUNTS[0]
    );
    let per_tick = |c: &Cost| c.cpu_ns / 1e3 / SPAN as f64;
    let share = |c: &Cost| 100.0 * c.cpu_ns / c.wall_ns;
    let first = median(&costs[0], per_tick);
    for (count, costs) in COUNTS.iter().zip(costs) {
        let (least, most) = (sorted(costs, per_tick)[0], sorted(costs, per_tick)[ROUNDS - 1]);
        println!(
            "  {count:9}   {:8.0} ({least:6.0} … {most:6.0})   {:6.2}   {:11.3}   {:6.1}   {:7.1}   {:3.0}",
            median(costs, per_tick),
            median(costs, per_tick) / first,
            median(costs, share),
            median(costs, |c| c.rss_mb),
            median(costs, |c| c.anonymous_mb),
            median(costs, |c| c.descriptors),
        );
    }
    target(
        "CPU time beside 10,000, as a multiple of that beside 100",
        median(&costs[2], per_tick) / first,
        1.2,
    );
    target("% of a core beside 1,000", median(&costs[1], share), 0.3);
    target("RSS beside 1,000, MB", median(&costs[1], |c| c.rss_mb), 25.0);
}

/// Runs the agent and measures it once it has settled.
fn measure() -> Result<Cost> {
    let mut agent = Agent::start("jsonl", &["plugins.jsonl.path=/dev/null"])?;
    // Half-way between two ticks, so that a span of whole seconds holds as many ticks.
    let begin = clock(libc::CLOCK_MONOTONIC)? / 1_000_000_000 + SETTLE;
    let at = |second: u64| second * 1_000_000_000 + 500_000_000;
    sleep_until(at(begin))?;
    let (cpu, wall) = (agent.cpu_time()?, clock(libc::CLOCK_MONOTONIC)?);
    sleep_until(at(begin + SPAN))?;
    let cost = Cost {
        cpu_ns: (agent.cpu_time()? - cpu) as f64,
        wall_ns: (clock(libc::CLOCK_MONOTONIC)? - wall) as f64,
        rss_mb: agent.memory("VmRSS:")?,
        anonymous_mb: agent.memory("RssAnon:")?,
        descriptors: agent.descriptors()? as f64,
    };
    agent.stop()?;
    Ok(cost)
}
