//! The exit status of `wattrace run`: 1 if an output has lost all of its points, or the last ones, whatever
//! the output and the cause. No test here needs root: RAPL is simulated.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::wattrace;
use wattrace_rapl_simulator::{Tree, Zone};

/// Runs the agent for a moment with `settings`. Returns its exit code and standard error.
fn run(directory: &Path, plugins: &str, settings: &[String], stdout: Stdio) -> (Option<i32>, String) {
    let sys = directory.join("sys");
    let zones = vec![Zone::new("intel-rapl:0", "package-0", 10.0)];
    let _time = Tree::create(&sys, zones).unwrap().run(Duration::from_millis(1));
    let mut command = wattrace();
    command.args(["run", "--duration", "300ms", "--plugins", &format!("rapl,{plugins}")]);
    let own = [
        format!("plugins.rapl.sysfs_root={}", sys.display()),
        "plugins.rapl.interval=20ms".to_owned(),
        "agent.control_socket=".to_owned(),
    ];
    for setting in own.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    let output = command.env_remove("WATTRACE_LOG").stdout(stdout).output().unwrap();
    fs::remove_dir_all(&sys).unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_output_that_delivers_has_exit_code_0_and_one_that_loses_all_has_1() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let set = |key: &str, value: &Path| vec![format!("plugins.{key}={}", value.display())];
    let (absent, full) = (dir.join("no/such/file"), Path::new("/dev/full"));
    let foreign = dir.join("foreign");
    fs::write(&foreign, "something else\n").unwrap();
    let cases: &[(&str, Vec<String>, i32)] = &[
        ("csv", set("csv.path", &dir.join("csv")), 0),
        ("csv", set("csv.path", &absent), 1),
        ("csv", set("csv.path", full), 1),
        ("csv", set("csv.path", &foreign), 1),
        ("jsonl", set("jsonl.path", &dir.join("jsonl")), 0),
        ("jsonl", set("jsonl.path", &absent), 1),
        ("jsonl", set("jsonl.path", full), 1),
        ("jsonl", set("jsonl.path", dir), 1),
        ("sqlite", set("sqlite.path", &dir.join("sqlite")), 0),
        ("sqlite", set("sqlite.path", &absent), 1),
        ("sqlite", set("sqlite.path", &foreign), 1),
        ("otlp", vec!["plugins.otlp.endpoint=http://127.0.0.1:1".into()], 1),
        ("jsonl,csv", [set("jsonl.path", &dir.join("both")), set("csv.path", full)].concat(), 1),
    ];
    for (plugins, settings, expected) in cases {
        let (code, stderr) = run(dir, plugins, settings, Stdio::null());
        assert_eq!(code, Some(*expected), "{plugins} {settings:?}: {stderr}");
        assert_eq!(stderr.contains("points were lost"), *expected == 1, "{settings:?}: {stderr}");
    }
    let (code, stderr) = run(dir, "console", &[], File::create(full).unwrap().into());
    assert_eq!(code, Some(1), "the console's table goes to a full disk: {stderr}");
    let (code, stderr) = run(dir, "console", &[], Stdio::null());
    assert_eq!(code, Some(0), "{stderr}");
}
