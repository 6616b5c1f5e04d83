//! A simulated machine, an agent on it, and the commands that control it. RAPL is read only when it is
//! triggered, so that the commands alone decide what happens.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use wattrace_rapl_simulator::{Running, Tree, Zone};

use crate::support::{metric, read_jsonl, wattrace};

/// Time limit for anything that a test waits for. A busy machine may be slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Maximum number of connections to an agent.
pub(crate) const MAX_CLIENTS: usize = 16;

pub(crate) const ENERGY: &str = "source/rapl/energy";

/// A simulated package of 10 W, a configuration, and a directory for files.
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

    /// The control socket. Its directory does not exist before the agent makes it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.file("run/control.sock")
    }

    /// Writes the configuration: jsonl writes to `out`, RAPL is read once a day, and `more`.
    pub(crate) fn configure(&self, out: &str, more: &str) {
        let (sys, out, socket) = (self.file("sys"), self.file(out), self.socket());
        let text = format!(
            "agent.control_socket = {socket:?}\n[plugins.rapl]\nsysfs_root = {sys:?}\ninterval = \"1day\"\n\
             [plugins.jsonl]\npath = {out:?}\nflush_interval = \"1h\"\n{more}"
        );
        fs::write(self.file("wattrace.toml"), text).unwrap();
    }

    /// Starts an agent, and waits until it listens.
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

    /// The command that runs an agent with the plugins of the configuration file.
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

    /// Runs a command with `--format json`, which writes exactly one object, to standard output.
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

    /// Reads the meter, and waits until the reading is in `out`, whose lines it returns.
    pub(crate) fn read_meter_into(&self, out: &str) -> Vec<Value> {
        let text = || fs::read_to_string(self.file(out)).unwrap_or_default();
        let readings = || text().matches("\"hw.energy\"").count();
        let before = readings();
        self.json(&["trigger", "source/*"]);
        let arrived = (0..1000).any(|_| self.json(&["flush"])["ok"] == true && readings() > before);
        assert!(arrived, "no energy reaches {out}");
        read_jsonl(&self.file(out))
    }
}

/// The output and the exit code of a command.
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

    /// Asserts that it ended with `code` and that its output contains each of `parts`.
    #[track_caller]
    pub(crate) fn is(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        let text = format!("{}{}", self.out, self.err);
        for part in parts {
            assert!(text.contains(part), "no `{part}` in {self:?}");
        }
    }
}

/// A running agent. Dropping it kills it.
pub(crate) struct Agent {
    pub(crate) child: Child,
    /// Lines of its standard error.
    lines: Receiver<String>,
}

impl Agent {
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.env("WATTRACE_LOG", "info");
        for variable in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] {
            command.env_remove(variable);
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Agent { child, lines }
    }

    /// Waits for a line of its log that contains `part`, and returns it.
    #[track_caller]
    pub(crate) fn says(&self, part: &str) -> String {
        let mut before = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before += &format!("{line}\n"),
                Err(e) => panic!("{e}: no `{part}` in:\n{before}"),
            }
        }
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: the call has no preconditions. The child is not reaped yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    /// Ends it with SIGTERM. Returns its log since the last call.
    pub(crate) fn stop(self) -> String {
        self.stop_with(0)
    }

    /// The same for an agent of which an output loses all its points, or the last ones.
    pub(crate) fn stop_with_losses(self) -> String {
        self.stop_with(1)
    }

    fn stop_with(mut self, code: i32) -> String {
        self.signal(libc::SIGTERM);
        let log: Vec<String> = self.lines.iter().collect();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{log:?}");
        log.join("\n")
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail if it has ended already.
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
