//! Runs the example programs: two sources and two outputs, in Python and in sh.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use wattrace_api::testing::Rig;
use wattrace_api::{Batch, Origin, Resource, Tick, Timestamp, Window, metric};
use wattrace_exec::{Exec, ExecConfig, OutputConfig, SourceConfig};

const TIMEOUT: Duration = Duration::from_secs(20);

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).to_str().unwrap().to_owned()
}

/// Whether Python is installed. In CI it has to be.
fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    assert!(found || std::env::var("CI").is_err(), "python3 is not installed");
    if !found {
        eprintln!("SKIPPED: the examples in Python: python3 is not installed");
    }
    found
}

fn rig(config: ExecConfig) -> Rig {
    let mut rig = Rig::new();
    rig.clock.set(Timestamp(1_000_000_000));
    rig.start::<Exec>(config).unwrap();
    rig
}

fn poll(rig: &mut Rig, seconds: u64, last: bool) -> (Batch, Result<(), wattrace_api::Error>) {
    rig.clock.set(Timestamp(seconds * 1_000_000_000));
    let (mut batch, tick) = (Batch::default(), Tick { last, ..Tick::at(rig.clock.now()) });
    let result = rig.sources[0].1.poll(&tick, &mut batch);
    (batch, result)
}

#[test]
fn the_python_source_is_a_meter_of_the_host() {
    if !has_python() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "5000000\n").unwrap();
    let env = [("UPS_ENERGY_FILE".to_owned(), file.path().to_str().unwrap().to_owned())].into();
    let source = SourceConfig {
        name: "ups".to_owned(),
        command: vec![example("ups.py")],
        env,
        ..SourceConfig::default()
    };
    let mut rig = rig(ExecConfig { sources: vec![source], ..ExecConfig::default() });

    poll(&mut rig, 2, false).1.unwrap();
    fs::write(file.path(), "12500000\n").unwrap();
    let (batch, result) = poll(&mut rig, 3, false);
    result.unwrap();
    let points = rig.points(&batch);
    let domain = points[0].series.domain.as_ref().unwrap();
    assert_eq!((points[0].metric.as_str(), points[0].value), ("hw.host.energy", 7.5));
    assert_eq!((domain.name.as_str(), domain.origin), ("ups", Origin::Measured));
    assert_eq!(points[0].window, Window::new(Timestamp(2_000_000_000), Timestamp(3_000_000_000)));

    fs::write(file.path(), "no number\n").unwrap();
    let error = poll(&mut rig, 4, false).1.unwrap_err().to_string();
    assert!(error.contains("is the driver of the UPS running?"), "{error}");
    fs::write(file.path(), "13500000\n").unwrap();
    let (batch, result) = poll(&mut rig, 5, true);
    result.unwrap();
    assert_eq!(rig.points(&batch)[0].value, 8.5);
    // The energy of the poll that failed is in the next window.
    assert_eq!(rig.points(&batch)[0].window.start, Timestamp(3_000_000_000));
}

#[test]
fn the_sh_source_reports_the_load_average_at_its_own_pace() {
    let source = SourceConfig {
        name: "loadavg".to_owned(),
        command: vec![example("loadavg.sh")],
        pace: "own".to_owned(),
        env: [("PACE".to_owned(), "0.01".to_owned())].into(),
        ..SourceConfig::default()
    };
    let mut rig = rig(ExecConfig { sources: vec![source], ..ExecConfig::default() });
    let (mut points, deadline) = (0, Instant::now() + TIMEOUT);
    while points < 3 {
        assert!(Instant::now() < deadline, "only {points} points");
        let (batch, result) = poll(&mut rig, 2, false);
        result.unwrap();
        for point in rig.points(&batch) {
            assert_eq!(point.metric, "system.cpu.load_average.1m");
            assert!((0.0..10_000.0).contains(&point.value), "{point:?}");
            points += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    poll(&mut rig, 3, true).1.unwrap();
}

/// What the output `command` writes for two batches and a flush. The second batch ends package 1.
fn written_by(command: Vec<String>, file: &Path) -> String {
    let env = [("FILE".to_owned(), file.to_str().unwrap().to_owned())].into();
    let output = OutputConfig { name: "o".to_owned(), command, env, ..OutputConfig::default() };
    let mut rig = rig(ExecConfig { outputs: vec![output], ..ExecConfig::default() });
    let series = [0, 1].map(|n| rig.series(&metric::HW_ENERGY, Resource::package(n)));
    for second in 1..3 {
        let window = Window::new(Timestamp(second * 1_000_000_000), Timestamp((second + 1) * 1_000_000_000));
        let mut batch = rig.batch(window, &series.map(|id| (id, second * 1_500_000)));
        if second == 2 {
            batch.end(series[1]);
        }
        rig.outputs[0].1.write(&batch).unwrap();
    }
    rig.outputs[0].1.flush().unwrap();
    assert_eq!(rig.outputs[0].1.undelivered(), 0);
    fs::read_to_string(file).unwrap()
}

#[test]
fn the_sh_output_writes_every_point() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let written = written_by(vec![example("append.sh")], file.path());
    let values: Vec<_> = written
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].as_f64().unwrap())
        .collect();
    assert_eq!(values, [1.5, 1.5, 3.0, 3.0]);
}

#[test]
fn the_python_output_writes_the_latest_point_of_each_open_series() {
    if !has_python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("latest.json");
    let written = written_by(vec![example("latest.py"), file.to_str().unwrap().to_owned()], &file);
    let latest: Vec<serde_json::Value> = serde_json::from_str(&written).unwrap();
    assert_eq!(latest.len(), 1, "{written}");
    assert_eq!((&latest[0]["value"], &latest[0]["resource"]["id"]), (&3.0.into(), &"0".into()));
}

#[test]
fn problems_are_published_as_a_metric() {
    let script = r#"echo '{"wattrace":"exec/1"}'; while read -r x; do
        case $x in *'"poll"'*) echo rubbish; echo '{"points":[]}';; esac; done"#;
    let source = SourceConfig {
        name: "odd".to_owned(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        ..SourceConfig::default()
    };
    let mut rig = rig(ExecConfig { sources: vec![source], ..ExecConfig::default() });
    poll(&mut rig, 2, false).1.unwrap();
    let mut batch = Batch::default();
    let tick = Tick::at(rig.clock.now());
    rig.sources[1].1.poll(&tick, &mut batch).unwrap();
    let points = rig.points(&batch);
    assert_eq!(points.len(), 1);
    assert_eq!((points[0].metric.as_str(), points[0].value), ("wattrace.exec.anomalies", 1.0));
    let attributes: Vec<_> = points[0].series.all_attributes().iter().map(|a| a.value.to_string()).collect();
    assert_eq!(attributes, ["source/exec/odd", "bad_line"]);
}
