//! The gateway with a sender that shares no code with it (`sender.py`): sums, deltas, gauges, restarts, ends,
//! refused points and senders. `cargo xtask test` prepares the Python environment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{Gateway, J, START};
use serde_json::{Value, json};
use wattrace_otlp_receiver::OtlpReceiverConfig;

const SECOND: u64 = 1_000_000_000;

/// The Python of the tests; `None` if there is none or it lacks `module`, which is a failure under CI=true.
fn python(module: &str) -> Option<String> {
    let python = std::env::var("WATTRACE_TEST_PYTHON").ok();
    let has = |python: &String| {
        let import = format!("import {module}");
        Command::new(python).args(["-c", &import]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let found = python.filter(has);
    assert!(
        found.is_some() || std::env::var("CI").is_err(),
        "WATTRACE_TEST_PYTHON has no {module}: run `cargo xtask test`"
    );
    if found.is_none() {
        eprintln!("SKIPPED: an independent sender with {module}: run `cargo xtask test`");
    }
    found
}

/// The sender, pointed at a gateway.
struct Sender {
    child: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    protocol: &'static str,
    address: String,
    headers: Value,
}

impl Drop for Sender {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Sender {
    fn start(protocol: &'static str, gateway: &Gateway) -> Option<Self> {
        let python =
            python(if protocol == "grpc" { "grpc, opentelemetry.proto" } else { "opentelemetry.proto" })?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sender.py");
        let mut child =
            Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let OtlpReceiverConfig { grpc, http, .. } = &gateway.config;
        let address = if protocol == "grpc" { grpc.clone() } else { http.clone() };
        Some(Self {
            child,
            input,
            answers: BufReader::new(output).lines(),
            protocol,
            address,
            headers: json!({}),
        })
    }

    /// Sends `metrics`; (status, rejected points, message).
    fn send(&mut self, metrics: Value) -> (String, u64, String) {
        let resource = json!({ "host.name": "node-1", "service.instance.id": "one", "os.type": "linux" });
        let script = json!({
            "protocol": self.protocol, "address": self.address, "headers": self.headers, "gzip": true,
            "resource": resource, "metrics": metrics,
        });
        writeln!(self.input, "{script}").unwrap();
        let answer: Value = serde_json::from_str(&self.answers.next().unwrap().unwrap()).unwrap();
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        (text("status"), answer["rejected"].as_u64().unwrap(), text("message"))
    }
}

/// A metric of one point, `seconds` after the start.
fn metric(name: &str, unit: &str, data: &str, value: Value, seconds: u64) -> Value {
    let time = START + seconds * SECOND;
    let points = json!([{ "value": value, "start": START, "time": time }]);
    json!({ "name": name, "unit": unit, "data": data, "points": points })
}

fn everything_arrives(protocol: &'static str) {
    let mut gateway = Gateway::start(|_| {});
    let Some(mut sender) = Sender::start(protocol, &gateway) else { return };
    let ok = ("ok".to_owned(), 0, String::new());
    let metrics = json!([
        metric("energy", "J", "sum", json!(1_234.567_891), 1),
        metric("time", "s", "sum", json!(0.000_000_007), 1),
        metric("requests", "{request}", "sum", json!(41), 1),
        metric("queue", "{request}", "updown", json!(-3), 1),
        metric("temperature", "Cel", "gauge", json!(36.6), 1),
        metric("work", "J", "delta", json!(0.000_002), 1),
    ]);
    assert_eq!(sender.send(metrics), ok);
    let second_delta = json!([{ "name": "work", "unit": "J", "data": "delta",
        "points": [{ "value": 5, "start": START + SECOND, "time": START + 2 * SECOND }] }]);
    assert_eq!(sender.send(second_delta), ok);
    gateway.poll(Duration::from_secs(3));
    let counter = |gateway: &Gateway, name| gateway.counter(name, "node-1", &[]).unwrap();
    assert_eq!(counter(&gateway, "energy"), 1_234_567_891);
    assert_eq!(counter(&gateway, "time"), 7);
    assert_eq!(counter(&gateway, "requests"), 41);
    assert_eq!(counter(&gateway, "work"), 5 * J + 2);
    let gauge = |name| f64::from_bits(gateway.counter(name, "node-1", &[]).unwrap());
    assert_eq!((gauge("queue"), gauge("temperature")), (-3.0, 36.6));

    // The sender was restarted: a new start, and a smaller value. The old series ends.
    let restarted = json!([{ "name": "energy", "unit": "J", "data": "sum",
        "points": [{ "value": 0.5, "start": START + 3 * SECOND, "time": START + 4 * SECOND }] }]);
    assert_eq!(sender.send(restarted), ok);
    gateway.poll(Duration::from_secs(1));
    assert_eq!(gateway.ended.len(), 1);
    gateway.forget_ended();
    assert_eq!(counter(&gateway, "energy"), J / 2);
    let ended = json!([{ "name": "energy", "unit": "J", "data": "sum",
        "points": [{ "ended": true, "start": START + 3 * SECOND, "time": START + 5 * SECOND }] }]);
    assert_eq!(sender.send(ended), ok);
    gateway.poll(Duration::from_secs(1));
    assert_eq!(gateway.ended.len(), 1);
}

#[test]
fn everything_arrives_over_http() {
    everything_arrives("http");
}

#[test]
fn everything_arrives_over_grpc() {
    everything_arrives("grpc");
}

#[test]
fn invalid_points_are_refused_one_by_one_and_reported() {
    let mut gateway = Gateway::start(|config| config.max_series = 3);
    let Some(mut sender) = Sender::start("http", &gateway) else { return };
    let (status, rejected, message) = sender.send(json!([
        metric("latency", "s", "histogram", json!(1), 1),
        metric("good", "J", "sum", json!(1.0), 1),
        metric("good", "W", "gauge", json!(1.0), 1),
        metric("negative", "J", "sum", json!(-1.0), 1),
    ]));
    assert_eq!((status.as_str(), rejected), ("ok", 3));
    assert!(
        message.contains("3 points refused") && message.contains("latency: histograms are not supported"),
        "{message}"
    );
    // Backwards with the same start; twice the same span; one series too many.
    let again = sender.send(json!([
        metric("good", "J", "sum", json!(0.5), 2),
        metric("work", "J", "delta", json!(1), 1),
        metric("work", "J", "delta", json!(1), 1),
        metric("third", "J", "sum", json!(1), 1),
        metric("fourth", "J", "sum", json!(1), 1),
    ]));
    assert_eq!(again.1, 3, "{again:?}");
    gateway.poll(Duration::from_secs(1));
    assert_eq!(gateway.counter("good", "node-1", &[]), Some(J));
    assert_eq!(gateway.counter("work", "node-1", &[]), Some(J));
    for (reason, count) in
        [("unsupported", 1), ("conflict", 2), ("bad_number", 1), ("backwards", 1), ("too_many_series", 1)]
    {
        assert_eq!(gateway.own("wattrace.gateway.points", reason), count, "{reason}");
    }
}

#[test]
fn numbered_requests_are_accepted_once_and_gaps_are_counted_by_sender() {
    let mut gateway = Gateway::start(|_| {});
    let Some(mut sender) = Sender::start("http", &gateway) else { return };
    for number in [1, 2, 2, 5, 4, 4, 6] {
        sender.headers = json!({ "wattrace-sequence": format!("epoch:{number}") });
        let points = json!([{ "value": 1, "time": START }]);
        let delta = json!([{ "name": "work", "unit": "J", "data": "delta", "points": points }]);
        assert_eq!(sender.send(delta).0, "ok");
    }
    gateway.poll(Duration::from_secs(1));
    assert_eq!(gateway.counter("work", "node-1", &[]), Some(5 * J), "five different requests of seven");
    let counts = ["missing", "late", "duplicate"].map(|what| gateway.own("wattrace.gateway.sequence", what));
    assert_eq!(counts, [2, 1, 2]);
    let attributes = gateway.attributes("wattrace.gateway.sequence", &[("wattrace.anomaly", "missing")]);
    assert_eq!((&*attributes["host.name"], &*attributes["service.instance.id"]), ("node-1", "one"));
}

#[test]
fn requests_without_a_token_and_large_ones_are_refused_with_the_right_status() {
    let mut gateway = Gateway::start(|config| {
        config.bearer_token = wattrace_api::Secret("open-sesame".to_owned());
        config.max_message = 2000;
    });
    let statuses = |protocol, gateway: &Gateway| {
        let mut sender = Sender::start(protocol, gateway)?;
        let small = json!([metric("energy", "J", "sum", json!(1), 1)]);
        let many: Vec<_> =
            (0..100).map(|n| metric(&format!("metric-{n}"), "J", "sum", json!(1), 1)).collect();
        let stranger = sender.send(small.clone()).0;
        sender.headers = json!({ "authorization": "Bearer open-sesame" });
        Some([stranger, sender.send(small).0, sender.send(json!(many)).0])
    };
    if let Some(statuses) = statuses("http", &gateway) {
        assert_eq!(statuses, ["401", "ok", "413"]);
        assert_eq!(gateway.own("wattrace.gateway.requests", "unauthenticated"), 1);
    }
    if let Some(statuses) = statuses("grpc", &gateway) {
        assert_eq!(statuses, ["UNAUTHENTICATED", "ok", "RESOURCE_EXHAUSTED"]);
    }
}
