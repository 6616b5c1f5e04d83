//! Real containers, batch jobs and pods with a real agent: each gets its joules under its own name, to the
//! microjoule.
//!
//! | file | tests |
//! | --- | --- |
//! | `pod.rs` | a pod's cgroups, and its name from a kubelet's reply |
//! | `podman.rs` | a container of Podman, and its name from Podman's API |
//! | `slurm.rs` | a job of Slurm, on a cluster of only this machine |
//!
//! They need root and the software in question, which `cargo xtask setup --test` installs. Where it is
//! missing they are skipped with a message, and fail under CI=true. The meter is simulated.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod pod;
mod podman;
mod slurm;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::load_meter::{PER_CPU, zone_of_the_cpus};
use support::{consumer, is_root, metric, read_jsonl, wattrace};
use wattrace_rapl_simulator::{Running, Tree};

/// Time limit for anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs these tests one after the other, since each keeps a small machine busy.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the test can run: as root, with all of these programs.
fn can_run(programs: &[&str]) -> bool {
    let is_missing = |program: &&&str| {
        let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
        !folders.iter().any(|folder| Path::new(folder).join(program).exists())
    };
    let missing: Vec<_> = programs.iter().filter(is_missing).collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {missing:?}; `cargo xtask setup --test` installs it"));
    }
    missing.is_empty() && is_root()
}

/// Reports why a test is skipped. Under CI=true no test may be.
fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    eprintln!("skipped: {why}");
}

/// Where cgroup v2 is mounted; `None`, with a message, if it is not.
fn cgroup2() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let mut points = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| point.into())
    });
    let point = points.next();
    if point.is_none() {
        skip("cgroup v2 is mounted nowhere: mount -t cgroup2 none /sys/fs/cgroup/unified");
    }
    point
}

/// A cgroup that the software under test may make and leave behind. Dropping it removes the cgroup, unless it
/// existed before.
struct Leftover(Option<PathBuf>);

impl Leftover {
    fn of(cgroup: PathBuf) -> Self {
        Self(Some(cgroup).filter(|cgroup| !cgroup.exists()))
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        fn remove(cgroup: &Path) {
            let inside = std::fs::read_dir(cgroup).into_iter().flatten().flatten();
            inside.filter(|entry| entry.path().is_dir()).for_each(|entry| remove(&entry.path()));
            // Fails if it still has processes.
            let _ = std::fs::remove_dir(cgroup);
        }
        self.0.iter().for_each(|cgroup| remove(cgroup));
    }
}

/// Runs a command, which must succeed. Returns its standard output.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.trim().to_owned()
}

/// Waits for `condition`.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(20));
    }
}

/// An agent on a simulated meter that follows the load. With constant power the model would learn, rightly,
/// that load costs nothing.
struct Agent {
    agent: Child,
    _meter: Running,
    out: PathBuf,
}

impl Agent {
    /// Starts it, and waits until it traces.
    fn start(dir: &Path, settings: &[String]) -> Self {
        let meter = Tree::create(dir, vec![zone_of_the_cpus()]).unwrap().run(Duration::from_millis(1));
        let out = dir.join("out.jsonl");
        let mut command = wattrace();
        command.args(["run", "--plugins", "sched,rapl,attribution,carbon,groups,jsonl"]);
        let own = [
            format!("plugins.rapl.sysfs_root={}", dir.display()),
            format!("plugins.jsonl.path={}", out.display()),
            "plugins.jsonl.flush_interval=0s".to_owned(),
            "plugins.carbon.country=DE".to_owned(),
            "agent.control_socket=".to_owned(),
        ];
        for setting in own.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let agent = Self { agent: command.spawn().unwrap(), _meter: meter, out };
        wait_until("the agent traces", || agent.has("wattrace.consumer.energy"));
        agent
    }

    /// Whether it has written `text`.
    fn has(&self, text: &str) -> bool {
        std::fs::read_to_string(&self.out).is_ok_and(|written| written.contains(text))
    }

    /// Stops it, and reads its output.
    fn stop(mut self) -> LastValues {
        // SAFETY: the call has no preconditions; the child is not reaped yet, so its pid is its own.
        assert_eq!(unsafe { libc::kill(self.agent.id() as libc::pid_t, libc::SIGINT) }, 0);
        assert!(self.agent.wait().unwrap().success());
        LastValues::read(&self.out)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail unless the test has failed: it has stopped already.
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// The last point of each series, ended ones included, with its value in steps.
struct LastValues(Vec<(Value, i64)>);

impl LastValues {
    fn read(path: &Path) -> Self {
        let mut last = BTreeMap::new();
        for point in read_jsonl(path) {
            let key = format!(
                "{} {} {} {}",
                point["metric"], point["consumer"], point["resource"], point["start_unix_nano"]
            );
            last.insert(key, point);
        }
        let steps = |point: &Value| {
            let per_unit = if metric(point).ends_with("energy") { 1e6 } else { 1e9 };
            (point["value"].as_f64().unwrap_or_default() * per_unit).round() as i64
        };
        Self(last.into_values().map(|point| (point.clone(), steps(&point))).collect())
    }

    /// The sum of the metric `name` over the points that match.
    fn sum(&self, name: &str, matches: impl Fn(&Value) -> bool) -> i64 {
        self.0
            .iter()
            .filter(|(point, _)| metric(point) == name && matches(point))
            .map(|(_, steps)| steps)
            .sum()
    }

    /// The attributes of a consumer.
    fn attributes(&self, kind: &str, id: &str) -> &Value {
        let mut found =
            self.0.iter().filter(|(point, _)| consumer(point) == kind && point["consumer"]["id"] == *id);
        &found.next().unwrap_or_else(|| panic!("there is no {kind} {id}")).0["attributes"]
    }

    /// Asserts that the group `id` of the level `kind` has the sum of its processes, whose attribute `key` is
    /// `id`, except for what they used before they joined it; that the level sums to all processes; and that
    /// all processes and the closing entries sum to what was measured. Asserts also that the group kept a CPU
    /// busy for seconds and has at least half of the power that the meter adds for that. Returns the group's
    /// CPU time in nanoseconds and its energy in microjoules.
    fn check_sums(&self, kind: &str, id: &str, key: &str) -> [i64; 2] {
        let energy = |p: &Value| metric(p) == "hw.energy";
        let measured: i64 = self.0.iter().filter(|(point, _)| energy(point)).map(|(_, steps)| steps).sum();
        let top = |p: &Value| matches!(consumer(p), "process" | "idle" | "unattributed");
        assert_eq!(self.sum("wattrace.consumer.energy", top), measured, "all consumers sum to the meter");
        let [all, grouped] =
            ["process", kind].map(|kind| self.sum("wattrace.consumer.carbon", |p| consumer(p) == kind));
        assert!(all > 0 && grouped == all, "the level emits what processes do: {grouped} of {all} ng");
        let sums = ["wattrace.consumer.cpu.time", "wattrace.consumer.energy"].map(|name| {
            let all = self.sum(name, |p| consumer(p) == "process");
            assert_eq!(
                self.sum(name, |p| consumer(p) == kind),
                all,
                "{name}: the level sums to all processes"
            );
            let own = self.sum(name, |p| consumer(p) == kind && p["consumer"]["id"] == *id);
            let its = self.sum(name, |p| consumer(p) == "process" && p["attributes"][key] == *id);
            // A process that was moved into the group has used something before.
            assert!(
                own <= its && its - own <= own / 20,
                "{name}: the group has {own}, its processes have {its}"
            );
            own
        });
        let [seconds, joules] = [sums[0] as f64 * 1e-9, sums[1] as f64 * 1e-6];
        eprintln!("{kind} {id}: {seconds:.3} s on CPUs, {joules:.3} J");
        assert!(seconds > 1.0 && joules > seconds * PER_CPU / 2.0, "{kind} {id}: {seconds} s, {joules} J");
        sums
    }

    /// The number of processes with the attribute `key` = `value`.
    fn processes(&self, key: &str, value: &str) -> usize {
        let of_process = |p: &&(Value, i64)| {
            metric(&p.0) == "wattrace.consumer.cpu.time"
                && consumer(&p.0) == "process"
                && p.0["attributes"][key] == *value
        };
        self.0.iter().filter(of_process).count()
    }
}
