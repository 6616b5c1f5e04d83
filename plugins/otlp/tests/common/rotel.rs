//! A real collector (rotel) that forwards metrics over OTLP/HTTP. `cargo xtask test` prepares the Python
//! environment that holds it. The agent's tests use this file too.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait until it listens.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many pairs of ports are tried: another program may take one between its choice and its use.
const ATTEMPTS: usize = 5;

/// A running collector.
pub(crate) struct Rotel {
    /// Where it listens.
    pub(crate) endpoint: String,
    process: Running,
}

impl Rotel {
    /// From now on it does nothing, or goes on.
    pub(crate) fn stands_still(&self, still: bool) {
        let signal = if still { "STOP" } else { "CONT" };
        let kill = format!("kill -s {signal} {}", self.process.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

/// A child process, ended with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The Python of the tests' environment; `None` if it is not there, which fails under CI=true.
pub(crate) fn python() -> Option<String> {
    let python = std::env::var("WATTRACE_TEST_PYTHON").ok();
    if python.is_none() {
        assert!(std::env::var("CI").is_err(), "WATTRACE_TEST_PYTHON is not set: run `cargo xtask test`");
        eprintln!("skipped: delivery through a real collector; run `cargo xtask test`");
    }
    python
}

/// Starts one that receives over `protocol` (`grpc`, `http`) and forwards to the OTLP/HTTP server `to`;
/// `None` if its Python environment is not there.
pub(crate) fn start(protocol: &str, to: &str) -> Option<Rotel> {
    let python = python()?;
    let ask = "import rotel, os; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
    let program = Command::new(&python).args(["-c", ask]).output().unwrap();
    assert!(program.status.success(), "{python} has no rotel: run `cargo xtask test`");
    let program = String::from_utf8(program.stdout).unwrap();
    (0..ATTEMPTS).find_map(|_| attempt(program.trim(), protocol, to)).or_else(|| {
        panic!("rotel does not listen: its ports are in use, again and again");
    })
}

/// `None`: it has ended, because one of its ports was in use.
fn attempt(program: &str, protocol: &str, to: &str) -> Option<Rotel> {
    let other = if protocol == "grpc" { "http" } else { "grpc" };
    // Both are free at the same time, so they differ.
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [port, unused] = listeners.map(|listener| listener.local_addr().unwrap().port());
    let mut rotel = Command::new(program);
    rotel.args(["start", &format!("--otlp-{protocol}-endpoint"), &format!("127.0.0.1:{port}")]);
    rotel.args([format!("--otlp-{other}-endpoint"), format!("127.0.0.1:{unused}")]);
    rotel.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--batch-timeout", "50ms"]);
    rotel.args(["--otlp-exporter-endpoint", to]);
    let mut process = Running(rotel.stdout(Stdio::null()).spawn().unwrap());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listens = TcpStream::connect(("127.0.0.1", port)).is_ok();
        // Another program may listen there.
        if process.0.try_wait().unwrap().is_some() {
            return None;
        }
        if listens {
            return Some(Rotel { endpoint: format!("http://127.0.0.1:{port}"), process });
        }
        assert!(Instant::now() < deadline, "rotel does not listen on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
