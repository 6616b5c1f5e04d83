//! The formulas of other tools, as `cargo xtask eval` compares with, on examples small enough to work out by
//! hand. They are part of that benchmark, and come from there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

// Not everything there is needed here.
#[allow(dead_code)]
#[path = "../benches/eval/methods/mod.rs"]
mod methods;
#[allow(dead_code)]
#[path = "../benches/eval/observe.rs"]
mod observe;

use std::collections::BTreeMap;
use std::time::Duration;

use methods::{Books, Method};
use observe::{Sample, View};
use wattrace_simulator::truth::Use;

/// A reading of a machine with one package and two CPUs, `second` seconds after the start: meters of package
/// and memory, ticks that CPUs were busy, and what has been counted of each process.
fn reading(second: f64, joules: [f64; 2], busy_ticks: u64, processes: &[(usize, u64, Use)]) -> Sample {
    let view = |&(number, ticks, used): &(usize, u64, Use)| (number, View { ticks, counted: vec![used] });
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

/// Ticks of 10 ms alone.
fn ticks(number: usize, ticks: u64) -> (usize, u64, Use) {
    (number, ticks, Use::default())
}

fn counts(number: usize, instructions: u64, misses: u64) -> (usize, u64, Use) {
    (number, 0, Use { instructions, misses, ..Use::default() })
}

fn method(name: &str) -> Box<dyn Method> {
    let all = methods::all(Duration::from_secs(1));
    all.into_iter().find(|method| method.name() == name).unwrap()
}

fn books_of(name: &str, readings: impl IntoIterator<Item = Sample>) -> Books {
    let mut method = method(name);
    readings.into_iter().for_each(|reading| method.take(reading));
    method.books().clone()
}

fn assert_joules(books: &Books, processes: &[(usize, f64)], idle: Option<f64>) {
    let told: Vec<usize> = books.processes.keys().copied().collect();
    assert_eq!(told, processes.iter().map(|(number, _)| *number).collect::<Vec<_>>());
    for (number, joules) in processes {
        let told = books.processes[number];
        assert!((told - joules).abs() < 1e-6, "process {number}: {told} J, not {joules}");
    }
    match (books.idle, idle) {
        (Some(told), Some(idle)) => assert!((told - idle).abs() < 1e-6, "idle: {told} J, not {idle}"),
        (told, idle) => assert_eq!(told, idle),
    }
}

#[test]
fn scaphandre_gives_each_its_part_of_the_machines_time_of_all_energy() {
    let readings = [
        reading(0.0, [0.0, 0.0], 0, &[ticks(1, 0), ticks(2, 70), ticks(3, 5)]),
        // Two CPUs have 200 ticks a second; process 3 is gone, and 4 has no earlier reading.
        reading(1.0, [30.0, 10.0], 100, &[ticks(1, 50), ticks(2, 90), ticks(4, 9)]),
    ];
    assert_joules(&books_of("Scaphandre", readings), &[(1, 10.0), (2, 4.0)], None);
}

#[test]
fn alumet_interpolates_the_usage_to_the_meters_timestamp() {
    let mut readings = [
        reading(0.0, [0.0, 0.0], 0, &[ticks(1, 0)]),
        reading(1.0, [20.0, 0.0], 0, &[ticks(1, 50)]),
        reading(2.0, [60.0, 0.0], 0, &[ticks(1, 150)]),
    ];
    // The meter was read half way between the last two readings of usage: a quarter of the machine then, half
    // of it now.
    readings[2].at = 1.5;
    assert_joules(&books_of("Alumet", readings), &[(1, 40.0 * 0.375)], None);
}

#[test]
fn kepler_now_divides_the_busy_part_among_those_who_are_there() {
    let readings = [
        reading(0.0, [0.0, 0.0], 0, &[ticks(1, 0), ticks(3, 10)]),
        // Half of the machine's time was busy. Process 3 is gone with its 20 ticks; 2 is new, with 30 of its
        // own.
        reading(1.0, [30.0, 10.0], 100, &[ticks(1, 50), ticks(2, 30)]),
    ];
    let books = books_of("Kepler now", readings);
    assert_joules(&books, &[(1, 20.0 * 50.0 / 80.0), (2, 20.0 * 30.0 / 80.0)], Some(20.0));
}

#[test]
fn kepler_old_divides_what_is_above_the_least_by_instructions_and_misses() {
    let readings = [
        reading(0.0, [0.0, 0.0], 0, &[]),
        reading(1.0, [10.0, 2.0], 0, &[]),
        // 20 J and 3 J are above the least; process 1 has three quarters of the instructions and a third of
        // the misses.
        reading(2.0, [40.0, 7.0], 0, &[counts(1, 300, 1), counts(2, 100, 2)]),
    ];
    let books = books_of("Kepler old", readings);
    assert_joules(&books, &[(1, 15.0 + 1.0), (2, 5.0 + 2.0)], Some(12.0 + 12.0));
}

/// Readings a second apart of two processes whose time varies, on a package that draws 10 W, 5 W for a second
/// of the first one's billion reference cycles and as much for the second's.
fn linear(count: usize) -> Vec<Sample> {
    let (mut joules, mut times) = (0.0, [0u64; 2]);
    let at = |n: usize| {
        let rates = [(n % 5) as f64 * 0.2, (n % 3) as f64 * 0.3];
        joules += 10.0 + 5.0 * (rates[0] + rates[1]);
        times = [0, 1].map(|i| times[i] + (rates[i] * 1e9).round() as u64);
        let used = |time| Use { time, ..Use::default() };
        reading(n as f64, [joules, 0.0], 0, &[(1, 0, used(times[0])), (2, 0, used(times[1]))])
    };
    (0..count).map(at).collect()
}

#[test]
fn smartwatts_finds_a_linear_model_and_charges_what_it_says() {
    for (name, learnt) in [("SmartWatts, tuned", 30), ("SmartWatts", 90)] {
        let mut readings = linear(learnt + 30);
        let judged = readings.split_off(learnt);
        let mut method = method(name);
        readings.into_iter().for_each(|reading| method.take(reading));
        let before = method.books().clone();
        let rates = |n: usize| [(n % 5) as f64 * 0.2, (n % 3) as f64 * 0.3];
        judged.into_iter().for_each(|reading| method.take(reading));
        for number in [1, 2] {
            let truth: f64 = (learnt..learnt + 30).map(|n| 5.0 * rates(n)[number - 1]).sum();
            let told = method.books().processes[&number] - before.processes[&number];
            assert!((told / truth - 1.0).abs() < 0.01, "{name}: {told} J for {truth}");
        }
        let idle = method.books().idle.unwrap() - before.idle.unwrap();
        assert!((idle / 300.0 - 1.0).abs() < 0.01, "{name}: {idle} J");
    }
}

#[test]
fn smartwatts_as_it_comes_has_no_constant_term_until_its_history_is_full() {
    let idle = |count| books_of("SmartWatts", linear(count)).idle.unwrap();
    assert_eq!(idle(50), 0.0);
    assert!(idle(90) > 0.0);
}

#[test]
fn the_limit_divides_by_what_is_true() {
    let mut readings = [reading(0.0, [0.0, 0.0], 0, &[]), reading(1.0, [40.0, 0.0], 0, &[])];
    // The meter says 40 where 10 were static and 10 were caused: it is divided alike.
    readings[0].caused.extend([(1, vec![[0.0; 2]]), (2, vec![[0.0; 2]])]);
    readings[1].caused.extend([(1, vec![[7.5, 0.0]]), (2, vec![[2.5, 0.0]])]);
    readings[1].idle = vec![[10.0, 0.0]];
    assert_joules(&books_of(methods::LIMIT, readings), &[(1, 15.0), (2, 5.0)], Some(20.0));
}
