//! The output against a real collector (rotel) that forwards to an independent decoder (`decoder.py`): what comes out at
//! the far end is what went in, over gRPC and over HTTP. `cargo xtask test` prepares the Python environment that both
//! come from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{J, PATIENCE, Scene, process};
use serde::Deserialize;
use wattrace_api::Attribute;
use wattrace_otlp::OtlpConfig;

/// A data point, as the decoder prints it.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    resource: HashMap<String, serde_json::Value>,
    scope: String,
    name: String,
    unit: String,
    description: String,
    monotonic: bool,
    temporality: String,
    attributes: HashMap<String, serde_json::Value>,
    start: u64,
    time: u64,
    value: Option<f64>,
    ended: bool,
}

impl Line {
    /// The process's name; `hw` for the hardware's own.
    fn who(&self) -> &str {
        self.attributes.get("process.executable.name").and_then(|name| name.as_str()).unwrap_or("hw")
    }
}

/// A child process, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A collector and what arrives behind it.
struct Pipe {
    lines: Receiver<Line>,
    _decoder: Running,
    _collector: Running,
}

impl Pipe {
    /// Lines until one fits.
    fn until(&self, mut fits: impl FnMut(&Line) -> bool) -> Vec<Line> {
        let (deadline, mut lines) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => lines.push(line),
                Err(e) => panic!("{e} after {lines:#?}"),
            }
            if lines.last().is_some_and(&mut fits) {
                return lines;
            }
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(python: &str, receiver_flag: &str, port: u16) -> Pipe {
    let decoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decoder.py");
    let mut decoder = Command::new(python).arg(decoder).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(decoder.stdout.take().unwrap()).lines();
    let decoder = Running(decoder);
    let decoder_port = printed.next().expect("the decoder prints its port").unwrap();
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in printed.map_while(Result::ok) {
            _ = sender.send(serde_json::from_str(&line).unwrap());
        }
    });

    let ask = "import rotel, os; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
    let rotel = Command::new(python).args(["-c", ask]).output().unwrap();
    assert!(rotel.status.success(), "{python} has no rotel: run `cargo xtask test`");
    let mut collector = Command::new(String::from_utf8(rotel.stdout).unwrap().trim());
    let other_flag =
        if receiver_flag.contains("grpc") { "--otlp-http-endpoint" } else { "--otlp-grpc-endpoint" };
    collector.args(["start", receiver_flag, &format!("127.0.0.1:{port}")]);
    collector.args([other_flag, &format!("127.0.0.1:{}", free_port())]);
    collector.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--batch-timeout", "50ms"]);
    collector.args(["--otlp-exporter-endpoint", &format!("http://127.0.0.1:{decoder_port}")]);
    let collector = Running(collector.stdout(Stdio::null()).spawn().unwrap());
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "rotel does not listen on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Pipe { lines, _decoder: decoder, _collector: collector }
}

const INTERVAL: Duration = Duration::from_secs(10);
/// A moment of 2026, in nanoseconds since the Unix epoch.
const START: u64 = 1_780_000_000_000_000_000;

fn arrives(protocol: &str, receiver_flag: &str) {
    let Ok(python) = std::env::var("WATTRACE_TEST_PYTHON") else {
        assert!(std::env::var("CI").is_err(), "WATTRACE_TEST_PYTHON is not set: run `cargo xtask test`");
        eprintln!("skipped: delivery through a real collector; run `cargo xtask test`");
        return;
    };
    let port = free_port();
    let pipe = start(&python, receiver_flag, port);
    let config = OtlpConfig {
        endpoint: format!("http://127.0.0.1:{port}"),
        protocol: protocol.to_owned(),
        interval: INTERVAL,
        service_name: "tested".to_owned(),
        resource_attributes: [("team".to_owned(), "x".to_owned())].into(),
        ..OtlpConfig::default()
    };
    let mut scene = Scene::new(config, START);
    let shell = process(102, "sh");
    let hardware = scene.energy(None);
    let (stays, execs) = (scene.energy(Some(process(101, "stays"))), scene.energy(Some(shell.clone())));
    let ends = scene.energy(Some(process(103, "ends")));

    // Each export is waited for at the far end, so that rotel cannot merge two of them.
    scene.write(INTERVAL, &[(hardware, 9 * J), (stays, J), (execs, 2 * J), (ends, 3 * J)], &[]);
    let mut lines = pipe.until(|line| line.who() == "ends");
    scene.flush().unwrap();
    shell.update(vec![Attribute::new("process.executable.name", "make")]);
    scene.write(INTERVAL, &[(hardware, 20 * J), (stays, 4 * J), (execs, 7 * J), (ends, 5 * J)], &[ends]);
    lines.extend(pipe.until(|line| line.who() == "ends" && line.value == Some(5.0)));
    scene.flush().unwrap();
    scene.write(INTERVAL, &[(hardware, 30 * J), (stays, 6 * J)], &[]);
    lines.extend(pipe.until(|line| line.who() == "stays" && line.value == Some(6.0)));
    scene.flush().unwrap();
    let has_ended = |lines: &[Line], who| lines.iter().any(|line| line.who() == who && line.ended);
    while !(has_ended(&lines, "ends") && has_ended(&lines, "sh")) {
        lines.extend(pipe.until(|line| line.ended));
    }
    check(&lines);
    assert_eq!(scene.losses(), []);
}

/// The distinct (seconds of start, seconds of time, value) of a stream, times counted from [`START`].
fn stream(lines: &[Line], who: &str) -> Vec<(u64, u64, Option<f64>)> {
    let since = |at: u64| (at - START) / 1_000_000_000;
    let of = lines.iter().filter(|line| line.who() == who);
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
    for (who, points) in expected {
        assert_eq!(stream(lines, who), points, "{who}");
    }
    for line in lines {
        let hardware = line.who() == "hw";
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
            let pid = match line.who() {
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
    arrives("grpc", "--otlp-grpc-endpoint");
}

#[test]
fn over_http_everything_arrives() {
    arrives("http/protobuf", "--otlp-http-endpoint");
}
