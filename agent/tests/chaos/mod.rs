//! Agents that are killed while their collector misbehaves, and the comparison of what it knows in the end
//! with the agents' own ledgers. The machine is `simulated` (plugins/simulator): its processes come and go.

pub(crate) mod campaign;
pub(crate) mod certificates;
pub(crate) mod conduct;
pub(crate) mod ledger;
pub(crate) mod seen;
pub(crate) mod server;
pub(crate) mod spooled;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ledger::{Due, Key, Ledger, Run, Value};
use spooled::spooled;

/// Longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A place for agents that run one after the other: their state, and their ledgers.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    endpoint: String,
    protocol: &'static str,
    /// The certificate of the collector's authority, if there is such a file.
    authority: PathBuf,
    /// Settings beyond [`SCRIPT`], as in `plugins.otlp.timeout=1s`.
    pub(crate) settings: Vec<String>,
    runs: usize,
}

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    ledger: PathBuf,
    log: PathBuf,
    socket: PathBuf,
    spool: PathBuf,
}

impl Site {
    pub(crate) fn new(dir: &Path, endpoint: &str, protocol: &'static str) -> Self {
        std::fs::write(dir.join("wattrace.toml"), SCRIPT).unwrap();
        let (authority, settings) = (authority(dir), Vec::new());
        let (dir, endpoint) = (dir.to_owned(), endpoint.to_owned());
        Self { dir, endpoint, protocol, authority, settings, runs: 0 }
    }

    /// The spool's file.
    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.join("state/spool/otlp-metrics.db")
    }

    /// Starts an agent.
    pub(crate) fn start(&mut self) -> Agent {
        self.runs += 1;
        let ledger = self.dir.join(format!("ledger-{}.jsonl", self.runs));
        let log = self.log_of(self.runs);
        let mut command = Command::new(env!("CARGO_BIN_EXE_wattrace"));
        command.env("STATE_DIRECTORY", self.dir.join("state")).args(["run", "--config"]);
        command.arg(self.dir.join("wattrace.toml"));
        command.args(["--plugins", "simulator,attribution,jsonl,otlp"]);
        let socket = self.dir.join("control.sock");
        let mut settings = vec![
            format!("agent.control_socket={}", socket.display()),
            format!("plugins.jsonl.path={}", ledger.display()),
            format!("plugins.otlp.endpoint={}", self.endpoint),
            format!("plugins.otlp.protocol={}", self.protocol),
        ];
        if self.authority.exists() {
            settings.push(format!("plugins.otlp.certificate={}", self.authority.display()));
        }
        settings.extend_from_slice(&self.settings);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        let stderr = std::fs::File::create(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Agent { child, ledger, log, socket, spool: self.spool() }
    }

    fn log_of(&self, run: usize) -> PathBuf {
        self.dir.join(format!("log-{run}"))
    }

    /// What the agents have logged.
    pub(crate) fn log(&self) -> String {
        let read = |run| std::fs::read_to_string(self.log_of(run)).unwrap_or_default();
        (1..=self.runs).map(read).collect()
    }
}

impl Agent {
    /// Waits until it is as `fits` says.
    pub(crate) fn until(&mut self, mut fits: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !fits(self) {
            assert!(begun.elapsed() < PATIENCE, "the ledger has {} streams", self.ledger().len());
            assert!(self.child.try_wait().unwrap().is_none(), "the agent has ended");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The points that its exporter has lost, by reason, as `wattrace control status` reports them.
    pub(crate) fn losses(&self) -> BTreeMap<String, u64> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wattrace"));
        command.args(["control", "--socket"]).arg(&self.socket).args(["status", "--format", "json"]);
        let answer = command.output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
        let elements = status["elements"].as_array().unwrap();
        let exporter = elements.iter().find(|element| element["name"] == "output/otlp/metrics").unwrap();
        let losses = exporter["losses"].as_array().unwrap().iter();
        let loss = |loss: &serde_json::Value| {
            (loss["reason"].as_str().unwrap().to_owned(), loss["points"].as_u64().unwrap())
        };
        losses.map(loss).collect()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        ledger::read(&self.ledger)
    }

    /// What waits in its spool; `None`: it changed meanwhile.
    pub(crate) fn spooled(&self) -> Option<HashMap<Key, Value>> {
        spooled(&self.spool)
    }

    /// Kills it at once. What it has spooled is due.
    pub(crate) fn kill(mut self) -> Run {
        self.die();
        let spooled = self.spooled().expect("nobody has the spool's file, and it is readable");
        Run { ledger: self.ledger(), due: Due::Spooled(spooled) }
    }

    /// Kills it at once, whose spool need not survive: nothing of it is due.
    pub(crate) fn kill_for_good(mut self) -> Run {
        self.die();
        Run { ledger: self.ledger(), due: Due::Spooled(HashMap::new()) }
    }

    fn die(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as an operator does. Everything is due, unless it reports that its time to end was too short.
    pub(crate) fn stop(mut self) -> Run {
        // SAFETY: the call has no preconditions; the agent is not reaped yet, so the pid is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        self.child.wait().unwrap();
        let is_cut = std::fs::read_to_string(&self.log).unwrap().contains("is abandoned");
        let due = match is_cut {
            true => Due::Spooled(self.spooled().expect("the spool's file is readable")),
            false => Due::All,
        };
        Run { ledger: self.ledger(), due }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the collector of a site writes its authority's certificate, if it speaks TLS.
pub(crate) fn authority(dir: &Path) -> PathBuf {
    dir.join("authority.pem")
}

/// A process that stays, and one every 100 ms that lives for 150 ms.
const SCRIPT: &str = r#"
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
interval = "50ms"
timeout = "300ms"
top = 0
"#;
