//! Dies whose counters are one register, and dies that have counters of their own, on simulated trees.

use std::time::Duration;

use wattrace_api::testing::Point;
use wattrace_rapl_simulator::Zone;

use super::super::tests::Bench;
use super::*;

const SECOND: u64 = 1_000_000_000;

struct Dies(Bench);

impl Dies {
    fn new(zones: Vec<Zone>) -> Self {
        Self(Bench::new(zones))
    }

    /// Joules and window of each domain's energy at `nanos`.
    fn at(&mut self, nanos: u64) -> Vec<String> {
        let domain = |p: &Point| Some(p.series.domain.as_ref()?.name.clone());
        let millis = |t: Timestamp| t.0.div_ceil(1_000_000);
        let show = |p: &Point| {
            let (name, window) = (domain(p)?, p.window);
            Some(format!("{name} {} [{}, {}]", p.value, millis(window.start), millis(window.end)))
        };
        self.0.at(nanos).iter().filter_map(show).collect()
    }

    fn domains(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.rig.registry.domains().iter().map(|d| d.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

fn dies(a: Zone, b: Zone) -> Dies {
    Dies::new(vec![a, b])
}

fn die(n: u32, watts: f64) -> Zone {
    Zone::new(&format!("intel-rapl:{n}"), &format!("package-0-die-{n}"), watts)
}

#[test]
fn two_dies_that_show_one_register_count_once_from_the_first_reading_on() {
    // Read one after the other, and one has been refreshed in between.
    let later =
        |t: Duration| (t.as_nanos() * 68 / 1_000) as u64 + if t > Duration::ZERO { 68_000 } else { 0 };
    for mut bench in [
        dies(die(0, 68.0).starting_at(51_234_567_890), die(1, 68.0).starting_at(51_234_567_952)),
        dies(die(0, 68.0).starting_at(51_234_567_890), die(1, 68.0).along(later)),
    ] {
        assert_eq!(bench.at(10 * SECOND), ["package-0-die-0 680 [0, 10000]"]);
        for second in 11..30 {
            assert_eq!(bench.at(second * SECOND).len(), 1, "{second}");
        }
    }
}

#[test]
fn dies_with_counters_of_their_own_count_both_and_lose_nothing() {
    let mut bench = dies(die(0, 68.0), die(1, 61.5));
    assert_eq!(bench.domains(), ["package-0-die-0"], "not known yet");
    assert_eq!(bench.at(20_000_000), ["package-0-die-0 1.36 [0, 20]"]);
    let expected = ["package-0-die-0 136 [20, 2000]", "package-0-die-1 123 [0, 2000]"];
    assert_eq!(bench.at(2 * SECOND), expected);
    let expected = ["package-0-die-0 204 [2000, 3000]", "package-0-die-1 184.5 [2000, 3000]"];
    assert_eq!(bench.at(3 * SECOND), expected);
}

#[test]
fn nearly_equal_dies_are_distinguished_by_how_they_drift() {
    let mut bench = dies(die(0, 20.0), die(1, 20.02));
    let mut seen = Vec::new();
    for second in 1..=10 {
        seen.push(bench.at(second * SECOND).len());
    }
    assert_eq!((seen[0], seen[9]), (1, 2), "{seen:?}");
    assert!(bench.at(20 * SECOND).contains(&"package-0-die-1 400.4 [10000, 20000]".to_owned()));
}

#[test]
fn counters_that_stand_still_stay_and_one_of_them_is_left_out_when_they_move_as_one() {
    let still = |t: Duration| if t < Duration::from_secs(3) { 0 } else { t.as_micros() as u64 };
    let mut bench = dies(die(0, 0.0).along(still), die(1, 0.0).along(still));
    for second in 1..3 {
        assert_eq!(bench.at(second * SECOND).len(), 2, "both show zero");
    }
    assert_eq!(bench.at(10 * SECOND), ["package-0-die-0 10 [2000, 10000]"]);
    // A tick comes a little early, so that it is no check that counts.
    let still = |t: Duration| if t < Duration::from_secs(2) { 0 } else { 680_000_000 };
    let mut bench = dies(die(0, 0.0).along(still), die(1, 0.0).along(still));
    assert_eq!(bench.at(SECOND + SECOND / 2).len(), 2);
    assert_eq!(bench.at(2 * SECOND), ["package-0-die-0 680 [1500, 2000]"]);
    let mut bench = dies(die(0, 30.0), die(1, 0.0));
    let expected = ["package-0-die-0 60 [0, 2000]", "package-0-die-1 0 [0, 2000]"];
    assert_eq!(bench.at(2 * SECOND), expected);
}

#[test]
fn counters_that_are_far_apart_count_at_once_until_they_grow_as_one() {
    let mut bench = dies(die(0, 68.0).starting_at(700_000_000), die(1, 61.0).starting_at(9_000));
    assert_eq!(bench.domains(), ["package-0-die-0", "package-0-die-1"]);
    assert_eq!(bench.at(SECOND / 50).len(), 2);
    let mut bench = dies(die(0, 68.0).starting_at(700_000_000), die(1, 68.0).starting_at(9_000));
    assert_eq!(bench.at(10 * SECOND), ["package-0-die-0 680 [0, 10000]"]);
}

#[test]
fn different_packages_are_never_compared() {
    let zone = |n: u32| Zone::new(&format!("intel-rapl:{n}"), &format!("package-{n}"), 40.0);
    let mut bench = Dies::new(vec![zone(0), zone(1)]);
    assert_eq!(bench.at(10 * SECOND).len(), 2);
}

#[test]
fn a_second_psys_that_shows_the_first_is_left_out() {
    let zone = |n: u32| Zone::new(&format!("intel-rapl:{n}"), if n == 0 { "psys" } else { "psys-1" }, 90.0);
    let mut bench = Dies::new(vec![zone(0), zone(1)]);
    assert_eq!(bench.at(10 * SECOND), ["psys 900 [0, 10000]"]);
}
