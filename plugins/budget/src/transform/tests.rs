//! The plugin on a hierarchy of ordinary files.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use wattrace_api::{Consumer, metric};
use wattrace_transform_testing::{Fixture, SECOND, seconds};

use super::*;
use crate::Budget;

const PATH: &str = "/system.slice/backup.service";

/// A hierarchy with one cgroup, which may use as many CPUs as there are.
fn hierarchy() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(&PATH[1..]);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("cgroup.procs"), "").unwrap();
    fs::write(dir.join("cpu.max"), "max 100000\n").unwrap();
    root
}

fn cpu_max(root: &Path) -> String {
    fs::read_to_string(root.join(&PATH[1..]).join("cpu.max")).unwrap().trim().to_owned()
}

fn limited(root: &Path, action: Action) -> Fixture {
    let limit = LimitConfig { unit: "backup.service".into(), watts: 5.0, action, ..LimitConfig::default() };
    Fixture::of::<Budget>(BudgetConfig { limits: vec![limit], cgroup_root: root.to_owned() })
}

/// A process in the cgroup `path`, and its series of energy and CPU time.
fn process(fixture: &Fixture, path: &str) -> (Arc<Consumer>, [SeriesId; 2]) {
    let process = fixture.process(7, "tar");
    process.update(vec![Attribute::new("process.linux.cgroup", path)]);
    let energy = fixture.energy(Some(&process));
    let (time, package) = (&metric::CONSUMER_CPU_TIME, Resource::package(0));
    let time = fixture.open(time, package, None, Some(process.clone()));
    (process, [energy, time])
}

/// Passes what a process with `series` has used until `second`: whole CPUs of 20 W each.
fn pass(fixture: &mut Fixture, [energy, time]: [SeriesId; 2], second: u64, cpu_seconds: f64) -> Vec<f64> {
    let ns = (cpu_seconds * SECOND as f64) as u64;
    let points = [(energy, ns / 1000 * 20), (time, ns)];
    let batch = fixture.rig.batch(seconds(second - 1, second), &points);
    let batch = fixture.rig.pass(batch).unwrap();
    let points = fixture.rig.points(&batch).into_iter();
    points.filter(|p| p.metric.starts_with("wattrace.budget")).map(|p| p.value).collect()
}

#[test]
fn a_unit_above_its_limit_is_slowed_down_and_set_free_in_the_end() {
    let root = hierarchy();
    let mut fixture = limited(root.path(), Action::Throttle);
    let (_process, series) = process(&fixture, PATH);
    assert_eq!(pass(&mut fixture, series, 1, 1.0), [50.0, 0.0], "the first window begins the allowance");
    assert_eq!(cpu_max(root.path()), "max 100000");
    // 50 J, 5 more, and 20 used: 35 J are left, so 5 + 3.5 W, of 20 W a CPU.
    assert_eq!(pass(&mut fixture, series, 2, 2.0), [35.0, 0.0]);
    assert_eq!(cpu_max(root.path()), "42500 100000");
    assert_eq!(pass(&mut fixture, series, 3, 5.0), [-20.0, 1.0]);
    assert_eq!(cpu_max(root.path()), "15000 100000", "5 − 2 W");
    drop(fixture);
    assert_eq!(cpu_max(root.path()), "max 100000");
}

#[test]
fn what_others_use_does_not_count() {
    let root = hierarchy();
    let mut fixture = limited(root.path(), Action::Throttle);
    let (process, series) = process(&fixture, "/system.slice/other.service");
    for second in 1..5 {
        assert_eq!(pass(&mut fixture, series, second, 4.0 * second as f64), [50.0, 0.0]);
    }
    // It moves into the unit: what it used before is not the unit's.
    process.update(vec![Attribute::new("process.linux.cgroup", PATH)]);
    assert_eq!(pass(&mut fixture, series, 5, 17.0), [35.0, 0.0]);
}

#[test]
fn a_limit_that_only_reports_touches_nothing_and_counts_each_time() {
    let root = hierarchy();
    let mut fixture = limited(root.path(), Action::Notify);
    let (_process, series) = process(&fixture, PATH);
    let mut counts = Vec::new();
    // 5 J too much; nothing for 10 s; and 30 J too much.
    for (second, cpu_seconds) in [(1, 1.0), (2, 4.0), (3, 4.0), (12, 4.0), (13, 8.0)] {
        counts.push(pass(&mut fixture, series, second, cpu_seconds)[1]);
    }
    assert_eq!(counts, [0.0, 1.0, 1.0, 1.0, 2.0]);
    assert_eq!(cpu_max(root.path()), "max 100000");
}

#[test]
fn a_unit_that_is_to_be_stopped_is_killed_when_it_does_not_end() {
    let root = hierarchy();
    let kill = root.path().join(&PATH[1..]).join("cgroup.kill");
    fs::write(&kill, "").unwrap();
    let mut fixture = limited(root.path(), Action::Stop);
    let (_process, series) = process(&fixture, PATH);
    for (second, killed) in [(1, ""), (2, ""), (3, ""), (11, ""), (12, "1")] {
        pass(&mut fixture, series, second, 10.0 * second as f64);
        assert_eq!(fs::read_to_string(&kill).unwrap(), killed, "at {second} s");
    }
}

#[test]
fn of_two_units_with_one_name_the_first_that_runs_is_limited() {
    let root = hierarchy();
    let mut fixture = limited(root.path(), Action::Notify);
    let (_first, series) = process(&fixture, PATH);
    assert_eq!(pass(&mut fixture, series, 1, 0.5), [50.0, 0.0]);
    let (_second, others) = process(&fixture, "/user.slice/backup.service");
    assert_eq!(pass(&mut fixture, others, 2, 9.0), [50.0, 0.0]);
    assert_eq!(pass(&mut fixture, series, 3, 1.5), [35.0, 0.0], "20 J of 50 J, and 5 J more");
}
