//! `wattrace exec` in namespaces, as in a container: pids there are not those that the kernel programs see.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{is_root, wattrace};

/// Runs the agent in new namespaces; `None`, with a message, if they cannot be made here.
fn unshare(options: &[&str], arguments: &[&str]) -> Option<Output> {
    let probe = Command::new("unshare").args(options).arg("true").status();
    if !is_root() || !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: unshare {options:?} does not work here");
        return None;
    }
    let agent = wattrace().get_program().to_owned();
    Some(Command::new("unshare").args(options).arg(agent).args(arguments).output().unwrap())
}

#[test]
fn in_a_private_pid_namespace_the_command_and_its_children_are_found() {
    let script = "for i in 1 2 3 4 5; do /bin/true; done; exit 3";
    let arguments = ["exec", "--format", "json", "--", "sh", "-c", script];
    let Some(output) = unshare(&["-p", "-f", "--mount-proc"], &arguments) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("private PID namespace") && stderr.contains("--pid=host"), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let processes = report["processes"].as_array().unwrap();
    let count = |name: &str| processes.iter().filter(|p| p["comm"] == name).count();
    assert_eq!((count("sh"), count("true"), processes.len()), (1, 5, 6), "{report:#}");
    assert_eq!(report["total"]["processes"], 6);
    assert!(report["total"]["cpu_time_s"].as_f64().unwrap() > 0.0);
    assert_eq!(processes[0]["exit_code"], 3, "{report:#}");
    assert!(processes.iter().skip(1).all(|p| p["ppid"] == processes[0]["pid"]), "{report:#}");
}

#[test]
fn doctor_says_what_a_private_pid_namespace_costs() {
    let options = ["doctor", "--format", "json", "--plugins", "sched"];
    let Some(output) = unshare(&["-p", "-f", "--mount-proc"], &options) else { return };
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings: Vec<_> = report["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|p| p["findings"].as_array().unwrap())
        .collect();
    let pids = findings.iter().find(|f| f["what"] == "the host's process ids").unwrap();
    assert_eq!(pids["verdict"], "optional");
    assert!(pids["remedy"].as_str().unwrap().contains("--pid=host"), "{pids}");
}

#[test]
fn in_a_user_namespace_the_reason_is_named_by_doctor_and_by_what_fails() {
    for arguments in [&["doctor", "--plugins", "sched"][..], &["exec", "--plugins", "sched", "true"]] {
        let Some(output) = unshare(&["-U", "-r"], arguments) else { return };
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let text = text.join("");
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("user namespace") && text.contains("outside"), "{arguments:?}: {text}");
    }
}
