//! `wattrace exec --budget` on the running kernel, with a simulated meter of 20 W per busy CPU: what a
//! command uses is known from its CPU time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{is_root, wattrace};

/// Power of a busy CPU, W.
const BUSY: f64 = 20.0;

/// What the whole machine can use in a tick of 10 ms, J.
fn tick() -> f64 {
    BUSY * 0.01 * std::thread::available_parallelism().unwrap().get() as f64
}

/// The exit code of `wattrace exec` with a budget, and its report.
fn exec(options: &[&str], command: &mut Command) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let mut exec = wattrace();
    exec.args(["exec", "--plugins", "sched,simulator,attribution", "--format", "json", "--output"]);
    exec.arg(&report).args(options).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        exec.env(name, value.unwrap());
    }
    let status = exec.stdout(Stdio::null()).status().unwrap();
    (status.code(), serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap())
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// At least 98 % of the budget was used, and at most 2 % and a tick more; and that is the truth.
fn assert_on_time(report: &Value, limit: f64) {
    let budget = &report["budget"];
    let (used, cpu) = (budget["used_j"].as_f64().unwrap(), report["total"]["cpu_time_s"].as_f64().unwrap());
    assert!((limit * 0.98..=limit * 1.02 + tick()).contains(&used), "{used} J of {limit} J: {budget}");
    assert!((used / (cpu * BUSY) - 1.0).abs() < 0.01, "{used} J in {cpu} s");
}

#[test]
fn a_command_is_asked_to_end_when_its_budget_is_used_up() {
    if !is_root() {
        return;
    }
    let (code, report) = exec(&["--budget", "4J"], &mut shell("while :; do :; done"));
    assert_eq!((code, &report["exit_code"]), (Some(3), &143.into()));
    let budget = &report["budget"];
    assert_eq!((&budget["limit_j"], &budget["signal"]), (&4.0.into(), &"SIGTERM".into()));
    assert!(budget["reached_unix_nano"].as_u64() > report["window"]["start_unix_nano"].as_u64());
    assert_on_time(&report, 4.0);
}

#[test]
fn a_tree_that_ignores_sigterm_is_killed_soon_after() {
    if !is_root() {
        return;
    }
    let script = "trap '' TERM; sh -c 'while :; do :; done' & (while :; do :; done) & wait";
    let (code, report) = exec(&["--budget", "4000mJ"], &mut shell(script));
    assert_eq!((code, &report["exit_code"]), (Some(3), &137.into()));
    assert_eq!(report["budget"]["signal"], "SIGKILL");
    assert_on_time(&report, 4.0);
    assert!(report["processes"].as_array().unwrap().iter().all(|p| p["end_unix_nano"].is_u64()), "{report}");
}

#[test]
fn a_command_that_only_gets_a_message_goes_on_to_its_end() {
    if !is_root() {
        return;
    }
    let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exit 7";
    let (code, report) = exec(&["--budget", "0.5J", "--on-budget", "notify"], &mut shell(script));
    assert_eq!((code, &report["exit_code"]), (Some(3), &7.into()));
    assert_eq!((&report["budget"]["reached"], &report["budget"]["signal"]), (&true.into(), &Value::Null));
}

#[test]
fn a_command_within_its_budget_keeps_its_exit_code() {
    if !is_root() {
        return;
    }
    let (code, report) = exec(&["--budget", "1Wh"], &mut shell("exit 7"));
    assert_eq!(code, Some(7));
    assert_eq!(report["budget"]["reached"], false);
    assert_eq!(report["budget"]["used_j"], report["total"]["energy_j"]);
}

/// Set in the command of the trial: the seed of its load.
const LOAD: &str = "WATTRACE_TEST_LOAD";

/// Does nothing unless the variable is set: runs some threads that alternate between work and sleep, forever.
#[test]
fn child_with_a_random_load() {
    let Ok(seed) = std::env::var(LOAD) else { return };
    let mut random = fastrand::Rng::with_seed(seed.parse().unwrap());
    let threads: Vec<_> = (0..random.u32(1..=3))
        .map(|_| {
            let [work, sleep] = [random.u64(1..60), random.u64(0..40)].map(Duration::from_millis);
            std::thread::spawn(move || {
                loop {
                    let start = Instant::now();
                    while start.elapsed() < work {}
                    std::thread::sleep(sleep);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// `WATTRACE_BUDGET_TRIALS` sets the number of loads.
#[test]
#[ignore = "each of a hundred loads takes some tenths of a second"]
fn random_loads_are_stopped_at_their_budgets() {
    if !is_root() {
        return;
    }
    let trials = std::env::var("WATTRACE_BUDGET_TRIALS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let mut random = fastrand::Rng::with_seed(1);
    let mut parts = Vec::new();
    for trial in 0..trials {
        let limit = f64::from(random.u32(1000..8000)) / 1000.0;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child_with_a_random_load"]).env(LOAD, trial.to_string());
        let (code, report) = exec(&["--budget", &format!("{limit}J")], &mut command);
        assert_eq!(code, Some(3));
        assert_on_time(&report, limit);
        let part = report["budget"]["used_j"].as_f64().unwrap() / limit * 100.0;
        eprintln!("load {trial}: {part:.1} % of {limit} J");
        parts.push(part);
    }
    parts.sort_by(f64::total_cmp);
    eprintln!("{trials} loads used {:.1} to {:.1} % of their budgets", parts[0], parts[trials - 1]);
}
