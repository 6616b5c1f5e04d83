//! The formulas of other tools that `cargo xtask eval` compares with, on examples small enough to compute by
//! hand. Their code is part of that benchmark.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

// This test uses a part of these modules.
#[allow(dead_code, unused_imports, reason = "the benchmark uses the rest")]
#[path = "../benches/eval/methods/mod.rs"]
mod methods;
#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../benches/eval/observe.rs"]
mod observe;

use std::collections::BTreeMap;
use std::time::Duration;

use methods::{Attributed, Method};
use observe::{Sample, View};
use wattrace_simulator::truth::Counts;

/// A sample of a machine with one package and two CPUs, `second` seconds after the start: meters of package
/// and memory, busy ticks, and the counts of each process.
fn sample(second: f64, joules: [f64; 2], busy_ticks: u64, processes: &[(usize, u64, Counts)]) -> Sample {
    let view = |&(number, ticks, used): &(usize, u64, Counts)| (number, View { ticks, counted: vec![used] });
    let processes: BTreeMap<usize, View> = processes.iter().map(view).collect();
    Sample {
        at: second,
        usage_at: second,
        joules: vec![joules],
        busy_ticks,
        cpus: 2.0,
        ran: processes.clone(),
        processes,
        idle: vec![[0.0; 2]],
        caused: BTreeMap::new(),
    }
}

/// A process with ticks of 10 ms only.
fn ticks(number: usize, ticks: u64) -> (usize, u64, Counts) {
    (number, ticks, Counts::default())
}

fn counts(number: usize, instructions: u64, misses: u64) -> (usize, u64, Counts) {
    (number, 0, Counts { instructions, misses, ..Counts::default() })
}

fn method(name: &str) -> Box<dyn Method> {
    let all = methods::all(Duration::from_secs(1));
    all.into_iter().find(|method| method.name() == name).unwrap()
}

fn attributed_by(name: &str, samples: impl IntoIterator<Item = Sample>) -> Attributed {
    let mut method = method(name);
    samples.into_iter().for_each(|sample| method.take(sample));
    method.attributed().clone()
}

fn assert_joules(sums: &Attributed, processes: &[(usize, f64)], idle: Option<f64>) {
    let found: Vec<usize> = sums.processes.keys().copied().collect();
    assert_eq!(found, processes.iter().map(|(number, _)| *number).collect::<Vec<_>>());
    for (number, joules) in processes {
        let found = sums.processes[number];
        assert!((found - joules).abs() < 1e-6, "process {number}: {found} J, not {joules}");
    }
    match (sums.idle, idle) {
        (Some(found), Some(idle)) => assert!((found - idle).abs() < 1e-6, "idle: {found} J, not {idle}"),
        (found, idle) => assert_eq!(found, idle),
    }
}

#[test]
fn scaphandre_divides_all_energy_by_the_part_of_the_machines_time() {
    let samples = [
        sample(0.0, [0.0, 0.0], 0, &[ticks(1, 0), ticks(2, 70), ticks(3, 5)]),
        // Two CPUs have 200 ticks a second; process 3 is gone, and 4 has no earlier sample.
        sample(1.0, [30.0, 10.0], 100, &[ticks(1, 50), ticks(2, 90), ticks(4, 9)]),
    ];
    assert_joules(&attributed_by("Scaphandre", samples), &[(1, 10.0), (2, 4.0)], None);
}

#[test]
fn alumet_interpolates_the_usage_to_the_meters_timestamp() {
    let mut samples = [
        sample(0.0, [0.0, 0.0], 0, &[ticks(1, 0)]),
        sample(1.0, [20.0, 0.0], 0, &[ticks(1, 50)]),
        sample(2.0, [60.0, 0.0], 0, &[ticks(1, 150)]),
    ];
    // The meter was read half way between the last two samples of usage: a quarter of the machine before,
    // half of it after.
    samples[2].at = 1.5;
    assert_joules(&attributed_by("Alumet", samples), &[(1, 40.0 * 0.375)], None);
}

#[test]
fn kepler_now_divides_the_busy_part_among_living_processes() {
    let samples = [
        sample(0.0, [0.0, 0.0], 0, &[ticks(1, 0), ticks(3, 10)]),
        // Half of the machine's time was busy. Process 3 is gone with its 20 ticks; 2 is new, with 30 of its
        // own.
        sample(1.0, [30.0, 10.0], 100, &[ticks(1, 50), ticks(2, 30)]),
    ];
    let sums = attributed_by("Kepler now", samples);
    assert_joules(&sums, &[(1, 20.0 * 50.0 / 80.0), (2, 20.0 * 30.0 / 80.0)], Some(20.0));
}

#[test]
fn kepler_old_divides_energy_above_the_lowest_power_by_instructions_and_misses() {
    let samples = [
        sample(0.0, [0.0, 0.0], 0, &[]),
        sample(1.0, [10.0, 2.0], 0, &[]),
        // 20 J and 3 J are above the lowest power; process 1 has three quarters of the instructions and a
        // third of the misses.
        sample(2.0, [40.0, 7.0], 0, &[counts(1, 300, 1), counts(2, 100, 2)]),
    ];
    let sums = attributed_by("Kepler old", samples);
    assert_joules(&sums, &[(1, 15.0 + 1.0), (2, 5.0 + 2.0)], Some(12.0 + 12.0));
}

/// Samples a second apart of two processes whose time varies, on a package that draws 10 W, and 5 J for each
/// second of CPU time of either process.
fn linear(count: usize) -> Vec<Sample> {
    let (mut joules, mut times) = (0.0, [0u64; 2]);
    let at = |n: usize| {
        let rates = [(n % 5) as f64 * 0.2, (n % 3) as f64 * 0.3];
        joules += 10.0 + 5.0 * (rates[0] + rates[1]);
        times = [0, 1].map(|i| times[i] + (rates[i] * 1e9).round() as u64);
        let used = |time| Counts { time, ..Counts::default() };
        sample(n as f64, [joules, 0.0], 0, &[(1, 0, used(times[0])), (2, 0, used(times[1]))])
    };
    (0..count).map(at).collect()
}

#[test]
fn smartwatts_finds_a_linear_model_and_divides_by_it() {
    for (name, learnt) in [("SmartWatts, tuned", 30), ("SmartWatts", 90)] {
        let mut samples = linear(learnt + 30);
        let compared = samples.split_off(learnt);
        let mut method = method(name);
        samples.into_iter().for_each(|sample| method.take(sample));
        let before = method.attributed().clone();
        let rates = |n: usize| [(n % 5) as f64 * 0.2, (n % 3) as f64 * 0.3];
        compared.into_iter().for_each(|sample| method.take(sample));
        for number in [1, 2] {
            let truth: f64 = (learnt..learnt + 30).map(|n| 5.0 * rates(n)[number - 1]).sum();
            let found = method.attributed().processes[&number] - before.processes[&number];
            assert!((found / truth - 1.0).abs() < 0.01, "{name}: {found} J for {truth}");
        }
        let idle = method.attributed().idle.unwrap() - before.idle.unwrap();
        assert!((idle / 300.0 - 1.0).abs() < 0.01, "{name}: {idle} J");
    }
}

#[test]
fn smartwatts_with_its_own_settings_has_no_constant_term_until_its_history_is_full() {
    let idle = |count| attributed_by("SmartWatts", linear(count)).idle.unwrap();
    assert_eq!(idle(50), 0.0);
    assert!(idle(90) > 0.0);
}

#[test]
fn the_limit_divides_by_the_truth() {
    let mut samples = [sample(0.0, [0.0, 0.0], 0, &[]), sample(1.0, [40.0, 0.0], 0, &[])];
    // The meter shows 40 J where 10 were static and 10 were caused: both get half.
    samples[0].caused.extend([(1, vec![[0.0; 2]]), (2, vec![[0.0; 2]])]);
    samples[1].caused.extend([(1, vec![[7.5, 0.0]]), (2, vec![[2.5, 0.0]])]);
    samples[1].idle = vec![[10.0, 0.0]];
    assert_joules(&attributed_by(methods::LIMIT, samples), &[(1, 15.0), (2, 5.0)], Some(20.0));
}
