//! The built agent on bad input: an invalid configuration is refused with its key, and what fails while the
//! agent runs is reported and counted, and does not stop the agent. No test here needs root: RAPL is
//! simulated.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::{metric, read_jsonl, wattrace};
use tempfile::TempDir;
use wattrace_rapl_simulator::{Running, Tree, Zone};

const PATIENCE: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A simulated package of 10 W with a part of unknown name, and a directory for files.
struct Machine {
    dir: TempDir,
    time: Option<Running>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let zones =
            vec![Zone::new("intel-rapl:0", "package-0", 10.0), Zone::new("intel-rapl:0:0", "npu", 4.0)];
        let tree = Tree::create(&dir.path().join("sys"), zones).unwrap();
        Self { dir, time: Some(tree.run(Duration::from_millis(1))) }
    }

    /// Adds a part of the package whose counter only the test changes. Returns its file.
    fn add_core(&self) -> PathBuf {
        let zone = self.file("sys/class/powercap/intel-rapl:0:1");
        fs::create_dir(&zone).unwrap();
        fs::write(zone.join("name"), "core\n").unwrap();
        fs::write(zone.join("max_energy_range_uj"), "262143328850\n").unwrap();
        fs::write(zone.join("energy_uj"), "1000000\n").unwrap();
        zone.join("energy_uj")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `wattrace run` on this machine with `plugins` and `settings`. RAPL is read every 10 ms, and jsonl
    /// writes every batch at once, to `out.jsonl` unless a setting says otherwise.
    fn run(&self, plugins: &str, settings: &[&str]) -> Agent {
        self.spawn(wattrace(), plugins, settings)
    }

    fn spawn(&self, mut command: Command, plugins: &str, settings: &[&str]) -> Agent {
        let own = [
            format!("plugins.rapl.sysfs_root={}", self.file("sys").display()),
            "plugins.rapl.interval=10ms".into(),
            // Tests run side by side: each agent has a socket of its own.
            format!("agent.control_socket={}", self.file("control.sock").display()),
            format!("plugins.jsonl.path={}", self.out().display()),
            "plugins.jsonl.flush_interval=0s".into(),
        ];
        command.args(["run", "--plugins", plugins]);
        for setting in own.iter().map(String::as_str).chain(settings.iter().copied()) {
            command.args(["--set", setting]);
        }
        Agent::spawn(command)
    }

    fn out(&self) -> PathBuf {
        self.file("out.jsonl")
    }

    /// The complete lines of `out.jsonl`.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.out()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last value of `name` for `domain`; -1 if there is none.
    fn last(&self, name: &str, domain: &str) -> f64 {
        let all = self.lines();
        let about = |l: &&Value| metric(l) == name && l["attributes"]["wattrace.domain"] == domain;
        all.iter().rev().find(about).map_or(-1.0, |line| line["value"].as_f64().unwrap())
    }

    /// Waits until `domain` has more joules than now.
    fn wait_for_joules(&self, domain: &str) {
        let before = self.last("hw.energy", domain);
        wait(&format!("{domain} grows"), || self.last("hw.energy", domain) > before.max(0.0));
    }

    fn bad_readings(&self, domain: &str) -> f64 {
        self.last("wattrace.rapl.anomalies", domain)
    }
}

fn wait(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// A running agent. Dropping it kills it.
struct Agent {
    child: Child,
    stderr: Option<JoinHandle<String>>,
}

impl Agent {
    fn spawn(mut command: Command) -> Self {
        for variable in ["WATTRACE_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"]
        {
            command.env_remove(variable);
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stderr.take().unwrap();
        let stderr = spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            text
        });
        Self { child, stderr: Some(stderr) }
    }

    /// Waits for its end. Returns its exit code and standard error.
    fn end(&mut self) -> (Option<i32>, String) {
        wait("the agent ends", || {
            // SAFETY: `info` is plain data, for which zero is valid. WNOWAIT leaves the child to be reaped.
            unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
                assert_eq!(libc::waitid(libc::P_PID, self.child.id(), &mut info, how), 0);
                info.si_pid() != 0
            }
        });
        let status = self.child.wait().unwrap();
        (status.code(), self.stderr.take().unwrap().join().unwrap())
    }

    /// Sends `signal`. The agent must end in time, with the exit code `expected`. Returns its standard error.
    fn stop_by(mut self, signal: i32, expected: i32) -> String {
        let sent = Instant::now();
        // SAFETY: the call has no preconditions; the child is not reaped yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
        let (code, stderr) = self.end();
        assert!(sent.elapsed() < STOP_LIMIT, "{:?}: {stderr}", sent.elapsed());
        assert_eq!(code, Some(expected), "{stderr}");
        stderr
    }

    fn stop(self) -> String {
        self.stop_by(libc::SIGTERM, 0)
    }

    /// Stops an agent of which an output has lost all its points or the last ones, or of which an element
    /// that was asked for has never worked.
    fn stop_with_failure(self) -> String {
        self.stop_by(libc::SIGTERM, 1)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_contains(text: &str, all: &[&str]) {
    for part in all {
        assert!(text.contains(part), "expected {part:?} in:\n{text}");
    }
}

#[test]
fn an_invalid_configuration_is_refused_with_its_location_its_key_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.toml");
    fs::write(&file, "[plugins.rapl]\ninterval = '1s'\nsysfs_root = 7\n[plugins.jsonl]\npfad = 'x'\n")
        .unwrap();
    let file = file.to_str().unwrap();
    let missing = dir.path().join("missing.toml");
    let cases: &[(&[&str], &[&str])] = &[
        (&["--config", file], &[&format!("{file}:3: plugins.rapl.sysfs_root"), "expected a string"]),
        (&["--config", file], &[&format!("{file}:5: unknown key plugins.jsonl.pfad"), "path"]),
        (&["--config", missing.to_str().unwrap()], &["missing.toml", "wattrace config init"]),
        (&["--set", "plugins.rapl.intervall=1s"], &["plugins.rapl.intervall", "did you mean `interval`"]),
        (&["--set", "plugins.rapl.interval=-1s"], &["--set plugins.rapl.interval=-1s", "a duration"]),
        (&["--set", "plugins.rapl.interval=5"], &["--set plugins.rapl.interval=5", "a duration"]),
        (&["--set", "plugins.rapl.interval=0s"], &["plugins.rapl.interval", "1ms"]),
        (&["--set", "plugins.sched.interval=0s"], &["plugins.sched.interval", "1ms"]),
        (&["--set", "plugins.rapl.interface=magic"], &["plugins.rapl.interface", "magic", "powercap"]),
        (&["--set", "plugins.jsonl.path="], &["plugins.jsonl.path", "empty"]),
        (&["--set", "plugins.otlp.endpoint=127.0.0.1:4317"], &["plugins.otlp.endpoint", "http://"]),
        (&["--set", "plugins.otlp.protocol=carrier"], &["plugins.otlp.protocol", "carrier", "grpc"]),
        (&["--set", "agent.queue=many"], &["agent.queue", "many"]),
        (&["--plugins", "rapl,jsnol"], &["--plugins", "jsnol", "did you mean `jsonl`"]),
        (&["--duration", "soon"], &["--duration", "soon"]),
    ];
    for (arguments, expected) in cases {
        let mut command = wattrace();
        command.arg("run").args(*arguments);
        let (code, stderr) = Agent::spawn(command).end();
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert_contains(&stderr, expected);
    }
}

#[test]
fn a_malformed_counter_is_counted_as_bad_and_other_counters_continue() {
    let machine = Machine::new();
    let core = machine.add_core();
    let agent = machine.run("rapl,jsonl", &[]);
    machine.wait_for_joules("package-0");
    for (nth, bad) in ["", "10", "1000001", "-5\n", "0x10\n", "99999999999999999999999\n"].iter().enumerate()
    {
        fs::write(&core, bad).unwrap();
        let seen = machine.bad_readings("core-0").max(0.0);
        // A reading may fall between truncating and writing the file, so more than one must be bad.
        wait(&format!("bad readings of {bad:?} (no. {nth}) are counted"), || {
            machine.bad_readings("core-0") > seen + 2.0
        });
        machine.wait_for_joules("package-0");
    }
    fs::write(&core, "3500000\n").unwrap();
    wait("the counter is read again", || machine.last("hw.energy", "core-0") == 2.5);
    let stderr = agent.stop();
    assert_contains(&stderr, &["intel-rapl:0:1/energy_uj", "bad reading"]);
    assert_eq!(
        stderr.matches("bad reading").count(),
        1,
        "once, not at each of a hundred ticks a second:\n{stderr}"
    );
}

#[test]
fn a_part_with_an_unknown_name_is_a_domain_within_its_package() {
    let machine = Machine::new();
    let agent = machine.run("rapl,jsonl", &[]);
    machine.wait_for_joules("npu-0");
    let stderr = agent.stop();
    assert_eq!(stderr, "", "nothing is wrong");
    let lines = machine.lines();
    let npu = lines.iter().find(|l| l["attributes"]["wattrace.domain"] == "npu-0").unwrap();
    assert_eq!(npu["resource"]["type"], "npu");
    assert_eq!(npu["attributes"]["hw.parent"], "package-0", "a total must not count it twice");
    assert_eq!(npu["attributes"]["wattrace.origin"], "simulated");
}

#[test]
fn a_counter_that_vanishes_is_counted_and_read_again_when_it_is_back() {
    let machine = Machine::new();
    let core = machine.add_core();
    let agent = machine.run("rapl,jsonl", &[]);
    wait("it is read", || machine.last("hw.energy", "core-0") == 0.0);
    fs::remove_file(&core).unwrap();
    wait("its absence is counted", || machine.bad_readings("core-0") > 2.0);
    machine.wait_for_joules("package-0");
    // Renamed, so that no reading sees half of the text.
    fs::write(core.with_extension("new"), "3500000\n").unwrap();
    fs::rename(core.with_extension("new"), &core).unwrap();
    wait("it is read again", || machine.last("hw.energy", "core-0") == 2.5);
    assert_contains(&agent.stop(), &["intel-rapl:0:1/energy_uj", "bad reading", "No such file"]);
}

#[test]
fn when_every_counter_vanishes_the_agent_reports_the_remedy_and_keeps_running() {
    let mut machine = Machine::new();
    let mut agent = machine.run("rapl,jsonl", &[]);
    machine.wait_for_joules("package-0");
    machine.time = None;
    fs::remove_dir_all(machine.file("sys")).unwrap();
    wait("the meters' absence is counted", || machine.bad_readings("package-0") > 0.0);
    assert!(agent.child.try_wait().unwrap().is_none(), "it ended: {}", agent.end().1);
    let stderr = agent.stop();
    assert_contains(&stderr, &["source/rapl/energy", "are gone", "modprobe", "energy_uj"]);
}

#[test]
fn with_nothing_to_measure_it_reports_where_it_looked_and_the_remedy() {
    let machine = Machine::new();
    fs::remove_dir_all(machine.file("sys")).unwrap();
    let (code, stderr) = machine.run("rapl,jsonl", &[]).end();
    assert_eq!(code, Some(1), "{stderr}");
    assert_contains(&stderr, &["sys/class/powercap", "sudo modprobe intel_rapl_msr", "sudo modprobe rapl"]);
}

#[test]
fn points_for_an_absent_or_silent_collector_wait_or_count_as_lost_and_the_agent_runs() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for protocol in ["grpc", "http/protobuf"] {
        for endpoint in ["http://127.0.0.1:1", &silent] {
            let machine = Machine::new();
            let (to, by) =
                (format!("plugins.otlp.endpoint={endpoint}"), format!("plugins.otlp.protocol={protocol}"));
            let own = [&to, &by, "plugins.otlp.interval=50ms", "plugins.otlp.spool=none"];
            let agent = machine.run("rapl,jsonl,otlp", &own);
            machine.wait_for_joules("package-0");
            let stderr = agent.stop_with_failure();
            assert_contains(&stderr, &[endpoint, "output/otlp/metrics: ", " points were lost"]);
            assert!(!stderr.contains("output/jsonl"), "{stderr}");
            let machine = Machine::new();
            let agent = machine.run("rapl,jsonl,otlp", &own[..3]);
            machine.wait_for_joules("package-0");
            let stderr = agent.stop();
            assert_contains(&stderr, &[endpoint, "output/otlp/metrics: ", "they wait in", "otlp-metrics.db"]);
        }
    }
}

#[test]
fn an_output_that_cannot_write_reports_cause_and_remedy_and_other_outputs_continue() {
    let machine = Machine::new();
    let directory = machine.dir.path().to_str().unwrap();
    let nowhere = machine.file("no/such/out");
    let nowhere = nowhere.to_str().unwrap();
    let (at_once, at_the_end) = ("plugins.csv.flush_interval=0s", "plugins.csv.flush_interval=1h");
    let cases: [(&str, &str, &str, &[&str]); 5] = [
        ("csv", nowhere, at_once, &["plugins.csv.path", nowhere, "mkdir -p"]),
        ("csv", "/dev/full", at_once, &["plugins.csv.path", "/dev/full", "free some space"]),
        ("csv", "/dev/full", at_the_end, &["plugins.csv.path", "/dev/full", "free some space"]),
        ("csv", directory, at_once, &["plugins.csv.path", directory, "this is a directory"]),
        ("sqlite", directory, "plugins.sqlite.commit_interval=0s", &["plugins.sqlite.path", directory]),
    ];
    for (plugin, path, pace, expected) in cases {
        let path = format!("plugins.{plugin}.path={path}");
        let agent = machine.run(&format!("rapl,jsonl,{plugin}"), &[&path, pace]);
        machine.wait_for_joules("package-0");
        machine.wait_for_joules("package-0");
        let stderr = agent.stop_with_failure();
        assert_contains(&stderr, expected);
        assert_contains(&stderr, &[&format!("wattrace: output/{plugin}/{plugin}: "), " points were lost"]);
        assert!(!stderr.contains("output/jsonl"), "{stderr}");
    }
}

#[test]
fn a_reader_that_closes_the_pipe_ends_its_output_and_not_the_agent() {
    let machine = Machine::new();
    let mut command = wattrace();
    command.stdout(Stdio::piped());
    let mut agent =
        machine.spawn(command, "rapl,jsonl,csv", &["plugins.csv.path=-", "plugins.csv.flush_interval=0s"]);
    let mut start = [0; 7];
    agent.child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    machine.wait_for_joules("package-0");
    let stderr = agent.stop();
    assert_contains(
        &stderr,
        &["plugins.csv.path: -: the reader has closed it", "wattrace: output/csv/csv: ", " points were lost"],
    );
}

#[test]
fn sigint_and_sigterm_end_it_after_the_last_window_is_written() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let machine = Machine::new();
        // No tick and no flush happens before the end.
        let slow = ["plugins.rapl.interval=4min", "plugins.jsonl.flush_interval=4min"];
        let agent = machine.run("rapl,jsonl", &slow);
        // Outputs open after sources, so the meter has its first reading when the file exists.
        wait("the output is open", || machine.out().exists());
        let used =
            || fs::read_to_string(machine.file("sys/class/powercap/intel-rapl:0:0/energy_uj")).unwrap();
        let first = used();
        wait("more energy is used", || used() > first);
        let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert_eq!(agent.stop_by(signal, 0), "");
        assert!(fs::read_to_string(machine.out()).unwrap().ends_with("}\n"));
        let lines = read_jsonl(&machine.out());
        let energy: Vec<_> = lines.iter().filter(|l| metric(l) == "hw.energy").collect();
        assert_eq!(energy.len(), 2, "a last reading of each counter: {energy:?}");
        for line in energy {
            assert!(line["time_unix_nano"].as_u64() >= Some(sent), "{line}");
            assert!(line["value"].as_f64() > Some(0.0), "{line}");
        }
    }
}

#[test]
fn without_privileges_it_starts_and_reports_what_is_missing_with_the_remedy() {
    let machine = Machine::new();
    fs::set_permissions(machine.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // A copy: the directory of the build may not be accessible to others.
    let binary = machine.file("wattrace");
    fs::copy(wattrace().get_program(), &binary).unwrap();
    let mut command = Command::new(Path::new(&binary));
    // SAFETY: the call has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(65534).gid(65534);
    }
    command.current_dir(machine.dir.path()).env("HOME", machine.dir.path());
    let agent = machine.spawn(command, "sched,rapl,attribution,jsonl", &[]);
    machine.wait_for_joules("package-0");
    let stderr = agent.stop_with_failure();
    assert_contains(
        &stderr,
        &["source/sched/cpu: no permission to load eBPF programs (neither", "CAP_BPF", "sudo setcap cap_bpf"],
    );
    assert!(!stderr.contains("source/rapl"), "{stderr}");
}
