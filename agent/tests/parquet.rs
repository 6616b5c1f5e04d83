//! Parquet files in pyarrow and DuckDB: what they read equals what the agent wrote into a file beside. An
//! agent that is killed leaves complete files only, and the next one completes the file it was writing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::feed;
use support::services::{Running, eventually};
use support::{interrupt, metric, read_jsonl, wattrace};

/// All rows of all files of a directory, as both libraries read them; each file alone, too.
const READER: &str = r#"
import duckdb, glob, json, pyarrow, pyarrow.parquet, sys
names = sorted(glob.glob(sys.argv[1] + "/*.parquet"))
table = pyarrow.concat_tables([pyarrow.parquet.read_table(name) for name in names])
rows = zip(*(table[c].to_pylist() for c in ["metric", "attributes", "steps", "value", "program"]),
           table["time"].cast(pyarrow.int64()).to_pylist())
def row(metric, attributes, steps, value, program, time):
    return [metric, json.loads(attributes).get("fed.text"), steps, value, time // 1000]
duck = duckdb.sql(f"SELECT metric, attributes, steps, value, program, epoch_ns(CAST(time AS TIMESTAMP_NS)) "
                  f"FROM read_parquet('{sys.argv[1]}/*.parquet')").fetchall()
groups = [pyarrow.parquet.ParquetFile(name).num_row_groups for name in names]
print(json.dumps({"pyarrow": [row(*r) for r in rows], "duckdb": [row(*r) for r in duck], "groups": groups,
                  "hosts": table["host"].unique().to_pylist()}))
"#;

/// Microjoules, or millionths of the unit, by metric, text and time in microseconds.
type Points = BTreeMap<(String, String, u64), i64>;

fn millionths(value: &Value) -> i64 {
    (value.as_f64().unwrap() * 1e6).round() as i64
}

fn python() -> Option<PathBuf> {
    let python =
        std::env::var_os("WATTRACE_TEST_PYTHON").map(PathBuf::from).unwrap_or_else(|| "python3".into());
    let import = Command::new(&python).args(["-c", "import duckdb, pyarrow"]).stderr(Stdio::null()).status();
    let found = import.is_ok_and(|status| status.success());
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "pyarrow is missing: cargo xtask setup --test");
        eprintln!("skipped: this Python has no pyarrow and duckdb");
    }
    found.then_some(python)
}

fn read(python: &Path, directory: &Path) -> Value {
    let output = Command::new(python).args(["-c", READER]).arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The feed's rows of one library. Counters have exact steps.
fn fed(rows: &Value) -> Points {
    let rows = rows.as_array().unwrap().iter().filter(|row| row[0].as_str().unwrap().starts_with("fed."));
    rows.map(|row| {
        let value = millionths(&row[3]);
        assert_eq!(row[2].as_i64().unwrap_or(value), value, "{row}");
        let text = row[1].as_str().unwrap_or_default().to_owned();
        ((row[0].as_str().unwrap().to_owned(), text, row[4].as_u64().unwrap()), value)
    })
    .collect()
}

fn written(file: &Path) -> Points {
    let points = read_jsonl(file);
    let fed = points.iter().filter(|point| metric(point).starts_with("fed."));
    fed.map(|point| {
        let text = point["attributes"]["fed.text"].as_str().unwrap_or_default().to_owned();
        let time = point["time_unix_nano"].as_u64().unwrap() / 1000;
        ((metric(point).to_owned(), text, time), millionths(&point["value"]))
    })
    .collect()
}

fn start_agent(dir: &Path, file: &str) -> Running {
    let agent = wattrace()
        .args(["run", "--plugins", "exec,jsonl,parquet"])
        .args(feed::arguments(dir))
        .args(["--set", &format!("plugins.jsonl.path={}", dir.join(file).display())])
        .args(["--set", &format!("plugins.parquet.directory={}", dir.join("files").display())])
        .args(["--set", "plugins.parquet.row_group=200ms", "--set", "plugins.parquet.file_interval=1s"])
        .args(["--set", "plugins.parquet.host=node-1"])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("agent.log")).unwrap())
        .spawn()
        .unwrap();
    Running(agent)
}

/// Names in the directory of the files that end with `end`.
fn names(dir: &Path, end: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("files")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(end)).collect()
}

#[test]
fn pyarrow_and_duckdb_read_every_point_and_a_killed_agent_leaves_complete_files() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut agent = start_agent(dir.path(), "first.jsonl");
    // A file that is killed before its first row group is complete has nothing to recover.
    let has_row_group = |name: &String| {
        let bytes = std::fs::read(dir.path().join("files").join(name)).unwrap_or_default();
        bytes.len() > 4 && bytes[4..].windows(4).any(|four| four == b"PAR1")
    };
    eventually("a complete file, and another that is not", || {
        let is_begun = names(dir.path(), ".partial").iter().any(has_row_group);
        (!names(dir.path(), ".parquet").is_empty() && is_begun).then_some(())
    });
    agent.kill();
    let before = fed(&read(&python, &dir.path().join("files"))["pyarrow"]);
    assert!(!before.is_empty());

    let mut agent = start_agent(dir.path(), "second.jsonl");
    let fed_points = || feed::points_in(&dir.path().join("second.jsonl"));
    eventually("the end of the feed", || (fed_points() >= feed::POINTS).then_some(()));
    interrupt(&agent.0);
    let log = || std::fs::read_to_string(dir.path().join("agent.log")).unwrap();
    assert!(agent.0.wait().unwrap().success(), "{}", log());
    assert_eq!(names(dir.path(), ".partial"), [""; 0]);
    assert_eq!(names(dir.path(), ".broken"), [""; 0]);
    assert!(log().contains("it is complete now"), "{}", log());

    let found = read(&python, &dir.path().join("files"));
    let (arrow, duck) = (fed(&found["pyarrow"]), fed(&found["duckdb"]));
    assert_eq!(arrow, duck);
    assert!(before.iter().all(|(key, value)| arrow.get(key) == Some(value)));
    let written = written(&dir.path().join("second.jsonl"));
    assert_eq!(written.len(), feed::POINTS);
    let of_second: Points = arrow.into_iter().filter(|(key, _)| written.contains_key(key)).collect();
    assert_eq!(of_second, written);
    assert_eq!(found["hosts"], serde_json::json!(["node-1"]));
    let groups = found["groups"].as_array().unwrap();
    assert!(groups.iter().any(|count| count.as_u64() > Some(1)), "{groups:?}");
}
