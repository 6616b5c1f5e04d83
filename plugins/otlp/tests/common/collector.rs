//! A real collector (rotel) that forwards to an independent decoder (`decoder.py`), and what the decoder
//! prints. `cargo xtask test` prepares the Python environment of both. The agent's tests use this file too.

#[allow(dead_code, reason = "each test binary uses its own part")]
#[path = "rotel.rs"]
mod rotel;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rotel::{Rotel, Running};
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

/// A collector and the points that it forwards.
pub(crate) struct Pipe {
    /// Where the collector listens.
    pub(crate) endpoint: String,
    lines: Receiver<Line>,
    _decoder: Running,
    _collector: Rotel,
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

/// Starts a collector that receives over `protocol` (`grpc`, `http`) and the decoder in `decoder`; `None` if
/// their Python environment is not there, which fails under CI=true.
pub(crate) fn start(protocol: &str, decoder: &Path) -> Option<Pipe> {
    let python = rotel::python()?;
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
    let collector = rotel::start(protocol, &format!("http://127.0.0.1:{decoder_port}"))?;
    Some(Pipe { endpoint: collector.endpoint.clone(), lines, _decoder: decoder, _collector: collector })
}
