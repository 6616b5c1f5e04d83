//! `wattrace exec` under a configuration for the whole machine: its transforms and outputs are not the
//! command's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use support::{is_root, read_jsonl, wattrace};

/// Transforms that leave out, rename, sum up and coarsen everything that a report is made of.
const SHAPING: &str = r#"
[plugins.filter]
otherwise = "keep"
rules = [{ action = "drop", select = { consumer = "process" } }]
[plugins.relabel]
rules = [{ select = { metric = "hw.energy" }, rename = "x.energy" }]
[plugins.top]
count = 1
[plugins.aggregate]
window = "1h"
rules = [{ select = { metric = "*" }, functions = ["sum"], keep = false }]
[agent.outputs."output/jsonl/*"]
transforms = ["filter"]
"#;

fn report(config: &Path, options: &[&str]) -> Value {
    let output = wattrace()
        .args(["exec", "--format", "json", "--config"])
        .arg(config)
        .args(options)
        .args(["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"])
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The command has energy, and what was measured is the sum of its parts.
fn assert_complete(report: &Value) {
    let micro = |d: &Value, key: &str| (d[key].as_f64().unwrap() * 1e6).round() as i64;
    let domains = report["domains"].as_array().unwrap();
    assert!(!domains.is_empty(), "{report:#}");
    for d in domains {
        let parts = ["command_j", "other_j", "idle_j", "unattributed_j"].map(|key| micro(d, key));
        assert_eq!(micro(d, "measured_j"), parts.iter().sum::<i64>(), "{d}");
        assert!(micro(d, "command_j") > 0, "{d}");
    }
    assert_eq!(report["total"]["processes"], 1, "{report:#}");
    assert!(report["total"]["energy_j"].as_f64().unwrap() > 0.0, "{report:#}");
}

#[test]
fn transforms_for_outputs_change_nothing_in_the_report_and_outputs_run_when_asked_for() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = (dir.path().join("w.toml"), dir.path().join("out.jsonl"));
    fs::write(&config, format!("{SHAPING}[plugins.jsonl]\npath = '{}'\n", out.display())).unwrap();
    assert_complete(&report(&config, &[]));
    assert!(!out.exists(), "the output of the configuration has run");
    assert_complete(&report(&config, &["--with-outputs"]));
    assert!(!read_jsonl(&out).is_empty());
}

#[test]
fn an_absent_collector_neither_delays_a_command_nor_adds_to_what_is_measured() {
    if !is_root() {
        return;
    }
    // Accepts connections and answers none: waiting for it took seconds, in which others used energy.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("w.toml");
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    fs::write(&config, format!("[plugins.otlp]\nendpoint = '{endpoint}'\n")).unwrap();
    assert_complete(&report(&config, &[]));
    silent.set_nonblocking(true).unwrap();
    assert!(silent.accept().is_err(), "the collector was asked");
}
