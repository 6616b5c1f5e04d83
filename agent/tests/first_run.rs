//! The first run of `wattrace exec` on a machine and the one after it: the baseline, what the report says of
//! the power at no load, and the state file. How accurate both are is tested in plugins/attribution, on
//! simulated machines, and by `first_run/table.rs`, on this one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

#[path = "first_run/meter.rs"]
mod meter;
mod support;
#[path = "first_run/table.rs"]
mod table;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::{is_root, state_directory, wattrace};
use wattrace_rapl_simulator::{Running, Tree, Zone};

/// A meter of 10 W under any load.
fn meter(root: &Path) -> Running {
    let zone = Zone::new("intel-rapl:0", "package-0", 10.0);
    Tree::create(root, vec![zone]).unwrap().run(Duration::from_millis(1))
}

/// The report on a command of a fifth of a second, with these arguments of `exec`.
fn exec(root: &Path, state: &Path, arguments: &[&str]) -> Value {
    let output = wattrace()
        .env("STATE_DIRECTORY", state)
        .args(["exec", "--format", "json", "--plugins", "sched,rapl,attribution"])
        .args(["--set", "plugins.sched.interval=10ms", "--set", "plugins.rapl.interval=10ms"])
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", root.display())])
        .args(arguments)
        .args(["--", "sh", "-c", "sleep 0.2; true"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let [domain] = &report["domains"].as_array().unwrap()[..] else { panic!("{report:#}") };
    assert_eq!(domain["unattributed_j"], 0.0, "{report:#}");
    report
}

#[test]
fn what_the_first_run_learns_is_kept_for_the_next() {
    if !is_root() {
        return;
    }
    let (dir, state) = (tempfile::tempdir().unwrap(), state_directory());
    let meter = meter(dir.path());
    let first = exec(dir.path(), &state, &[]);
    let baseline = &first["baseline"];
    assert!(baseline["duration_s"].as_f64().is_some_and(|seconds| seconds >= 0.1), "{first:#}");
    let known = &first["domains"][0]["static"];
    assert!(["learnt", "assumed"].iter().any(|word| known["known"] == *word), "{first:#}");
    assert!(known["watts"].as_f64() > Some(0.0) && known["ci95_w"].as_f64() > Some(0.0), "{first:#}");

    let file = state.join("attribution.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let observations = || {
        let state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let machines = state["machines"].as_object().unwrap();
        let domains = &machines.values().next().unwrap()["domains"];
        domains["package-0 simulated"]["observations"].as_u64().unwrap()
    };
    let learnt = observations();
    assert!(learnt > 0);
    exec(dir.path(), &state, &[]);
    assert!(observations() > learnt, "the second run has gone on from the first");
    drop(meter);
    fs::remove_dir_all(&state).unwrap();
}

#[test]
fn a_baseline_is_as_long_as_asked_for_and_state_can_be_switched_off() {
    if !is_root() {
        return;
    }
    let (dir, state) = (tempfile::tempdir().unwrap(), state_directory());
    let _meter = meter(dir.path());
    let none = "plugins.attribution.state=none";
    let report = exec(dir.path(), &state, &["--set", none, "--baseline", "0s"]);
    assert_eq!(report["baseline"], Value::Null, "{report:#}");
    let report = exec(dir.path(), &state, &["--set", none, "--baseline", "700ms"]);
    let baseline = &report["baseline"];
    let is_long = baseline["duration_s"].as_f64().is_some_and(|seconds| seconds >= 0.7);
    assert!(is_long || baseline["skipped"] == true, "{report:#}");
    assert!(!state.exists(), "nothing is kept");
    // What is given needs no baseline.
    let given = "plugins.attribution.idle_watts.package-0=9.5";
    let report = exec(dir.path(), &state, &["--set", none, "--set", given]);
    assert_eq!(report["baseline"], Value::Null, "{report:#}");
    let known = serde_json::json!({ "known": "given", "watts": 9.5, "ci95_w": 0.0 });
    assert_eq!(report["domains"][0]["static"], known);
}
