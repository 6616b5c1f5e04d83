//! A simulated machine, an agent on it, and what controls it. RAPL is read when triggered, so that nothing
//! but the commands decides what happens.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use wattrace_rapl::simulate::{Running, Tree, Zone};

use crate::support::{metric, read_jsonl, wattrace};

/// A machine that is busy otherwise may take long; a test that fails does not get better by waiting.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that an agent takes.
pub(crate) const MOST_CLIENTS: usize = 16;

pub(crate) const ENERGY: &str = "source/rapl/energy";

/// A package of 10 W, a configuration, and room for files.
pub(crate) struct Machine {
    pub(crate) dir: TempDir,
    _time: Running,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let zones = vec![Zone::new("intel-rapl:0", "package-0", 10.0)];
        let time = Tree::create(&dir.path().join("sys"), zones).unwrap().run(Duration::from_millis(1));
        let machine = Self { dir, _time: time };
        machine.configure("a.jsonl", "");
        machine
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its directory is not there yet.
    pub(crate) fn socket(&self) -> PathBuf {
        self.file("run/control.sock")
    }

    /// Writes the configuration: jsonl writes to `out`, RAPL is read when triggered (once a day), and `more`.
    pub(crate) fn configure(&self, out: &str, more: &str) {
        let (sys, out, socket) = (self.file("sys"), self.file(out), self.socket());
        let text = format!(
            "agent.control_socket = {socket:?}\n[plugins.rapl]\nsysfs_root = {sys:?}\ninterval = \"1day\"\n\
             [plugins.jsonl]\npath = {out:?}\nflush_interval = \"1h\"\n{more}"
        );
        fs::write(self.file("wattrace.toml"), text).unwrap();
    }

    /// An agent that listens.
    pub(crate) fn start(&self, plugins: &str, more: &[&str]) -> Agent {
        let agent = self.spawn(plugins, more);
        agent.says("control: listening on ");
        agent
    }

    pub(crate) fn spawn(&self, plugins: &str, more: &[&str]) -> Agent {
        let mut command = self.run();
        command.args(["--plugins", plugins]).args(more);
        Agent::spawn(command)
    }

    /// An agent with the plugins that the file says.
    pub(crate) fn run(&self) -> Command {
        let mut command = wattrace();
        command.arg("run").arg("--config").arg(self.file("wattrace.toml"));
        command
    }

    pub(crate) fn control(&self, arguments: &[&str]) -> Answer {
        let mut command = wattrace();
        command.args(["control", "--socket"]).arg(self.socket()).args(arguments);
        Answer::of(command)
    }

    /// The same for programs: exactly one object comes back, on standard output.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.control(&[arguments, &["--format", "json"]].concat());
        let value: Value = serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
        assert_eq!((&value["schema"], answer.err.as_str()), (&json!("wattrace.control/1"), ""), "{answer:?}");
        assert_eq!(value["ok"].as_bool(), Some(answer.code == 0), "{answer:?}");
        assert_eq!(value["command"], arguments[0], "{answer:?}");
        value
    }

    /// The status of one element.
    pub(crate) fn element(&self, name: &str) -> Value {
        self.json(&["status", name])["elements"][0].clone()
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Reads the meter, and makes what was read visible in `out`. It may take a moment to reach the output.
    pub(crate) fn read_meter_into(&self, out: &str) -> Vec<Value> {
        let text = || fs::read_to_string(self.file(out)).unwrap_or_default();
        let readings = || text().matches("\"hw.energy\"").count();
        let before = readings();
        self.json(&["trigger", "source/*"]);
        let come = (0..1000).any(|_| self.json(&["flush"])["ok"] == true && readings() > before);
        assert!(come, "no energy comes out in {out}");
        read_jsonl(&self.file(out))
    }
}

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn of(mut command: Command) -> Self {
        let output = command.env_remove("WATTRACE_LOG").stdin(Stdio::null()).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Self { code: output.status.code().unwrap(), out, err }
    }

    /// It ended with `code`, and what it says holds each of `parts`.
    #[track_caller]
    pub(crate) fn is(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        let text = format!("{}{}", self.out, self.err);
        for part in parts {
            assert!(text.contains(part), "no `{part}` in {self:?}");
        }
    }
}

/// The running agent; killed with the test.
pub(crate) struct Agent {
    pub(crate) child: Child,
    heard: Receiver<String>,
}

impl Agent {
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.env("WATTRACE_LOG", "info");
        for variable in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] {
            command.env_remove(variable);
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, heard) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Agent { child, heard }
    }

    /// Waits until it says a line with `part`; returns that line.
    #[track_caller]
    pub(crate) fn says(&self, part: &str) -> String {
        let mut before = String::new();
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before += &format!("{line}\n"),
                Err(e) => panic!("{e}: it did not say `{part}`, but:\n{before}"),
            }
        }
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: it has no preconditions. The child is not reaped yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    /// Ends it in peace; returns what it said since the last call.
    pub(crate) fn stop(mut self) -> String {
        self.signal(libc::SIGTERM);
        let said: Vec<String> = self.heard.iter().collect();
        assert!(self.child.wait().unwrap().success(), "{said:?}");
        said.join("\n")
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Sends `request` and reads one line.
pub(crate) fn exchange(stream: &UnixStream, request: &str) -> Value {
    (&*stream).write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
}

/// The last value of `hw.energy` and its start.
pub(crate) fn energy(lines: &[Value]) -> (u64, f64) {
    let last = lines.iter().rfind(|l| metric(l) == "hw.energy").unwrap();
    (last["start_unix_nano"].as_u64().unwrap(), last["value"].as_f64().unwrap())
}
