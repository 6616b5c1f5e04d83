//! What else processes used, in the report of `wattrace exec`, for a command of known size.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::net::UdpSocket;

use serde_json::Value;
use support::{is_root, wattrace};

/// Of the plugin `context` only what the test is about.
const NO_GAUGES: [&str; 4] =
    ["--set", "plugins.context.frequency=off", "--set", "plugins.context.temperature=false"];

#[test]
fn the_report_says_what_each_process_read_and_wrote_and_the_sum() {
    if !is_root() {
        return;
    }
    let script = "head -c 3000000 /dev/zero | cat > /dev/null";
    let args = ["exec", "--plugins", "sched", "--format", "json", "--", "sh", "-c", script];
    let output = wattrace().args(args).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let processes = report["processes"].as_array().unwrap();
    let mut written = 0;
    for name in ["head", "cat"] {
        let process = processes.iter().find(|p| p["comm"] == name).unwrap();
        // Programs read their libraries too.
        assert!((3_000_000..3_100_000).contains(&process["io_bytes"]["read"].as_u64().unwrap()), "{process}");
        assert_eq!(process["io_bytes"]["written"], 3_000_000, "{process}");
        assert!(process["peak_memory_bytes"].as_u64().unwrap() > 100_000, "{process}");
        assert!(process["page_faults"]["minor"].as_u64().unwrap() > 10, "{process}");
        written += 3_000_000;
    }
    let total = &report["total"];
    assert_eq!(total["io_bytes"]["written"], written, "{total}");
    let peaks = processes.iter().map(|p| p["peak_memory_bytes"].as_u64().unwrap());
    assert_eq!(total["peak_memory_bytes"].as_u64(), peaks.max());
}

#[test]
fn the_report_includes_what_a_process_used_that_the_command_leaves_behind() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // `cat` reads until `sleep` closes the pipe. At the end all but what fits into it was read.
    let script = "mkfifo f; cat f > /dev/null 2>&1 & exec 3> f; head -c 3000000 /dev/zero >&3
                  sleep 5 > /dev/null 2>&1 &";
    let args = ["exec", "--plugins", "sched", "--format", "json", "--", "sh", "-c", script];
    let output = wattrace().args(args).current_dir(&dir).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let processes = report["processes"].as_array().unwrap();
    let cat = processes.iter().find(|p| p["comm"] == "cat").unwrap();
    assert!((2_900_000..3_100_000).contains(&cat["io_bytes"]["read"].as_u64().unwrap_or_default()), "{cat}");
    assert!(cat["exit_code"].is_null(), "{cat}");
}

#[test]
fn the_report_says_how_much_memory_a_process_had_for_itself() {
    if !is_root() {
        return;
    }
    // The last line of what has no line break: all of it is in memory.
    let script = "(head -c 50000000 /dev/zero; sleep 1) | tail -n 1 > /dev/null";
    let output = wattrace()
        .args(["exec", "--plugins", "sched,context", "--format", "json"])
        .args(["--set", "plugins.context.memory_of=20", "--set", "plugins.context.interval=100ms"])
        .args(["--set", "plugins.sched.interval=50ms"])
        .args(NO_GAUGES)
        .args(["--", "sh", "-c", script])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let processes = report["processes"].as_array().unwrap();
    let tail = processes.iter().find(|p| p["comm"] == "tail").unwrap();
    let bytes = |key: &str| tail[key].as_u64().unwrap_or_default();
    assert!((50_000_000..bytes("peak_memory_bytes")).contains(&bytes("peak_pss_bytes")), "{tail}");
}

#[test]
fn the_report_says_what_the_command_sent_over_the_network() {
    if !is_root() {
        return;
    }
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let one = |size: u32| format!("head -c {size} /dev/zero > /dev/udp/127.0.0.1/{port}; ");
    let script = [1000, 300].map(one).concat();
    let output = wattrace()
        .args(["exec", "--plugins", "sched,context", "--format", "json"])
        .args(["--set", "plugins.context.network=true"])
        .args(NO_GAUGES)
        .args(["--", "bash", "-c", &script])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    if message.contains("cgroup") {
        return eprintln!("skipped: {message}");
    }
    // Each datagram has headers of 28 bytes.
    let expected = serde_json::json!({ "received": 0, "sent": 1300 + 2 * 28 });
    assert_eq!(report["total"]["network_bytes"], expected, "{report:#}");
}
