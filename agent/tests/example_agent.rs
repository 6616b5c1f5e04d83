//! A custom agent, `examples/custom_agent.rs`, run as its users would.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The example's executable. Cargo builds examples along with tests, beside the agent.
fn custom_agent() -> PathBuf {
    let wattrace = Path::new(env!("CARGO_BIN_EXE_wattrace"));
    let example = wattrace.with_file_name("examples").join("custom_agent");
    assert!(
        example.exists(),
        "{} is missing: `cargo build -p wattrace --examples` makes it",
        example.display()
    );
    example
}

/// Runs the custom agent. It is killed if it does not end.
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60"]).arg(custom_agent()).args(arguments);
    // What this machine has learnt is not touched.
    command.env("STATE_DIRECTORY", env!("CARGO_TARGET_TMPDIR"));
    // Outputs that the environment configures must not run.
    command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env_remove("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{stderr}", output.status);
    output
}

#[test]
fn the_additional_plugin_is_listed_after_the_standard_ones() {
    let listed = String::from_utf8(run(&["plugins", "list"]).stdout).unwrap();
    let names: Vec<_> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names.last(), Some(&"mine"), "{listed}");
    assert!(names.contains(&"jsonl"), "{listed}");
}

#[test]
fn its_points_reach_a_standard_output() {
    let truth: f64 = {
        let text = std::fs::read_to_string("/proc/loadavg").unwrap();
        text.split(' ').nth(2).unwrap().parse().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("points.jsonl");
    let path = format!("plugins.jsonl.path={}", file.display());
    let begun = Instant::now();
    let interval = "plugins.mine.interval=100ms";
    run(&["run", "--plugins", "mine,jsonl", "--set", &path, "--set", interval, "--duration", "2s"]);
    assert!(begun.elapsed() >= Duration::from_secs(2));

    let mut values: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for line in std::fs::read_to_string(&file).unwrap().lines() {
        let point: serde_json::Value = serde_json::from_str(line).unwrap();
        if point["metric"] == "mine.load_average" {
            assert_eq!((&point["kind"], &point["unit"]), (&"gauge".into(), &"{thread}".into()), "{line}");
            assert_eq!(point["resource"]["type"], "host", "{line}");
            let minutes = point["attributes"]["mine.minutes"].as_i64().unwrap();
            values.entry(minutes).or_default().push(point["value"].as_f64().unwrap());
        }
    }
    assert_eq!(values.keys().collect::<Vec<_>>(), [&1, &5, &15]);
    // Twenty ticks and the last one, of which a busy machine may miss some.
    for values in values.values() {
        assert!((5..=22).contains(&values.len()), "{values:?}");
    }
    // The average over a quarter of an hour changes little in so short a time.
    assert!(values[&15].iter().all(|value| (value - truth).abs() < 1.0), "{truth}: {values:?}");
}

#[test]
fn its_keys_are_checked_like_all_others() {
    let output = Command::new(custom_agent())
        .args(["run", "--set", "plugins.mine.intervall=1s", "--set", "plugins.mine.interval=soon"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("unknown key plugins.mine.intervall; did you mean `interval`?"), "{stderr}");
}
