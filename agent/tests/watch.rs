//! `wattrace watch` on processes that run already, against what /proc says of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;
use support::{interrupt, is_root, wattrace};

/// A process that is killed in the end.
struct Process(Child);

impl Process {
    fn spawn(program: &str, arguments: &[&str]) -> Self {
        Self(Command::new(program).args(arguments).stdout(Stdio::null()).spawn().unwrap())
    }

    fn busy() -> Self {
        Self::spawn("sh", &["-c", "while :; do :; done"])
    }

    /// Its own CPU time in seconds, in steps of 10 ms.
    fn cpu_time(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `wattrace watch`, attached.
struct Watch {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it said of what it is attached to.
    attached: String,
}

impl Watch {
    fn start(arguments: &[&str]) -> Self {
        let mut command = wattrace();
        command.args(["watch", "--plugins", "sched,estimate,attribution,groups", "--format", "json"]);
        command.args(["--set", "plugins.sched.interval=50ms"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stderr, mut attached) = (BufReader::new(child.stderr.take().unwrap()), String::new());
        while !attached.contains("watching ") {
            attached.clear();
            assert!(stderr.read_line(&mut attached).unwrap() > 0, "{arguments:?}: {:?}", child.wait());
        }
        Self { child, stderr, attached }
    }

    /// Its report, in which all sums match, when it has ended.
    fn report(mut self) -> Value {
        let (mut report, mut log) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
        self.stderr.read_to_string(&mut log).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{log}");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["schema"], "wattrace.exec/1");
        let micro = |d: &Value, key: &str| (d[key].as_f64().unwrap() * 1e6).round() as i64;
        for d in report["domains"].as_array().unwrap() {
            let parts = ["command_j", "other_j", "idle_j", "unattributed_j"];
            assert_eq!(micro(d, "measured_j"), parts.iter().map(|k| micro(d, k)).sum::<i64>(), "{d}");
        }
        report
    }
}

fn cpu_time(report: &Value) -> f64 {
    report["total"]["cpu_time_s"].as_f64().unwrap()
}

fn pids(report: &Value) -> Vec<u64> {
    report["processes"].as_array().unwrap().iter().map(|p| p["pid"].as_u64().unwrap()).collect()
}

#[test]
fn what_a_process_used_before_is_not_counted_and_what_it_uses_later_is() {
    if !is_root() {
        return;
    }
    let busy = Process::busy();
    // It has a past that would show.
    while busy.cpu_time() < 0.5 {
        std::thread::yield_now();
    }
    let pid = busy.0.id().to_string();
    let watch = Watch::start(&["--duration", "1s", &pid]);
    let after_start = busy.cpu_time();
    let report = watch.report();
    let after_end = busy.cpu_time();
    assert_eq!(
        (&report["target"]["kind"], &report["target"]["until"]),
        (&"process".into(), &"duration".into())
    );
    assert_eq!(report["target"]["attached"], serde_json::json!([busy.0.id()]));
    assert_eq!(pids(&report), [u64::from(busy.0.id())]);
    // It went on until after the last reading. /proc counts in steps of 10 ms.
    let (traced, truth) = (cpu_time(&report), after_end - after_start);
    assert!(traced <= truth + 0.03, "{traced} s, /proc says {truth} s: something of before");
    assert!(traced >= 0.5 * truth, "{traced} s, /proc says {truth} s");
    let domain = &report["domains"][0];
    assert!(domain["command_j"].as_f64().unwrap() > 0.0 && report["origin"] == "estimated", "{report:#}");
}

#[test]
fn descendants_are_counted_and_the_report_comes_when_the_process_ends() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    assert!(Command::new("mkfifo").arg(&go).status().unwrap().success());
    // The one who starts the busy one sleeps from before the attachment on; the third one comes later.
    let script = format!(
        "sh -c 'read x < {0}; sh -c :; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; true' & wait; \
         exit 7",
        go.display()
    );
    let mut root = Process::spawn("sh", &["-c", &script]);
    let children = format!("/proc/{0}/task/{0}/children", root.0.id());
    while fs::read_to_string(&children).unwrap().is_empty() {
        std::thread::yield_now();
    }
    let watch = Watch::start(&[&root.0.id().to_string()]);
    assert!(
        watch.attached.contains("(sh) and 1 descendant") || watch.attached.contains("(dash) and 1"),
        "{}",
        watch.attached
    );
    fs::write(&go, "x\n").unwrap();
    assert_eq!(root.0.wait().unwrap().code(), Some(7));
    let report = watch.report();
    assert_eq!(
        (&report["target"]["until"], &report["exit_code"]),
        (&"ended".into(), &7.into()),
        "{report:#}"
    );
    assert_eq!(report["total"]["processes"], 3, "{report:#}");
    assert!(cpu_time(&report) > 0.05, "{report:#}");
}

#[test]
fn all_processes_of_a_name_are_counted_also_those_that_come_later() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program: PathBuf = dir.path().join("watched-by-test");
    fs::copy(fs::canonicalize("/bin/sh").unwrap(), &program).unwrap();
    let spawn = || Process::spawn(program.to_str().unwrap(), &["-c", "while :; do :; done"]);
    let (first, second) = (spawn(), spawn());
    let watch = Watch::start(&["watched-by-test"]);
    assert!(watch.attached.contains("name `watched-by-test`: 2 processes: "), "{}", watch.attached);
    let third = spawn();
    while third.cpu_time() < 0.1 {
        std::thread::yield_now();
    }
    interrupt(&watch.child);
    let report = watch.report();
    assert_eq!(report["target"]["until"], "interrupted");
    let mut expected: Vec<u64> = [&first, &second, &third].map(|p| u64::from(p.0.id())).into();
    expected.sort_unstable();
    let mut found = pids(&report);
    found.sort_unstable();
    assert_eq!(found, expected);
}

/// A cgroup of the unified hierarchy; `None`: there is none here that can have more.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let root = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(point))
        })?;
        let cgroup = Self(root.join(name));
        if let Err(e) = fs::create_dir_all(&cgroup.0) {
            eprintln!("skipped: {}: {e}", cgroup.0.display());
            return None;
        }
        Some(cgroup)
    }

    fn add(&self, process: &Process) {
        fs::write(self.0.join("cgroup.procs"), process.0.id().to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_container_is_watched_by_the_beginning_of_its_id() {
    if !is_root() {
        return;
    }
    let id = format!("{:064x}", std::process::id());
    let Some(cgroup) = Cgroup::new(&format!("libpod-{id}")) else { return };
    let busy = Process::busy();
    cgroup.add(&busy);
    let watch = Watch::start(&["--duration", "500ms", &format!("container:{}", &id[..62])]);
    assert!(watch.attached.contains(&format!("1 process: {}", busy.0.id())), "{}", watch.attached);
    let report = watch.report();
    assert_eq!(pids(&report), [u64::from(busy.0.id())], "{report:#}");
}

#[test]
fn a_unit_and_a_cgroup_have_the_processes_in_them_and_end_with_the_last() {
    if !is_root() {
        return;
    }
    let name = format!("wattrace-test-{}.service", std::process::id());
    let Some(cgroup) = Cgroup::new(&name) else { return };
    for target in [format!("unit:{name}"), format!("cgroup:/{name}")] {
        let (inside, outside) = (Process::busy(), Process::busy());
        cgroup.add(&inside);
        let watch = Watch::start(&[&target]);
        assert!(watch.attached.contains(&format!("1 process: {}", inside.0.id())), "{}", watch.attached);
        let start = inside.cpu_time();
        while inside.cpu_time() < start + 0.2 {
            std::thread::yield_now();
        }
        let pid = u64::from(inside.0.id());
        drop(inside);
        let report = watch.report();
        assert_eq!((pids(&report), &report["target"]["until"]), (vec![pid], &"ended".into()), "{report:#}");
        assert!(cpu_time(&report) >= 0.18, "{report:#}");
        drop(outside);
    }
}

#[test]
fn what_is_not_there_is_refused_with_what_to_look_at() {
    if !is_root() {
        return;
    }
    for (target, expected) in [
        ("4194999", "there is no process 4194999"),
        ("no-such-program", "no process is called `no-such-program`"),
        ("unit:no-such-unit", "no process is in the unit `no-such-unit.service`: see `systemctl status"),
        ("container:no-such", "no process is in a container `no-such`"),
        ("cgroup:/no/such", "no process is in the cgroup /no/such"),
    ] {
        let output = wattrace().args(["watch", target]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && stderr.contains(expected), "{target}: {stderr}");
    }
    let output = wattrace().args(["watch", "unit:"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
