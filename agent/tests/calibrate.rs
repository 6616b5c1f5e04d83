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
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use support::{is_root, wattrace};
use wattrace_estimate::profile::Profile;
use wattrace_rapl_simulator::{Tree, Zone};

/// Runs these tests one after the other, since each loads the whole machine.
static ALONE: Mutex<()> = Mutex::new(());

const IDLE: f64 = 10.0;
const PER_CPU: f64 = 20.0;

/// The idle time of all CPUs since boot, in nanoseconds, as the kernel counts it where ticks stop on idle
/// CPUs.
fn idle_nanos() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let mut numbers = stat.lines().next().unwrap().split_ascii_whitespace().skip(4);
    // Idle and iowait, in hundredths of a second.
    let hundredths: u64 = numbers.by_ref().take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    hundredths * 10_000_000
}

/// Ten watts, and twenty for each busy CPU.
fn zone_of_the_cpus() -> Zone {
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    let (began, idle_before) = (Instant::now(), idle_nanos());
    let highest = AtomicU64::new(0);
    Zone::new("intel-rapl:0", "package-0", 0.0).along(move |_| {
        let idle = (idle_nanos() - idle_before) as f64 * 1e-9;
        let elapsed = began.elapsed().as_secs_f64();
        let busy = (elapsed * cpus - idle).max(0.0);
        let microjoules = ((IDLE * elapsed + PER_CPU * busy) * 1e6) as u64;
        // Idle time advances in steps of 10 ms; the meter must not go backwards because of that.
        highest.fetch_max(microjoules, Relaxed).max(microjoules)
    })
}

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
