//! Calibration end to end: a simulated meter whose power depends on this machine's CPUs in a known way, and
//! the profile that `wattrace calibrate` makes of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use support::load_meter::{IDLE, PER_CPU, zone_of_the_cpus};
use support::{is_root, wattrace};
use wattrace_estimate::profile::Profile;
use wattrace_rapl_simulator::{Tree, Zone};

/// Runs these tests one after the other, since each loads the whole machine.
static ALONE: Mutex<()> = Mutex::new(());

fn calibrate(sysfs: &Path, output: &Path, duration: &str) -> std::process::Output {
    wattrace()
        .args(["calibrate", "--duration", duration, "--output", output.to_str().unwrap()])
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", sysfs.display())])
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_profile_describes_the_simulated_meter() {
    if !is_root() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("profile.toml");
    let running = Tree::create(dir.path(), vec![zone_of_the_cpus()]).unwrap().run(Duration::from_millis(2));
    let done = calibrate(dir.path(), &output, "30s");
    drop(running);
    let (report, errors) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{report}{errors}");
    let profile = Profile::parse(&fs::read_to_string(&output).unwrap()).unwrap();
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    let full = IDLE + PER_CPU * cpus;
    let model = &profile.package;
    assert!((model.idle_watts - IDLE).abs() < full * 0.03, "{profile:#?}\n{report}");
    assert!((model.full_watts() - full).abs() < full * 0.03, "{profile:#?}\n{report}");
    assert!((model.watts(0.5) - (IDLE + full) / 2.0).abs() < full * 0.04, "{profile:#?}\n{report}");
    assert_eq!(profile.origin, "simulated");
    assert_eq!(profile.idle_watts["package-0"], model.idle_watts);
    assert!(report.contains("profile = ") && report.contains("idle_watts = { package-0 = "), "{report}");
    assert!(!output.with_extension("toml.new").exists());
}

#[test]
fn without_a_meter_it_fails_and_leaves_no_file() {
    if !is_root() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("profile.toml");
    let done = calibrate(dir.path(), &output, "10s");
    let errors = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("calibration needs a meter") && errors.contains("source/rapl/energy"),
        "{errors}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{errors}");
}

#[test]
fn a_constant_meter_makes_no_profile() {
    if !is_root() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("profile.toml");
    Tree::create(dir.path(), vec![Zone::new("intel-rapl:0", "package-0", 0.0)]).unwrap();
    let done = calibrate(dir.path(), &output, "10s");
    let errors = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{errors}");
    assert!(errors.contains("it does not follow the CPUs"), "{errors}");
    assert!(!output.exists() && !output.with_extension("toml.new").exists());
}

#[test]
fn a_duration_that_is_too_short_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let done = calibrate(dir.path(), &dir.path().join("profile.toml"), "1s");
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("--duration"), "{}", text(&done.stderr));
}
