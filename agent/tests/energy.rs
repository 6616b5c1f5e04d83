//! Energy end to end: a simulated meter of known energy, real processes, and the agent's output.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::{consumer, is_root, metric, read_jsonl, wattrace};
use wattrace_rapl_simulator::{Tree, Zone};

const WATTS: f64 = 50.0;
/// 150 J: the counter wraps every three seconds at 50 W.
const RANGE: u64 = 150_000_000;
/// The agent reads the accounts of all CPUs within this time, ns, unless the machine is stopped meanwhile.
const READING_NANOS: u64 = 1_000_000;

fn micro(value: &Value) -> i64 {
    (value.as_f64().unwrap() * 1e6).round() as i64
}

/// Runs these tests one after the other, since they measure time on a machine with few CPUs.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_constant_meter_that_wraps_is_attributed_to_the_last_microjoule() {
    if !is_root() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let zone = Zone::new("intel-rapl:0", "package-0", WATTS).range(RANGE);
    let running = Tree::create(dir.path(), vec![zone]).unwrap().run(Duration::from_millis(1));
    // Something to attribute: short processes all the time.
    let mut load = Command::new("sh").args(["-c", "while :; do /bin/true; done"]).spawn().unwrap();
    let status = wattrace()
        .args(["run", "--plugins", "sched,rapl,attribution,jsonl", "--duration", "30s"])
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", dir.path().display())])
        .args(["--set", &format!("plugins.jsonl.path={}", out.display())])
        .status()
        .unwrap();
    load.kill().unwrap();
    load.wait().unwrap();
    drop(running);
    assert!(status.success());

    let points = read_jsonl(&out);
    let measured: Vec<_> = points.iter().filter(|p| metric(p) == "hw.energy").collect();
    assert!(measured.len() >= 29, "{} windows", measured.len());
    assert!(measured.iter().all(|p| p["attributes"]["wattrace.origin"] == "simulated"));
    let last = measured.last().unwrap();
    let seconds =
        (last["time_unix_nano"].as_i64().unwrap() - last["start_unix_nano"].as_i64().unwrap()) as f64 * 1e-9;
    let (joules, truth) = (last["value"].as_f64().unwrap(), WATTS * seconds);
    assert!(
        (joules - truth).abs() <= truth * 0.001,
        "measured {joules} J in {seconds} s, the truth is {truth} J"
    );
    assert!(truth > 9.0 * RANGE as f64 * 1e-6, "the counter wrapped nine times");

    for residual in points.iter().filter(|p| metric(p) == "wattrace.domain.residual") {
        assert_eq!(residual["value"].as_f64(), Some(0.0));
    }
    // At the end of every window, the last values of all consumers sum to the meter's.
    let measured_at: HashMap<_, _> =
        measured.iter().map(|p| (p["time_unix_nano"].as_u64(), micro(&p["value"]))).collect();
    let mut last_values: HashMap<String, i64> = HashMap::new();
    let mut windows_closed = 0;
    for point in points.iter().filter(|p| metric(p) == "wattrace.consumer.energy") {
        // A consumer whose last slice came after the end of its series has two.
        let series = format!("{} {}", point["consumer"], point["start_unix_nano"]);
        last_values.insert(series, micro(&point["value"]));
        // The last point of a window is that of `unattributed`.
        if consumer(point) == "unattributed" {
            let measured = measured_at[&point["time_unix_nano"].as_u64()];
            assert_eq!(
                last_values.values().sum::<i64>(),
                measured,
                "the sum differs at the end of window {windows_closed}"
            );
            windows_closed += 1;
        }
    }
    assert!(windows_closed >= 29, "{windows_closed} windows were closed");
    assert!(
        last_values.len() > 1000,
        "only {} consumers for half a minute of short processes",
        last_values.len()
    );
}

/// Spins on CPU 0 with the highest priority. Returns the spans in which it did not run, in nanoseconds since
/// the Unix epoch: gaps of more than 10 µs between two readings of the clock.
fn spin_on_first_cpu(stop: &AtomicBool) -> Vec<(u64, u64)> {
    support::pin(0, 0);
    // SAFETY: the call has no preconditions; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (mut gaps, mut before) = (Vec::new(), now());
    while !stop.load(Ordering::Relaxed) {
        let at = now();
        if at.saturating_sub(before) > 10_000 {
            gaps.push((before, at));
        }
        before = at;
    }
    gaps
}

#[test]
fn a_busy_loop_is_charged_its_whole_window_every_window() {
    if !is_root() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let stop = Arc::new(AtomicBool::new(false));
    let spinner = std::thread::spawn({
        let stop = stop.clone();
        move || spin_on_first_cpu(&stop)
    });
    let status = wattrace()
        .args([
            "run",
            "--plugins",
            "sched,jsonl",
            "--duration",
            "5s",
            "--set",
            "plugins.sched.interval=100ms",
        ])
        .args(["--set", &format!("plugins.jsonl.path={}", out.display())])
        .status()
        .unwrap();
    stop.store(true, Ordering::Relaxed);
    let off_cpu = spinner.join().unwrap();
    assert!(status.success());

    let points = read_jsonl(&out);
    let cpu_time = || points.iter().filter(|p| metric(p) == "wattrace.consumer.cpu.time");
    let pid = std::process::id().to_string();
    let busy: Vec<_> = cpu_time()
        .filter(|p| consumer(p) == "process" && p["consumer"]["id"] == *pid)
        .map(|p| (p["time_unix_nano"].as_u64().unwrap(), p["value"].as_f64().unwrap()))
        .collect();
    // There would be 50; on a busy machine some ticks are missed.
    assert!(busy.len() >= 25, "{} windows", busy.len());
    // The last window is cut short by the end of the run.
    for pair in busy[..busy.len() - 1].windows(2) {
        let (start, end) = (pair[0].0, pair[1].0);
        let window = (end - start) as f64 * 1e-9;
        let away: u64 = off_cpu.iter().map(|&(from, to)| to.min(end).saturating_sub(from.max(start))).sum();
        let (spun, charged) = (window - away as f64 * 1e-9, pair[1].1 - pair[0].1);
        // CPUs are read one after the other, and the last one ends the window. If the hypervisor stops the
        // machine in between, that time comes after this CPU's reading but before the end of the window, so
        // it is charged with the next one.
        let late: u64 = off_cpu
            .iter()
            .filter(|&&(from, to)| from < start && to + READING_NANOS > start)
            .map(|&(from, to)| to - from)
            .sum();
        // Time that an interrupt or the hypervisor took away within a slice looks to the loop as if it had
        // not run. Without such time both bounds are the length of the window.
        assert!(charged >= spun - window * 0.01, "charged {charged} s for {spun} s of spinning");
        let most = window + late as f64 * 1e-9;
        assert!(charged <= most + window * 0.01, "charged {charged} s in {window} s, {late} ns late");
    }
    // Every nanosecond once: the sum of the last values is the time that passed, times the number of CPUs.
    let mut last: HashMap<String, (i64, f64)> = HashMap::new();
    for p in cpu_time() {
        let key = format!("{} {}", p["consumer"], p["resource"]);
        last.insert(key, (p["time_unix_nano"].as_i64().unwrap(), p["value"].as_f64().unwrap()));
    }
    let sum: f64 = last.values().map(|v| v.1).sum();
    let idle = cpu_time().rfind(|p| consumer(p) == "idle").unwrap();
    let passed =
        (idle["time_unix_nano"].as_i64().unwrap() - idle["start_unix_nano"].as_i64().unwrap()) as f64 * 1e-9;
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    assert!((sum - passed * cpus).abs() < 0.0005, "charged {sum} s over {passed} s of {cpus} CPUs");
}
