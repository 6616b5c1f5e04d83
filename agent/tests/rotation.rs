//! Rotation by a running agent: the rotated and compressed files of csv hold what jsonl wrote into one file.
#![cfg(all(feature = "csv", feature = "jsonl", feature = "simulator", feature = "attribution"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::fs;
use std::path::Path;

use support::wattrace;

const HEADER: &str = "metric,unit,kind,start_unix_nano,time_unix_nano,value,resource_type,resource_id,\
                      consumer_type,consumer_id,consumer_start_unix_nano,attributes\n";

/// Time and value of each row of a file, which begins with the header.
fn rows(path: &Path) -> Vec<(String, String)> {
    let bytes = fs::read(path).unwrap();
    let is_compressed = path.extension().is_some_and(|extension| extension == "zst");
    let bytes = if is_compressed { zstd::decode_all(&*bytes).unwrap() } else { bytes };
    let text = String::from_utf8(bytes).unwrap();
    let rows = text.strip_prefix(HEADER).unwrap_or_else(|| panic!("{path:?} has no header: {text}"));
    let fields = rows.lines().map(|row| row.split(',').map(str::to_owned).collect::<Vec<_>>());
    fields.map(|fields| (fields[4].clone(), fields[5].clone())).collect()
}

/// The same of a line of jsonl, as it is written.
fn point(line: &str) -> (String, String) {
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\":")).unwrap();
        rest.split([',', '}']).next().unwrap().replace("null", "")
    };
    (field("time_unix_nano"), field("value"))
}

#[test]
fn all_files_together_hold_every_point_once_and_each_has_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let status = wattrace()
        .args(["run", "--duration", "2s", "--plugins", "simulator,attribution,csv,jsonl"])
        .args(["--set", "plugins.simulator.threads=[{ process = 'one', run = '6ms', sleep = '4ms' }]"])
        .args(["--set", "plugins.simulator.schedule=script", "--set", "plugins.simulator.interval=10ms"])
        .args(["--set", &format!("plugins.csv.path={}", file("e.csv").display())])
        .args(["--set", &format!("plugins.jsonl.path={}", file("e.jsonl").display())])
        .args(["--set", "plugins.csv.flush_interval=100ms", "--set", "plugins.csv.rotate_size=16 KiB"])
        .args(["--set", "plugins.csv.compression=zstd"])
        .status()
        .unwrap();
    assert!(status.success());
    let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.to_string_lossy().contains(".csv")).collect();
    files.retain(|path| !path.to_string_lossy().ends_with(".part"));
    // The current one, e.csv, last.
    files.sort_unstable_by_key(|path| (*path == file("e.csv"), path.clone()));
    assert!(files.len() > 3, "{files:?}");
    let rows: Vec<_> = files.iter().flat_map(|path| rows(path)).collect();
    let points: Vec<_> = fs::read_to_string(file("e.jsonl")).unwrap().lines().map(point).collect();
    assert!(points.len() > 1000, "{}", points.len());
    assert_eq!(rows, points);
}
