//! The source with files that a host may write.

use std::fs;
use std::path::Path;

use wattrace_api::ErrorKind;
use wattrace_api::testing::{Point, Rig};

use super::*;

const SECOND: u64 = 1_000_000_000;

/// 10 W since second 0, as of second `n`.
fn line(n: u64, origin: &str) -> String {
    format!(
        r#"{{"schema":"wattrace.share/1","machine":"web","session":1,"start_unix_nano":0,
            "as_of_unix_nano":{},"age_nano":0,"domains":[
            {{"domain":"package-0","origin":"{origin}","part":true,"microjoules":{}}}]}}"#,
        n * SECOND,
        n * 10_000_000
    )
}

fn started(path: &Path) -> Result<Rig, Error> {
    let mut rig = Rig::new();
    rig.clock.set(Timestamp(100 * SECOND));
    rig.start::<HostShare>(HostShareConfig { path: path.to_owned(), ..HostShareConfig::default() })?;
    Ok(rig)
}

fn poll(rig: &mut Rig, second: u64) -> (Vec<Point>, Option<Error>) {
    rig.clock.set(Timestamp(second * SECOND));
    let mut batch = Batch::default();
    let tick = Tick::at(rig.clock.now());
    let error = rig.sources[0].1.poll(&tick, &mut batch).err();
    (rig.points(&batch), error)
}

fn of<'a>(points: &'a [Point], metric: &str) -> Vec<&'a Point> {
    points.iter().filter(|p| p.metric == metric).collect()
}

#[test]
fn energy_has_the_host_s_windows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("share.json");
    fs::write(&path, line(99, "measured")).unwrap();
    let mut rig = started(&path).unwrap();
    let domains = rig.registry.domains();
    let domain = &domains[0];
    assert_eq!((&*domain.name, domain.origin, &domain.follows), (DOMAIN, Origin::Estimated, &Follows::Cpus));

    fs::write(&path, line(100, "measured")).unwrap();
    let (points, error) = poll(&mut rig, 101);
    assert!(error.is_none());
    let energy = of(&points, "hw.energy");
    assert_eq!((energy.len(), energy[0].value), (1, 10.0));
    assert_eq!(energy[0].window, Window::new(Timestamp(99 * SECOND), Timestamp(100 * SECOND)));
    assert_eq!(of(&points, "wattrace.host_share.age")[0].value, 1.0);
    // The host's clock is an hour fast: the message counts as of when it is read.
    fs::write(&path, line(3700, "measured")).unwrap();
    let (points, _) = poll(&mut rig, 103);
    let energy = of(&points, "hw.energy");
    assert_eq!(energy[0].value, 10.0 * (3700.0 - 99.0));
    assert_eq!(energy[0].window, Window::new(Timestamp(100 * SECOND), Timestamp(103 * SECOND)));
}

#[test]
fn a_stale_message_is_reported_and_adds_no_energy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("share.json");
    fs::write(&path, line(100, "measured")).unwrap();
    let mut rig = started(&path).unwrap();
    let (points, error) = poll(&mut rig, 130);
    assert!(error.is_none() && of(&points, "hw.energy").is_empty(), "not stale yet");
    for (second, count) in [(131, 1), (140, 0)] {
        let (points, error) = poll(&mut rig, second);
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Retry);
        assert!(error.to_string().contains("does the host's agent run?"), "{error}");
        assert!(of(&points, "hw.energy").is_empty());
        assert_eq!(of(&points, "wattrace.host_share.age")[0].value, (second - 100) as f64);
        let anomalies = of(&points, "wattrace.host_share.anomalies");
        assert_eq!(anomalies.len(), count, "counted once");
    }
    // Half a message, then none, then a whole one: no energy is lost.
    fs::write(&path, &line(150, "measured")[..60]).unwrap();
    let (points, error) = poll(&mut rig, 151);
    assert_eq!(error.unwrap().kind(), ErrorKind::Retry);
    let anomalies = of(&points, "wattrace.host_share.anomalies");
    assert_eq!(anomalies[0].series.attributes[0], Attribute::new("wattrace.anomaly", "bad_reading"));
    fs::remove_file(&path).unwrap();
    assert_eq!(poll(&mut rig, 152).1.unwrap().kind(), ErrorKind::Retry);
    fs::write(&path, line(160, "measured")).unwrap();
    let (points, error) = poll(&mut rig, 161);
    assert!(error.is_none());
    let energy = of(&points, "hw.energy");
    assert_eq!(energy[0].value, 600.0);
    assert_eq!(energy[0].window, Window::new(Timestamp(100 * SECOND), Timestamp(160 * SECOND)));
}

#[test]
fn energy_of_a_simulated_meter_of_the_host_is_simulated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("share.json");
    fs::write(&path, line(100, "simulated")).unwrap();
    let mut rig = started(&path).unwrap();
    assert_eq!(rig.registry.domains()[0].origin, Origin::Simulated);
    fs::write(&path, line(101, "measured")).unwrap();
    assert_eq!(poll(&mut rig, 101).1.unwrap().kind(), ErrorKind::Fatal, "the label would be wrong");
}

#[test]
fn without_a_message_the_source_is_gone_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("share.json");
    let error = started(&path).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("plugins.guest-share"), "{error}");
    let config = HostShareConfig { path: path.clone(), ..HostShareConfig::default() };
    assert_eq!(HostShare::diagnose(&config)[0].verdict, Verdict::Missing);
    fs::write(&path, line(1, "measured")).unwrap();
    assert_eq!(HostShare::diagnose(&config)[0].found, "it is about the machine web");
    fs::write(&path, "[]").unwrap();
    assert_eq!(started(&path).err().unwrap().kind(), ErrorKind::Fatal);
}

#[test]
fn invalid_configurations_are_refused() {
    let milli = Duration::from_millis;
    for (config, key) in [
        (HostShareConfig { path: PathBuf::new(), ..HostShareConfig::default() }, "host-share.path"),
        (HostShareConfig { interval: milli(9), ..HostShareConfig::default() }, "host-share.interval"),
        (
            HostShareConfig { stale_after: milli(1999), ..HostShareConfig::default() },
            "host-share.stale_after",
        ),
    ] {
        let error = Rig::new().start::<HostShare>(config).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
