//! Slowing down by `cpu.max` on the running kernel: `wattrace exec --budget` with `--on-budget throttle`, and
//! the limits of the plugin `budget`. The meter is simulated, of 20 W per busy CPU; the truth is the CPU time
//! that the kernel counts for a cgroup. They need cgroup v2 with the controller `cpu`, as systemd sets it up
//! and the virtual machines of `cargo xtask vm` do; elsewhere they report that they were skipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{interrupt, is_root, wattrace};
use wattrace_cgroup::{CpuLimit, ScopedCgroup};

/// Power of a busy CPU, W.
const BUSY: f64 = 20.0;

/// Locked by the one test that runs: on emulated CPUs, two agents that read every 10 ms are late.
static CPUS: Mutex<()> = Mutex::new(());

const FOREVER: &str = "while :; do :; done";

/// A cgroup whose CPU time can be limited; `None`: not here.
fn cgroup(name: &str) -> Option<ScopedCgroup> {
    let created = ScopedCgroup::create(&format!("wattrace-test-{name}-{}", std::process::id()));
    let limited = created.and_then(|scoped| CpuLimit::of(scoped.cgroup().clone()).map(|_| scoped));
    limited.map_err(|e| eprintln!("skipped: no cgroup v2 with the controller `cpu`: {e}")).ok()
}

/// A shell that is busy in a cgroup until it is dropped.
struct Spinner(Child);

impl Spinner {
    fn start(scoped: &ScopedCgroup) -> Self {
        let child = Command::new("/bin/sh").args(["-c", FOREVER]).stdout(Stdio::null()).spawn().unwrap();
        scoped.cgroup().add(child.id()).unwrap();
        Self(child)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU time of a cgroup since it was created, in seconds, as the kernel counts it.
fn cpu_seconds(dir: &Path) -> f64 {
    let stat = fs::read_to_string(dir.join("cpu.stat")).unwrap();
    let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
    used.parse::<f64>().unwrap() * 1e-6
}

/// Waits until `is_so`, and returns when it was.
fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Instant {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within two minutes: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Instant::now()
}

#[test]
fn a_cgroup_above_its_limit_gets_the_limits_power_on_average_and_is_set_free_in_the_end() {
    if !is_root() {
        return;
    }
    let _no_other_test = CPUS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(scoped) = cgroup("limit") else { return };
    let dir: PathBuf = scoped.cgroup().dir().to_owned();
    let cpu_max = || fs::read_to_string(dir.join("cpu.max")).unwrap().trim().to_owned();
    let path = scoped.path();
    const WATTS: f64 = 5.0;
    let limit = format!("{{cgroup=\"{path}\",watts={WATTS:?},over=\"2s\",action=\"throttle\"}}");
    let mut agent = wattrace()
        .args(["run", "--plugins", "sched,simulator,attribution,budget"])
        .args(["--set", "plugins.simulator.schedule=real"])
        .args(["--set", &format!("plugins.simulator.busy_watts={BUSY:?}")])
        .args(["--set", "plugins.sched.interval=100ms", "--set", "agent.control_socket="])
        .args(["--set", &format!("plugins.budget.limits=[{limit}]")])
        .spawn()
        .unwrap();
    let spinner = Spinner::start(&scoped);
    let free = cpu_max();
    assert!(free.starts_with("max "), "{free}");
    until("the cgroup is slowed down", || cpu_max() != free);
    // What could be saved up is used up, and the power is that of the limit.
    let settled = Instant::now() + Duration::from_secs(4);
    until("four seconds have passed", || Instant::now() >= settled);
    let (before, began) = (cpu_seconds(&dir), Instant::now());
    until("eight seconds have passed", || began.elapsed() >= Duration::from_secs(8));
    let watts = (cpu_seconds(&dir) - before) / began.elapsed().as_secs_f64() * BUSY;
    interrupt(&agent);
    assert!(agent.wait().unwrap().success());
    assert_eq!(cpu_max(), free, "what was changed is restored");
    drop(spinner);
    eprintln!("{watts:.2} W of {WATTS} W on average over 8 s");
    assert!((watts / WATTS - 1.0).abs() < 0.1, "{watts} W, and the limit is {WATTS} W");
}

#[test]
fn a_command_that_has_used_its_budget_goes_on_with_a_twentieth_of_a_cpu() {
    if !is_root() || cgroup("exec").is_none() {
        return;
    }
    let _no_other_test = CPUS.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    // A second, and then some seconds more.
    let script = "end=$(($(date +%s) + 8)); while [ $(date +%s) -lt $end ]; do i=0; \
                  while [ $i -lt 2000 ]; do i=$((i + 1)); done; done";
    let status = wattrace()
        .args(["exec", "--plugins", "sched,simulator,attribution", "--format", "json", "--output"])
        .arg(&report)
        .args(["--set", "plugins.simulator.schedule=real"])
        .args(["--set", &format!("plugins.simulator.busy_watts={BUSY:?}")])
        .args(["--budget", "20J", "--on-budget", "throttle", "--", "/bin/sh", "-c", script])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(3));
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let budget = &report["budget"];
    assert_eq!((&budget["on_budget"], &budget["by"]), (&"throttle".into(), &"cgroup".into()));
    let nanos = |value: &Value| value.as_u64().unwrap();
    let (start, reached) = (&report["window"]["start_unix_nano"], nanos(&budget["reached_unix_nano"]));
    let end = nanos(&report["window"]["end_unix_nano"]);
    let seconds = |from: u64, to: u64| (to - from) as f64 * 1e-9;
    let before = 20.0 / seconds(nanos(start), reached);
    let after = (budget["used_j"].as_f64().unwrap() - 20.0) / seconds(reached, end);
    eprintln!("{before:.2} W before, {after:.2} W after the budget was used up");
    assert!(before > 10.0, "{before} W before: {report:#}");
    // What was used between the last reading and the limit adds a little: a tick of 10 ms.
    assert!((0.2..=1.3).contains(&after), "{after} W after, of {} W allowed: {report:#}", BUSY * 0.05);
}
