//! Points in Influx line protocol, in a real InfluxDB and a real VictoriaMetrics: what is read back equals
//! what the agent wrote into a file beside, whatever the texts hold, and though the server dies meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::feed;
use support::services::{Running, eventually, free_port, has, http, percent_encoded};
use support::{interrupt, metric, read_jsonl, wattrace};

/// Microjoules, or millionths of the unit, by metric, text and time in milliseconds.
type Points = BTreeMap<(String, String, u64), i64>;

fn millionths(value: f64) -> i64 {
    (value * 1e6).round() as i64
}

/// An agent that feeds the server on `port`, and a file.
fn start_agent(dir: &Path, port: u16, more: &[&str]) -> Running {
    let agent = wattrace()
        .args(["run", "--plugins", "exec,jsonl,influx"])
        .args(feed::arguments(dir))
        .args(["--set", &format!("plugins.influx.url=http://127.0.0.1:{port}")])
        .args(["--set", "plugins.influx.interval=100ms", "--set", "plugins.influx.timeout=2s"])
        .args(["--set", &format!("plugins.jsonl.path={}", dir.join("all.jsonl").display())])
        .args(more.iter().flat_map(|set| ["--set", *set]))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("agent.log")).unwrap())
        .spawn()
        .unwrap();
    Running(agent)
}

/// All points of the feed that the agent wrote into its file; `spelt` is how the server spells a text.
fn written(dir: &Path, spelt: impl Fn(&str) -> String) -> Points {
    let points = read_jsonl(&dir.join("all.jsonl"));
    let fed = points.iter().filter(|point| metric(point).starts_with("fed."));
    fed.map(|point| {
        let text = point["attributes"]["fed.text"].as_str().map(&spelt).unwrap_or_default();
        let time = point["time_unix_nano"].as_u64().unwrap() / 1_000_000;
        ((metric(point).to_owned(), text, time), millionths(point["value"].as_f64().unwrap()))
    })
    .collect()
}

fn points_in_file(dir: &Path) -> usize {
    feed::points_in(&dir.join("all.jsonl"))
}

fn feed_ends(dir: &Path) {
    eventually("the end of the feed", || (points_in_file(dir) >= feed::POINTS).then_some(()));
}

fn start_influxdb(dir: &Path, port: u16, rpc: u16) -> Running {
    let data = dir.join("influxdb");
    let config = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n\
         [meta]\ndir = \"{0}/meta\"\n[data]\ndir = \"{0}/data\"\nwal-dir = \"{0}/wal\"\n\
         [monitor]\nstore-enabled = false\n\
         [http]\nbind-address = \"127.0.0.1:{port}\"\n",
        data.display()
    );
    let file = dir.join("influxdb.conf");
    std::fs::write(&file, config).unwrap();
    let mut influxd = Command::new("influxd");
    influxd.arg("-config").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Running(influxd.spawn().unwrap());
    eventually("InfluxDB", || http(port, "GET", "/ping"));
    server
}

/// All values of the feed in InfluxDB, without the zeros with which counters begin.
fn in_influxdb(port: u16) -> Option<Points> {
    let mut points = Points::new();
    for name in ["fed.energy", "fed.temperature"] {
        let query = percent_encoded(&format!("SELECT value FROM \"{name}\" GROUP BY *"));
        let answer = http(port, "GET", &format!("/query?db=energy&epoch=ms&q={query}"))?;
        let answer: Value = serde_json::from_str(&answer).ok()?;
        for series in answer["results"][0]["series"].as_array()? {
            let tags = &series["tags"];
            assert_eq!((&tags["host.name"], &tags["site"]), (&"node-1".into(), &"a, b".into()), "{tags}");
            for row in series["values"].as_array()? {
                let text = tags["fed.text"].as_str().unwrap_or_default().to_owned();
                let key = (name.to_owned(), text, row[0].as_u64()?);
                points.insert(key, millionths(row[1].as_f64()?));
            }
        }
    }
    points.retain(|_, value| *value != 0);
    Some(points)
}

/// A line feed is written in two characters, and InfluxDB takes a doubled backslash for two.
fn as_influxdb_spells(text: &str) -> String {
    match text {
        "line\nfeed\tand tab" => r"line\nfeed\tand tab".to_owned(),
        text => text.replace(r"\, \\ ;", r"\\, \\\\ ;"),
    }
}

#[test]
fn influxdb_has_every_point_though_it_was_killed_meanwhile() {
    if !has("influxd", "influxdb") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (port, rpc) = (free_port(), free_port());
    let mut server = start_influxdb(dir.path(), port, rpc);
    let tags = "plugins.influx.tags={ \"host.name\" = \"node-1\", site = \"a, b\" }";
    let mut agent = start_agent(dir.path(), port, &["plugins.influx.database=energy", tags]);
    // Without its database the server answers 404, and points wait until somebody creates it.
    let log = dir.path().join("agent.log");
    let log = || std::fs::read_to_string(&log).unwrap();
    eventually("the missing database in the log", || log().contains("database not found").then_some(()));
    let create = percent_encoded("CREATE DATABASE energy");
    assert!(http(port, "POST", &format!("/query?q={create}")).is_some());
    eventually("the first points", || in_influxdb(port).filter(|points| !points.is_empty()));
    server.kill();
    let before = points_in_file(dir.path());
    eventually("points during the outage", || (points_in_file(dir.path()) > before + 50).then_some(()));
    let _server = start_influxdb(dir.path(), port, rpc);
    feed_ends(dir.path());
    interrupt(&agent.0);
    assert!(agent.0.wait().unwrap().success(), "{}", log());
    let (written, read) = (written(dir.path(), as_influxdb_spells), in_influxdb(port).unwrap());
    assert_eq!(written.len(), feed::POINTS);
    assert_eq!(read, written);
}

#[test]
fn points_of_an_agent_that_was_killed_during_an_outage_are_sent_by_the_next_one() {
    if !has("influxd", "influxdb") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (port, rpc) = (free_port(), free_port());
    let mut server = start_influxdb(dir.path(), port, rpc);
    let create = percent_encoded("CREATE DATABASE energy");
    assert!(http(port, "POST", &format!("/query?q={create}")).is_some());
    server.kill();
    let spool = format!("plugins.influx.spool={}", dir.path().join("spool.db").display());
    let tags = "plugins.influx.tags={ \"host.name\" = \"node-1\", site = \"a, b\" }";
    let settings = ["plugins.influx.database=energy", tags, &spool];
    let mut agent = start_agent(dir.path(), port, &settings);
    feed_ends(dir.path());
    agent.kill();
    let mut written = written(dir.path(), as_influxdb_spells);
    // Of the last second some points may not have been in the file.
    let last = written.keys().map(|(_, _, time)| *time).max().unwrap();
    written.retain(|(_, _, time), _| *time < last - 1000);
    assert!(written.len() > feed::POINTS / 2);

    let _server = start_influxdb(dir.path(), port, rpc);
    std::fs::remove_file(dir.path().join("all.jsonl")).unwrap();
    let mut agent = start_agent(dir.path(), port, &settings);
    feed_ends(dir.path());
    interrupt(&agent.0);
    assert!(agent.0.wait().unwrap().success());
    let read = in_influxdb(port).unwrap();
    let missing: Vec<_> = written.iter().filter(|(key, value)| read.get(key) != Some(value)).collect();
    assert!(missing.is_empty(), "{} of {}: {:?}", missing.len(), written.len(), missing.first());
}

fn start_victoria_metrics(dir: &Path, port: u16) -> Running {
    let mut server = Command::new("victoria-metrics");
    server
        .arg(format!("-storageDataPath={}", dir.join("victoria").display()))
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .args(["-retentionPeriod=100y", "-memory.allowedPercent=5"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = Running(server.spawn().unwrap());
    eventually("VictoriaMetrics", || http(port, "GET", "/health"));
    server
}

/// All values of the feed in VictoriaMetrics, without the zeros with which counters begin.
fn in_victoria_metrics(port: u16) -> Option<Points> {
    let selected = percent_encoded("{__name__=~\"fed.*_value\"}");
    let answer = http(port, "GET", &format!("/api/v1/export?match[]={selected}"))?;
    let mut points = Points::new();
    for line in answer.lines() {
        let series: Value = serde_json::from_str(line).ok()?;
        let labels = &series["metric"];
        let name = labels["__name__"].as_str()?.trim_end_matches("_value").to_owned();
        let text = labels["fed.text"].as_str().unwrap_or_default();
        let pairs = series["timestamps"].as_array()?.iter().zip(series["values"].as_array()?);
        for (time, value) in pairs {
            let key = (name.clone(), text.to_owned(), time.as_u64()?);
            points.insert(key, millionths(value.as_f64()?));
        }
    }
    points.retain(|_, value| *value != 0);
    Some(points)
}

/// What an agent with these settings sends.
fn arrives_in_victoria_metrics(settings: &[&str]) {
    if !has("victoria-metrics", "victoria-metrics") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = start_victoria_metrics(dir.path(), port);
    let mut agent = start_agent(dir.path(), port, settings);
    feed_ends(dir.path());
    interrupt(&agent.0);
    assert!(agent.0.wait().unwrap().success());
    let written = written(dir.path(), |text| text.replace('\n', r"\n").replace('\t', r"\t"));
    let read = eventually("all points", || {
        // What was taken becomes readable a little later.
        http(port, "GET", "/internal/force_flush")?;
        in_victoria_metrics(port).filter(|points| points.len() >= written.len())
    });
    assert_eq!(read, written);
}

#[test]
fn victoria_metrics_has_every_point() {
    arrives_in_victoria_metrics(&["plugins.influx.compression=none"]);
}

#[test]
fn version_2_of_the_protocol_brings_every_point_too() {
    let (org, bucket) = ("plugins.influx.org=lab", "plugins.influx.bucket=energy");
    arrives_in_victoria_metrics(&[org, bucket, "plugins.influx.token=open-sesame"]);
}
