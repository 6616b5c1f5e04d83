//! What else processes used, in the report of `wattrace exec`, for a command of known size.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use serde_json::Value;
use support::{is_root, wattrace};

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
