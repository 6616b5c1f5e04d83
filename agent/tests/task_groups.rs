//! A group of tasks whose energy is metered apart (resctrl, simulated from files): its processes share it,
//! from the first one on to children of milliseconds, and nobody else gets any of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{consumer, is_root, metric, wattrace};

/// A shell that runs a script until it is dropped.
struct Shell(Child);

impl Shell {
    fn run(script: &str) -> Self {
        Self(Command::new("/bin/sh").args(["-c", script]).spawn().unwrap())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sets the counter of `group`, as at once as the kernel does.
fn count(mount: &Path, group: &str, joules: u64) {
    let directory = mount.join(group).join("mon_data/mon_PERF_PKG_00");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("new"), format!("{joules}\n")).unwrap();
    fs::rename(directory.join("new"), directory.join("core_energy")).unwrap();
}

/// The last point of each consumer's energy in `domain`, and the meter's value.
fn energy(out: &Path, domain: &str) -> (Vec<Value>, f64) {
    let (mut last, mut measured) = (HashMap::new(), 0.0);
    // While the agent runs, the last line may be incomplete, and there may be no file yet.
    let text = fs::read_to_string(out).unwrap_or_default();
    let points = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    for point in points.filter(|p| p["attributes"]["wattrace.domain"] == domain) {
        match metric(&point) {
            "wattrace.consumer.energy" => drop(last.insert(point["consumer"].to_string(), point)),
            "hw.energy" => measured = point["value"].as_f64().unwrap(),
            _ => {}
        }
    }
    (last.into_values().collect(), measured)
}

fn is_process(point: &Value, pid: u32) -> bool {
    point["attributes"]["process.pid"] == pid
}

fn is_child(point: &Value, pid: u32) -> bool {
    point["attributes"]["process.parent_pid"] == pid
}

#[test]
fn the_energy_of_a_group_is_that_of_its_processes_and_their_children() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mount, out) = (dir.path().join("resctrl"), dir.path().join("out.jsonl"));
    let spin = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    let member = Shell::run(&format!("while :; do {spin}; sh -c 'for i in 1 2 3; do :; done'; done"));
    let stranger = Shell::run("while :; do :; done");
    count(&mount, "", 1000);
    count(&mount, "web", 500);
    fs::write(mount.join("web/tasks"), format!("{}\n", member.0.id())).unwrap();
    let mut agent = wattrace()
        .args(["run", "--plugins", "sched,resctrl,attribution,jsonl"])
        .args(["--set", &format!("plugins.resctrl.root={}", mount.display())])
        .args(["--set", &format!("plugins.jsonl.path={}", out.display())])
        .args(["--set", "agent.control_socket="])
        .spawn()
        .unwrap();
    let has_energy = || {
        let (points, _) = energy(&out, "web-core-0");
        let pid = member.0.id();
        points.iter().any(|p| is_process(p, pid)) && points.iter().any(|p| is_child(p, pid))
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut joules = 0;
    while !has_energy() {
        assert!(Instant::now() < deadline && agent.try_wait().unwrap().is_none(), "the group has no energy");
        joules += 1;
        count(&mount, "web", 500 + joules);
        count(&mount, "", 1000 + 2 * joules);
        std::thread::sleep(Duration::from_millis(100));
    }
    support::interrupt(&agent);
    assert!(agent.wait().unwrap().success());

    let (parts, measured) = energy(&out, "web-core-0");
    let sum: f64 = parts.iter().map(|point| point["value"].as_f64().unwrap()).sum();
    assert!(measured > 0.0 && (sum - measured).abs() < 1e-5, "{sum} of {measured} J");
    for point in &parts {
        let is_members = is_process(point, member.0.id()) || is_child(point, member.0.id());
        match consumer(point) {
            "process" => assert!(is_members, "it is not in the group: {point}"),
            // What was used before usage was known.
            "unattributed" => {}
            other => assert_eq!(point["value"], 0.0, "{other}"),
        }
        assert_eq!(point["attributes"]["wattrace.origin"], "simulated");
    }
    let (all, _) = energy(&out, "core-0");
    assert!(
        all.iter().any(|point| is_process(point, stranger.0.id())),
        "the package's cores are everybody's"
    );
}
