//! The element with a scripted BMC.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;

use wattrace_api::testing::Rig;
use wattrace_api::{ErrorKind, Origin, Resource};

use super::*;
use crate::dcmi::wire::tests::reply;

const SECOND: u64 = 1_000_000_000;

/// Answers from a script, and checks the requests.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<VecDeque<io::Result<Vec<u8>>>>>);

impl Device for Scripted {
    fn request(&mut self, function: u8, command: u8, data: &[u8], into: &mut [u8]) -> io::Result<usize> {
        assert_eq!((function, command, data), (0x2c, 0x02, &[0xdc, 0x01, 0x00, 0x00][..]));
        let answer = self.0.lock().unwrap().pop_front().unwrap()?;
        into[..answer.len()].copy_from_slice(&answer);
        Ok(answer.len())
    }
}

struct Bench {
    rig: Rig,
    bmc: Scripted,
    source: DcmiSource,
}

fn open(first: io::Result<Vec<u8>>) -> Result<Bench, Error> {
    let (rig, bmc) = (Rig::new(), Scripted::default());
    bmc.0.lock().unwrap().push_back(first);
    let config = BmcConfig { simulated: true, ..BmcConfig::default() };
    let source = DcmiSource::open(Box::new(bmc.clone()), &config, rig.registry.clone(), rig.clock.clone())?;
    Ok(Bench { rig, bmc, source })
}

impl Bench {
    /// `what = steps [from, to]` in seconds; and the error's kind.
    fn at(&mut self, second: u64, answer: io::Result<Vec<u8>>) -> (Vec<String>, Option<ErrorKind>) {
        let now = Timestamp(second * SECOND);
        self.rig.clock.set(now);
        self.bmc.0.lock().unwrap().push_back(answer);
        let mut batch = Batch::default();
        let polled = self.source.poll(&Tick::at(now), &mut batch);
        let shown = self.rig.points(&batch).into_iter().map(|p| {
            let anomaly = p.series.attributes.iter().find(|a| a.key == "wattrace.anomaly");
            let what = anomaly.map_or(p.metric, |a| a.value.to_string());
            format!("{what} = {} [{}, {}]", p.steps, p.window.start.0 / SECOND, p.window.end.0 / SECOND)
        });
        (shown.collect(), polled.err().map(|e| e.kind()))
    }
}

fn points(of: &[&str]) -> (Vec<String>, Option<ErrorKind>) {
    (of.iter().map(|s| s.to_string()).collect(), None)
}

#[test]
fn watts_become_the_host_s_joules() {
    let mut bench = open(Ok(reply(200, 1))).unwrap();
    assert_eq!(bench.at(5, Ok(reply(300, 6))), points(&["hw.host.energy = 1250000000 [0, 5]"]));
    let domains = bench.rig.registry.domains();
    assert_eq!((&*domains[0].name, domains[0].origin), ("bmc", Origin::Simulated));
    let series = bench.rig.registry.series();
    assert!(series.iter().all(|(_, s)| s.resource == Resource::HOST));
}

#[test]
fn a_malformed_reply_is_an_anomaly_and_no_reply_is_an_error_to_retry() {
    let mut bench = open(Ok(reply(200, 1))).unwrap();
    assert_eq!(bench.at(5, Ok(vec![0xc0])), points(&["bad_reading = 1 [0, 5]"]));
    assert_eq!(bench.at(10, Ok(reply(0, 3))), points(&["bad_reading = 2 [0, 10]"]));
    let no_reply = bench.at(15, Err(io::ErrorKind::TimedOut.into()));
    assert_eq!(no_reply, (vec!["bad_reading = 3 [0, 15]".to_owned()], Some(ErrorKind::Retry)));
    // The window reaches back to the last good reading.
    assert_eq!(bench.at(20, Ok(reply(200, 21))), points(&["hw.host.energy = 4000000000 [0, 20]"]));
    // Longer than a minute: a gap.
    assert_eq!(bench.at(81, Ok(reply(200, 82))), points(&["gap = 1 [20, 81]"]));
    assert_eq!(bench.at(86, Ok(reply(200, 87))), points(&["hw.host.energy = 5000000000 [81, 86]"]));
}

#[test]
fn a_bmc_that_is_busy_now_and_then_leaves_no_gap_and_counts_nothing_twice() {
    let mut bench = open(Ok(reply(372, 0))).unwrap();
    for (second, code) in [(5, 0xc0), (10, 0xc3)] {
        let (points, error) = bench.at(second, Ok(vec![code]));
        assert!(points[0].starts_with("bad_reading") && error.is_none(), "{points:?}");
    }
    assert_eq!(bench.at(15, Ok(reply(380, 0))), points(&["hw.host.energy = 5640000000 [0, 15]"]));
    assert_eq!(bench.at(20, Ok(reply(380, 0))), points(&["hw.host.energy = 7540000000 [15, 20]"]));
}

#[test]
fn watts_of_a_bmc_that_says_it_does_not_measure_count() {
    let inactive = |watts, second| {
        let mut reply = reply(watts, second);
        *reply.last_mut().unwrap() = 0;
        reply
    };
    let mut bench = open(Ok(inactive(210, 1))).unwrap();
    assert_eq!(bench.at(5, Ok(inactive(230, 6))), points(&["hw.host.energy = 1100000000 [0, 5]"]));
}

#[test]
fn a_bmc_whose_clock_stops_is_reported_once() {
    let mut bench = open(Ok(reply(200, 1))).unwrap();
    let mut reported = Vec::new();
    for second in (5..200).step_by(5) {
        let (points, _) = bench.at(second, Ok(reply(200, 1)));
        reported.extend(points.iter().any(|p| p.starts_with("stalled")).then_some(second));
    }
    assert_eq!(reported, [60]);
}

#[test]
fn a_bmc_without_a_power_meter_is_gone_and_a_busy_one_is_not() {
    let mut deactivated = vec![0; 19];
    deactivated[1] = 0xdc;
    for no_meter in [vec![0xc1], deactivated] {
        let error = open(Ok(no_meter)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Gone);
        assert!(error.to_string().contains("plugins.bmc.endpoint"), "{error}");
    }
    let mut bench = open(Ok(vec![0xc0])).unwrap();
    assert_eq!(bench.at(5, Ok(reply(100, 6))), points(&[]));
    assert_eq!(bench.at(10, Ok(reply(100, 11))), points(&["hw.host.energy = 500000000 [5, 10]"]));
}
