//! The output with a real collector (rotel) that forwards to an independent decoder (`decoder.py`): over gRPC
//! and over HTTP, the decoder prints what was written. `cargo xtask test` prepares the Python environment of
//! both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

#[path = "common/collector.rs"]
mod collector;
mod common;

use std::path::Path;
use std::time::Duration;

use collector::Line;
use common::{Fixture, J, process};
use wattrace_api::Attribute;
use wattrace_otlp::OtlpConfig;

const INTERVAL: Duration = Duration::from_secs(10);
/// A moment of 2026, in nanoseconds since the Unix epoch.
const START: u64 = 1_780_000_000_000_000_000;

fn arrives(protocol: &str, receiver: &str) {
    let decoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decoder.py");
    let Some(pipe) = collector::start(receiver, &decoder) else { return };
    let config = OtlpConfig {
        endpoint: pipe.endpoint.clone(),
        protocol: protocol.to_owned(),
        interval: INTERVAL,
        service_name: "tested".to_owned(),
        resource_attributes: [("team".to_owned(), "x".to_owned())].into(),
        ..OtlpConfig::default()
    };
    let mut fixture = Fixture::new(config, START);
    let shell = process(102, "sh");
    let hardware = fixture.energy(None);
    let (stays, execs) = (fixture.energy(Some(process(101, "stays"))), fixture.energy(Some(shell.clone())));
    let ends = fixture.energy(Some(process(103, "ends")));

    // The test waits until each export has arrived, so that rotel cannot merge two of them.
    fixture.write(INTERVAL, &[(hardware, 9 * J), (stays, J), (execs, 2 * J), (ends, 3 * J)], &[]);
    let mut lines = pipe.until(|line| line.process_name() == "ends");
    fixture.flush().unwrap();
    shell.update(vec![Attribute::new("process.executable.name", "make")]);
    fixture.write(INTERVAL, &[(hardware, 20 * J), (stays, 4 * J), (execs, 7 * J), (ends, 5 * J)], &[ends]);
    lines.extend(pipe.until(|line| line.process_name() == "ends" && line.value == Some(5.0)));
    fixture.flush().unwrap();
    fixture.write(INTERVAL, &[(hardware, 30 * J), (stays, 6 * J)], &[]);
    lines.extend(pipe.until(|line| line.process_name() == "stays" && line.value == Some(6.0)));
    fixture.flush().unwrap();
    let has_ended = |lines: &[Line], name| lines.iter().any(|line| line.process_name() == name && line.ended);
    while !(has_ended(&lines, "ends") && has_ended(&lines, "sh")) {
        lines.extend(pipe.until(|line| line.ended));
    }
    check(&lines);
    assert_eq!(fixture.losses(), []);
}

/// The distinct (seconds of start, seconds of time, value) of a stream, times counted from [`START`].
fn stream(lines: &[Line], name: &str) -> Vec<(u64, u64, Option<f64>)> {
    let since = |at: u64| (at - START) / 1_000_000_000;
    let of = lines.iter().filter(|line| line.process_name() == name);
    let mut points: Vec<_> = of.map(|line| (since(line.start), since(line.time), line.value)).collect();
    points.dedup();
    points
}

fn check(lines: &[Line]) {
    let expected = [
        ("hw", vec![(0, 10, Some(9.0)), (0, 20, Some(20.0)), (0, 30, Some(30.0))]),
        ("stays", vec![(0, 10, Some(1.0)), (0, 20, Some(4.0)), (0, 30, Some(6.0))]),
        // Renamed after the first export: the old name ends with what it used, the new one starts there.
        ("sh", vec![(0, 10, Some(2.0)), (0, 10, None)]),
        ("make", vec![(10, 20, Some(5.0))]),
        ("ends", vec![(0, 10, Some(3.0)), (0, 20, Some(5.0)), (0, 20, None)]),
    ];
    for (name, points) in expected {
        assert_eq!(stream(lines, name), points, "{name}");
    }
    for line in lines {
        let hardware = line.process_name() == "hw";
        assert_eq!(line.name, if hardware { "hw.energy" } else { "wattrace.consumer.energy" });
        assert_eq!((line.unit.as_str(), line.scope.as_str()), ("J", "wattrace"));
        assert!(line.monotonic && line.temporality == "AGGREGATION_TEMPORALITY_CUMULATIVE", "{line:?}");
        assert!(!line.description.is_empty());
        assert_eq!(line.ended, line.value.is_none(), "{line:?}");
        assert_eq!(line.attributes["wattrace.domain"], "package-0");
        assert_eq!(line.attributes["wattrace.origin"], "simulated");
        if hardware {
            assert_eq!(
                (&line.attributes["hw.type"], &line.attributes["hw.id"]),
                (&"cpu".into(), &"package-0".into())
            );
        } else {
            assert_eq!(line.attributes["wattrace.consumer.type"], "process");
            let pid = match line.process_name() {
                "stays" => 101,
                "ends" => 103,
                _ => 102,
            };
            assert_eq!(line.attributes["process.pid"], pid);
        }
        assert_eq!((&line.resource["service.name"], &line.resource["team"]), (&"tested".into(), &"x".into()));
        for key in ["service.version", "service.instance.id", "host.name", "host.arch", "os.type"] {
            assert!(line.resource[key].as_str().is_some_and(|v| !v.is_empty()), "{key}");
        }
    }
}

#[test]
fn over_grpc_everything_arrives() {
    arrives("grpc", "grpc");
}

#[test]
fn over_http_everything_arrives() {
    arrives("http/protobuf", "http");
}

#[test]
fn over_http_as_json_everything_arrives() {
    arrives("http/json", "http");
}

/// The power that a meter shows, every 10 ms for a second, in watts: the truth of the histogram.
fn watts() -> Vec<u64> {
    (0..100).map(|n: u64| if n % 10 == 9 { 180 } else { 20 + n % 7 }).collect()
}

#[test]
fn increments_and_distributions_of_power_arrive() {
    let decoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decoder.py");
    let Some(pipe) = collector::start("grpc", &decoder) else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = OtlpConfig {
        endpoint: pipe.endpoint.clone(),
        interval: Duration::from_secs(1),
        temporality: "delta".to_owned(),
        power_histogram: "exponential".to_owned(),
        spool: directory.path().join("spool.db"),
        ..OtlpConfig::default()
    };
    let mut fixture = Fixture::new(config, START);
    let (hardware, works) = (fixture.energy(None), fixture.energy(Some(process(101, "works"))));
    let mut joules = 0;
    let mut lines = Vec::new();
    for round in 1..=3 {
        for (at, watts) in (1..).zip(watts()) {
            joules += watts * J / 100;
            let ended = if (round, at) == (3, 100) { &[works][..] } else { &[] };
            fixture.write(Duration::from_millis(10), &[(hardware, joules), (works, joules / 2)], ended);
        }
        lines.extend(pipe.until(|line| line.process_name() == "works"));
        fixture.flush().unwrap();
    }
    assert!(lines.iter().all(|line| line.temporality == "AGGREGATION_TEMPORALITY_DELTA" && !line.ended));
    let of = |name: &str| lines.iter().filter(|line| line.name == name).collect::<Vec<_>>();
    let seconds = |at: u64| (at - START) / 1_000_000_000;
    let sum = |name: &str| of(name).iter().filter_map(|line| line.value).sum::<f64>();
    assert_eq!((sum("hw.energy") * 1e6).round() as u64, joules);
    assert_eq!((sum("wattrace.consumer.energy") * 1e6).round() as u64, joules / 2);
    let windows: Vec<_> =
        of("hw.energy").iter().map(|line| (seconds(line.start), seconds(line.time))).collect();
    assert_eq!(windows, [(0, 1), (1, 2), (2, 3)]);

    let powers = of("wattrace.domain.power");
    let windows: Vec<_> = powers.iter().map(|line| (seconds(line.start), seconds(line.time))).collect();
    assert_eq!(windows, [(0, 1), (1, 2), (2, 3)]);
    for line in powers {
        assert_eq!((line.unit.as_str(), &line.attributes["wattrace.domain"]), ("W", &"package-0".into()));
        let histogram = line.histogram.as_ref().unwrap();
        let total = watts().iter().sum::<u64>() as f64;
        assert_eq!((histogram.count, histogram.zero), (100, 0));
        assert!((histogram.sum - total).abs() < 1e-6, "{histogram:?}");
        assert!((histogram.min - 20.0).abs() < 1e-9 && (histogram.max - 180.0).abs() < 1e-9, "{histogram:?}");
        for (low, high, count) in &histogram.buckets {
            // Each value is whole, and what is read is off by less than a billionth.
            let within =
                watts().iter().filter(|&&w| w as f64 > low - 1e-6 && w as f64 <= high + 1e-6).count();
            assert_eq!(*count, within as u64, "{low}..{high} of {histogram:?}");
            assert!(high / low < 1.04, "{low}..{high}");
        }
        assert_eq!(histogram.buckets.iter().map(|(_, _, count)| count).sum::<u64>(), 100);
    }
    assert_eq!(fixture.losses(), []);
}
