//! A simulated machine, an agent on it, and what tables must be.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::services::{PATIENCE, Running, eventually};
use crate::support::wattrace;

/// A simulated machine that runs two programs, and a directory for files.
pub(crate) struct Machine {
    pub(crate) dir: tempfile::TempDir,
}

const CONFIGURATION: &str = r#"
[plugins.simulator]
schedule = "script"
interval = "200ms"
machine = { cores = 4, meters = ["package", "dram", "psys"] }

[[plugins.simulator.threads]]
process = "web"
run = "6ms"
sleep = "4ms"

[[plugins.simulator.threads]]
process = "batch"
run = "10ms"
sleep = "1ms"
"#;

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let text = format!("agent.control_socket = {socket:?}\n{CONFIGURATION}");
        fs::write(dir.path().join("wattrace.toml"), text).unwrap();
        Self { dir }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.file("control.sock")
    }

    pub(crate) fn command(&self, command: &str, plugins: &str) -> Command {
        let mut wattrace = wattrace();
        wattrace.arg(command).arg("--config").arg(self.file("wattrace.toml")).args(["--plugins", plugins]);
        wattrace
    }

    /// Starts an agent, and waits until it listens.
    pub(crate) fn agent(&self) -> Running {
        let mut command = self.command("run", "simulator,attribution,groups");
        let agent = Running(command.stdin(Stdio::null()).spawn().unwrap());
        eventually("the agent's socket", || UnixStream::connect(self.socket()).ok());
        agent
    }

    /// A connection to the agent on which a request was sent.
    pub(crate) fn ask(&self, request: &Value) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        BufReader::new(stream)
    }

    pub(crate) fn elements(&self) -> Vec<String> {
        let mut reader = self.ask(&json!({"schema": "wattrace.control/1", "command": "list"}));
        let reply = next(&mut reader);
        reply["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) fn next(reader: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line}"))
}

pub(crate) fn table(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

/// Asserts that the rows and what closes their sum are the meters.
pub(crate) fn assert_closed(table: &Value) {
    let amount = |row: &Value, key: &str| row[key].as_f64().unwrap();
    let all = || {
        let rows = table["rows"].as_array().unwrap().iter();
        rows.chain(table["closing"].as_array().unwrap()).chain([&table["others"]])
    };
    for (key, error) in [("joules", 1e-9), ("watts", 1e-2)] {
        let sum: f64 = all().map(|row| amount(row, key)).sum();
        let total = amount(&table["total"], key);
        assert!(total > 0.0 && (sum - total).abs() < error, "{key}: {sum} of {total}\n{table:#}");
    }
}

pub(crate) fn row<'a>(table: &'a Value, name: &str) -> &'a Value {
    let rows = table["rows"].as_array().unwrap().iter().chain(table["closing"].as_array().unwrap());
    rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {table:#}"))
}
