//! Many short processes, each compared with its own rusage: none is missed, and the time of each is charged
//! to it and to no other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{is_root, wattrace};

/// Processes of each kind.
const SWARM: usize = 10_000;
/// Set in the process that starts the processes: the file to which it writes what each of them used.
const RUSAGE_FILE: &str = "WATTRACE_TEST_SWARM_FILE";

/// Does nothing unless the variable is set: starts the processes one after the other, and writes pid and
/// nanoseconds of each.
#[test]
fn child_that_makes_a_swarm() {
    let Ok(file) = std::env::var(RUSAGE_FILE) else { return };
    let mut used = String::new();
    for _ in 0..SWARM {
        run_child(&mut used, || spin(Duration::from_millis(1)));
        run_child(&mut used, || {
            let path = c"/bin/true".as_ptr();
            // SAFETY: the arguments are a path and a list that ends with a null pointer. The call returns
            // only if it fails.
            unsafe { libc::execv(path, [path, std::ptr::null()].as_ptr()) };
        });
    }
    std::fs::write(file, used).unwrap();
    std::process::exit(0);
}

/// Runs `work` in a child, and adds its pid and rusage to `used`.
fn run_child(used: &mut String, work: impl Fn()) {
    // SAFETY: the child does only what is allowed after fork in a process with threads: it spins or calls
    // execve, and exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        work();
        // SAFETY: the call ends the process at once.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: the pid is that of our own child, and both results are valid for writes.
    let usage = unsafe {
        let (mut status, mut usage) = (0, std::mem::zeroed::<libc::rusage>());
        assert_eq!(libc::wait4(pid, &mut status, 0, &mut usage), pid);
        assert_eq!(status, 0);
        usage
    };
    let micros = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    writeln!(used, "{pid} {}", micros(usage.ru_utime) + micros(usage.ru_stime)).unwrap();
}

fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn each_of_twenty_thousand_short_processes_is_listed_with_its_own_time() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (truth, report) = (dir.path().join("rusage"), dir.path().join("report.json"));
    let status = wattrace()
        .args(["exec", "--plugins", "sched", "--format", "json", "--output"])
        .arg(&report)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_makes_a_swarm"])
        .env(RUSAGE_FILE, &truth)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let mut traced: HashMap<i64, Vec<(u64, f64)>> = HashMap::new();
    for process in report["processes"].as_array().unwrap() {
        let of_pid = traced.entry(process["pid"].as_i64().unwrap()).or_default();
        of_pid.push((process["start_unix_nano"].as_u64().unwrap(), process["cpu_time_s"].as_f64().unwrap()));
    }
    // A pid that was used twice has both processes, in the order of their start.
    traced.values_mut().for_each(|of_pid| of_pid.sort_by_key(|(start, _)| std::cmp::Reverse(*start)));
    let (mut total, mut correct, mut excess) = (0.0, 0.0, 0.0);
    let members = std::fs::read_to_string(truth).unwrap();
    assert_eq!(members.lines().count(), 2 * SWARM);
    for line in members.lines() {
        let (pid, micros) = line.split_once(' ').unwrap();
        let (pid, truth): (i64, f64) = (pid.parse().unwrap(), micros.parse::<f64>().unwrap() * 1e-6);
        let (_, seen) =
            traced.get_mut(&pid).and_then(Vec::pop).unwrap_or_else(|| panic!("{pid} is not listed"));
        assert!(seen > 0.0);
        total += truth;
        correct += seen.min(truth);
        excess += (seen - truth).max(0.0);
    }
    let percent = |part: f64| 100.0 * part / total;
    eprintln!(
        "of {total:.3} s in rusage, {:.4} % are charged to the right process, and {:.4} % in excess",
        percent(correct),
        percent(excess)
    );
    // Time charged beyond rusage is time that the hypervisor took away within a slice.
    assert!(percent(correct) >= 99.9, "{} %", percent(correct));
}
