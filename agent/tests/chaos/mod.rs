//! Agents that are killed while their collector misbehaves, and the comparison of what it knows in the end
//! with the agents' own ledgers. The machine is `simulated` (plugins/simulator): its processes come and go.

pub(crate) mod ledger;
pub(crate) mod server;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ledger::Ledger;

/// Longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A place for agents that run one after the other: their state, and their ledgers.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    endpoint: String,
    protocol: &'static str,
    runs: usize,
}

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    ledger: PathBuf,
}

impl Site {
    pub(crate) fn new(dir: &Path, endpoint: &str, protocol: &'static str) -> Self {
        std::fs::write(dir.join("wattrace.toml"), SCRIPT).unwrap();
        Self { dir: dir.to_owned(), endpoint: endpoint.to_owned(), protocol, runs: 0 }
    }

    /// The spool's file.
    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.join("state/spool/otlp-metrics.db")
    }

    /// Starts an agent.
    pub(crate) fn start(&mut self) -> Agent {
        self.runs += 1;
        let ledger = self.dir.join(format!("ledger-{}.jsonl", self.runs));
        let log = std::fs::File::options().append(true).create(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wattrace"));
        command.env("STATE_DIRECTORY", self.dir.join("state")).args(["run", "--config"]);
        command.arg(self.dir.join("wattrace.toml"));
        command.args(["--plugins", "simulator,attribution,jsonl,otlp"]);
        for setting in [
            format!("plugins.jsonl.path={}", ledger.display()),
            format!("plugins.otlp.endpoint={}", self.endpoint),
            format!("plugins.otlp.protocol={}", self.protocol),
        ] {
            command.args(["--set", &setting]);
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Agent { child, ledger }
    }

    /// What the agents have logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Agent {
    /// Waits until its ledger is as `fits` says.
    pub(crate) fn until(&mut self, mut fits: impl FnMut(&Ledger) -> bool) {
        let begun = Instant::now();
        while !fits(&self.ledger()) {
            assert!(begun.elapsed() < PATIENCE, "the ledger has {} streams", self.ledger().len());
            assert!(self.child.try_wait().unwrap().is_none(), "the agent has ended");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        ledger::read(&self.ledger)
    }

    /// Kills it at once. Returns its ledger.
    pub(crate) fn kill(mut self) -> Ledger {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ledger()
    }

    /// Ends it as an operator does. Returns its ledger.
    pub(crate) fn stop(mut self) -> Ledger {
        // SAFETY: the call has no preconditions; the agent is not reaped yet, so the pid is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        self.child.wait().unwrap();
        self.ledger()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that stays, and one every 100 ms that lives for 150 ms.
const SCRIPT: &str = r#"
[agent]
control_socket = ""
[plugins.simulator]
schedule = "script"
interval = "20ms"
[[plugins.simulator.threads]]
process = "web"
run = "6ms"
sleep = "4ms"
[[plugins.simulator.threads]]
process = "job"
copies = 600
every = "100ms"
lives = "150ms"
[plugins.jsonl]
flush_interval = "0s"
[plugins.otlp]
interval = "100ms"
timeout = "1s"
top = 0
"#;
