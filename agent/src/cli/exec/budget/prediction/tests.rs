//! A command of known power against [`Enforcement`], in simulated time: what it has used when the budget
//! counts as used up.

use std::env;

use super::*;

/// The resolution of simulated time, ns.
const STEP: u64 = 100_000;
const MS: u64 = 1_000_000;

/// Random numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }
}

/// A command that repeats phases of constant power: watts, and how long it runs at them, ns.
struct Load(Vec<(u64, u64)>);

impl Load {
    fn random(random: &mut Random) -> Self {
        let phases = random.between(1, 7);
        let mut phase = || (random.below(81), random.between(2 * MS, 300 * MS));
        let mut phases: Vec<_> = (0..phases).map(|_| phase()).collect();
        phases.push((random.between(5, 81), random.between(5 * MS, 300 * MS)));
        Self(phases)
    }

    fn highest(&self) -> u64 {
        self.0.iter().map(|&(watts, _)| watts).max().unwrap_or(0)
    }

    /// Watts after it ran for so long.
    fn power(&self, ran: u64) -> u64 {
        let mut left = ran % self.0.iter().map(|&(_, ns)| ns).sum::<u64>();
        for &(watts, ns) in &self.0 {
            if left < ns {
                return watts;
            }
            left -= ns;
        }
        0
    }
}

/// Runs `load` until its budget of `limit` microjoules counts as used up; some readings are `late`. Returns
/// what it has used by then, in microjoules, and how often it was paused.
fn run(load: &Load, limit: u64, late: u64, random: &mut Random) -> (u64, usize) {
    const TICK: u64 = 10 * MS;
    let (mut used, mut enforcement) = (Used::default(), Enforcement::new(limit));
    let (mut now, mut ran, mut nanojoules, mut closed, mut known) = (3 * MS, 0, 0, 0, 0);
    let (mut paused, mut pause_at, mut pauses) = (false, None, 0);
    let mut next_reading = TICK + random.between(MS, 3 * MS);
    while now < 3_600_000 * MS {
        if pause_at.is_some_and(|at| at <= now) {
            (paused, pause_at, pauses) = (true, None, pauses + 1);
            enforcement.paused(Timestamp(now));
        }
        if now >= next_reading {
            // What was used until the tick is known.
            let tick = now / TICK * TICK;
            let window = Window::new(Timestamp(known), Timestamp(tick));
            used.add(0, window, closed / 1_000 - used.total());
            known = tick;
            let delay = if random.below(10) == 0 { late } else { 0 };
            next_reading = tick + TICK + random.between(MS, 3 * MS) + delay;
            match enforcement.decide(&used, Timestamp(now)) {
                Decision::Wait => {}
                Decision::Reached => return (nanojoules / 1_000, pauses),
                Decision::Run(pause) => pause_at = pause.map(|at| at.0 + random.below(MS / 2)),
                Decision::Resume(pause) => {
                    paused = false;
                    pause_at = pause.map(|at| at.0 + random.below(MS / 2));
                }
            }
        }
        now += STEP;
        if !paused {
            nanojoules += load.power(ran) * STEP;
            ran += STEP;
        }
        if now % TICK == 0 {
            closed = nanojoules;
        }
    }
    panic!("a command of {:?} never used {limit} microjoules", load.0);
}

/// At most 2 % and what it can use in a tick too much, at most 2 % too little. `WATTRACE_BUDGET_LOADS` sets
/// the number of loads.
#[test]
fn a_random_load_is_stopped_at_its_budget() {
    let loads = env::var("WATTRACE_BUDGET_LOADS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut most, mut least, mut pauses) = (0.0_f64, 1.0_f64, 0);
    for number in 0..loads {
        let load = Load::random(&mut random);
        let limit = random.between(1_000_000, 60_000_000);
        let (used, paused) = run(&load, limit, 0, &mut random);
        let tick = load.highest() * 10_000;
        assert!(used <= limit / 50 * 51 + tick, "load {number}: {used} of {limit} µJ, {tick} in a tick");
        assert!(used >= limit / 50 * 49, "load {number}: {used} of {limit} µJ");
        assert!(paused <= 60, "load {number} was paused {paused} times");
        let part = used as f64 / limit as f64;
        (most, least, pauses) = (most.max(part), least.min(part), pauses + paused);
    }
    eprintln!("{loads} loads: {:.2} to {:.2} % of the budget, {pauses} pauses", least * 100.0, most * 100.0);
}

/// Within what it uses in a millisecond, though readings are 10 ms apart.
#[test]
fn a_steady_load_is_stopped_at_the_moment_that_was_predicted() {
    let mut random = Random(7);
    for (watts, late) in [(1, 0), (20, 0), (80, 0), (1, 90 * MS), (20, 90 * MS), (40, 90 * MS)] {
        let limit = 8_345_678;
        let (used, pauses) = run(&Load(vec![(watts, MS)]), limit, late, &mut random);
        assert!(used.abs_diff(limit) <= (watts * 1_000).max(limit / 200), "{watts} W: {used} µJ");
        assert!(pauses <= 2, "{watts} W: it was paused {pauses} times");
    }
}

#[test]
fn what_two_domains_will_use_is_added_up_from_where_each_is_known() {
    let mut used = Used::default();
    let window = |from: u64, to: u64| Window::new(Timestamp(from * MS), Timestamp(to * MS));
    assert_eq!(used.crossing(1, Timestamp(0)), None, "it has used nothing");
    // 20 W until 100 ms, 5 W until 50 ms: 2.25 J; at 100 ms it is 2.5 J, and 25 W from there.
    used.add(0, window(0, 100), 2_000_000);
    used.add(1, window(0, 50), 250_000);
    assert_eq!(used.crossing(3_000_000, Timestamp(0)), Some(Timestamp(120 * MS)));
    assert_eq!(used.crossing(1_000_000, Timestamp(0)), Some(Timestamp(40 * MS)));
    // It stood still from the last windows to 200 ms.
    assert_eq!(used.crossing(3_000_000, Timestamp(200 * MS)), Some(Timestamp(230 * MS)));
}

#[test]
fn a_command_whose_meter_is_slow_is_not_paused_for_longer_than_the_patience() {
    let mut used = Used::default();
    used.add(0, Window::new(Timestamp(0), Timestamp(100 * MS)), 900_000);
    let mut enforcement = Enforcement::new(1_000_000);
    assert_eq!(enforcement.decide(&used, Timestamp(102 * MS)), Decision::Run(Some(Timestamp(111_111_111))));
    enforcement.paused(Timestamp(112 * MS));
    assert_eq!(enforcement.decide(&used, Timestamp(2_000 * MS)), Decision::Wait);
    let resumed = enforcement.decide(&used, Timestamp(2_112 * MS));
    assert_eq!(resumed, Decision::Resume(Some(Timestamp(2_123_111_111))));
}
