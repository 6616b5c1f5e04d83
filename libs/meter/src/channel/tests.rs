//! A channel of power and one of energy, with scripted readings.

use wattrace_api::testing::Rig;
use wattrace_api::{Domain, Follows, Origin, Resource, metric};

use super::*;

const SECOND: u64 = 1_000_000_000;
const WATT: i128 = 1_000_000;

struct Bench {
    rig: Rig,
    channel: Channel,
}

impl Bench {
    fn new(open: impl FnOnce(Subject, &Arc<Registry>) -> Result<Channel, Error>) -> Self {
        let rig = Rig::new();
        let domain = Domain {
            name: "rail".to_owned(),
            origin: Origin::Simulated,
            follows: Follows::Cpus,
            within: None,
            idle_microwatts: None,
        };
        let subject = Subject { metric: metric::HW_ENERGY, resource: Resource::HOST, domain };
        let channel = open(subject, &rig.registry).unwrap();
        Self { rig, channel }
    }

    fn power() -> Self {
        Self::new(|subject, registry| {
            Channel::of_power(subject, Duration::from_secs(10), Timestamp(0), registry)
        })
    }

    fn energy() -> Self {
        Self::new(|subject, registry| Channel::of_energy(subject, Timestamp(0), registry))
    }

    /// `energy = microjoules [from, to]` in seconds, or `anomaly = count [from, to]`.
    fn take(&mut self, second: u64, reading: i128) -> Vec<String> {
        let mut out = Batch::default();
        self.channel.take(Timestamp(second * SECOND), reading, &mut out);
        self.shown(&out)
    }

    fn miss(&mut self, second: u64) -> Vec<String> {
        let mut out = Batch::default();
        self.channel.miss(Timestamp(second * SECOND), &"torn", &mut out);
        self.shown(&out)
    }

    fn shown(&self, out: &Batch) -> Vec<String> {
        let show = |p: &wattrace_api::testing::Point| {
            let anomaly = p.series.attributes.iter().find(|a| a.key == "wattrace.anomaly");
            let what = anomaly.map_or("energy".to_owned(), |a| a.value.to_string());
            let (from, to) = (p.window.start.0 / SECOND, p.window.end.0 / SECOND);
            format!("{what} = {} [{from}, {to}]", p.steps)
        };
        self.rig.points(out).iter().map(show).collect()
    }
}

#[test]
fn power_is_integrated_and_irregular_readings_are_counted() {
    let mut bench = Bench::power();
    assert!(bench.take(1, 10 * WATT).is_empty());
    assert_eq!(bench.take(2, 20 * WATT), ["energy = 15000000 [1, 2]"]);
    // The next good reading covers the window of a bad or an implausible one.
    assert_eq!(bench.miss(3), ["bad_reading = 1 [2, 3]"]);
    assert_eq!(bench.take(4, 1 << 70), ["implausible = 1 [2, 4]"]);
    assert_eq!(bench.take(5, 20 * WATT), ["energy = 75000000 [2, 5]"]);
    assert_eq!(bench.take(16, 20 * WATT), ["gap = 1 [5, 16]"]);
    assert_eq!(bench.take(17, -5), ["energy = 85000000 [16, 17]", "negative = 1 [16, 17]"]);
    assert!(bench.take(17, 50 * WATT).is_empty());
    bench.channel.interrupt();
    assert_eq!(bench.take(18, 7), ["gap = 2 [17, 18]"]);
}

#[test]
fn a_counter_is_followed_and_irregular_readings_are_counted() {
    let mut bench = Bench::energy();
    assert!(bench.take(1, 500 * WATT).is_empty());
    assert_eq!(bench.take(2, 510 * WATT), ["energy = 10000000 [1, 2]"]);
    assert_eq!(bench.take(3, -1), ["bad_reading = 1 [2, 3]"]);
    assert_eq!(bench.take(4, 530 * WATT), ["energy = 30000000 [2, 4]"]);
    assert_eq!(bench.take(5, 3 * WATT), ["reset = 1 [4, 5]"]);
    assert_eq!(bench.take(6, 4 * WATT), ["energy = 31000000 [5, 6]"]);
    bench.channel.interrupt();
    assert_eq!(bench.take(8, 20 * WATT), ["gap = 1 [6, 8]"]);
    assert_eq!(bench.take(9, 21 * WATT), ["energy = 32000000 [8, 9]"]);
}

#[test]
fn a_counter_that_stands_still_for_a_minute_is_counted_once_until_it_moves() {
    let mut bench = Bench::energy();
    bench.take(0, 7);
    let stalled = |points: &[String]| points.iter().any(|p| p.starts_with("stalled"));
    let seconds: Vec<_> = (1..200).filter(|&s| stalled(&bench.take(s, 7))).collect();
    assert_eq!(seconds, [60]);
    bench.take(200, 8);
    let seconds: Vec<_> = (201..400).filter(|&s| stalled(&bench.take(s, 8))).collect();
    assert_eq!(seconds, [260]);
}

#[test]
fn end_ends_all_series_of_the_channel() {
    let mut bench = Bench::power();
    bench.miss(1);
    let mut out = Batch::default();
    bench.channel.end(&mut out);
    assert_eq!(out.ended().len(), 2);
}
