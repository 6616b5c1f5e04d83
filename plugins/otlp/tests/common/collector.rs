//! A real collector (rotel) that forwards to an independent decoder (`decoder.py`), and what the decoder
//! prints. `cargo xtask test` prepares the Python environment of both. The agent's tests use this file too.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A data point, as the decoder prints it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) resource: HashMap<String, serde_json::Value>,
    pub(crate) scope: String,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) description: String,
    pub(crate) monotonic: bool,
    pub(crate) temporality: String,
    pub(crate) attributes: HashMap<String, serde_json::Value>,
    pub(crate) start: u64,
    pub(crate) time: u64,
    pub(crate) value: Option<f64>,
    pub(crate) histogram: Option<Histogram>,
    pub(crate) ended: bool,
}

/// An exponential histogram's point, with the bounds of its buckets as the decoder computes them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Histogram {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) zero: u64,
    /// Lower bound, upper bound and count of those that hold anything.
    pub(crate) buckets: Vec<(f64, f64, u64)>,
}

impl Line {
    /// The process's name; `hw` for the hardware's own.
    pub(crate) fn process_name(&self) -> &str {
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

/// A collector and the points that it forwards.
pub(crate) struct Pipe {
    /// Where the collector listens.
    pub(crate) endpoint: String,
    lines: Receiver<Line>,
    _decoder: Running,
    _collector: Running,
}

impl Pipe {
    /// The lines up to the first for which `fits` is true.
    pub(crate) fn until(&self, mut fits: impl FnMut(&Line) -> bool) -> Vec<Line> {
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

/// Starts a collector that receives over `protocol` (`grpc`, `http`) and the decoder in `decoder`; `None` if
/// their Python environment is not there, which fails under CI=true.
pub(crate) fn start(protocol: &str, decoder: &Path) -> Option<Pipe> {
    let Ok(python) = std::env::var("WATTRACE_TEST_PYTHON") else {
        assert!(std::env::var("CI").is_err(), "WATTRACE_TEST_PYTHON is not set: run `cargo xtask test`");
        eprintln!("skipped: delivery through a real collector; run `cargo xtask test`");
        return None;
    };
    let port = free_port();
    let mut decoder = Command::new(&python).arg(decoder).stdout(Stdio::piped()).spawn().unwrap();
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
    let rotel = Command::new(&python).args(["-c", ask]).output().unwrap();
    assert!(rotel.status.success(), "{python} has no rotel: run `cargo xtask test`");
    let mut collector = Command::new(String::from_utf8(rotel.stdout).unwrap().trim());
    let other = if protocol == "grpc" { "http" } else { "grpc" };
    collector.args(["start", &format!("--otlp-{protocol}-endpoint"), &format!("127.0.0.1:{port}")]);
    collector.args([format!("--otlp-{other}-endpoint"), format!("127.0.0.1:{}", free_port())]);
    collector.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--batch-timeout", "50ms"]);
    collector.args(["--otlp-exporter-endpoint", &format!("http://127.0.0.1:{decoder_port}")]);
    let collector = Running(collector.stdout(Stdio::null()).spawn().unwrap());
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "rotel does not listen on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let endpoint = format!("http://127.0.0.1:{port}");
    Some(Pipe { endpoint, lines, _decoder: decoder, _collector: collector })
}
