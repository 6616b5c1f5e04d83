//! The plugin on simulated trees of resctrl.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;

use tempfile::TempDir;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{
    Domain, ErrorKind, Follows, Origin, Plugin, Resource, SeriesSpec, Timestamp, Verdict, Window, metric,
};
use wattrace_resctrl::{Resctrl, ResctrlConfig};

const SECOND: u64 = 1_000_000_000;

/// A simulated mount.
struct Mount(TempDir);

impl Mount {
    /// With these counters of joules of package 0 and 1 by group.
    fn new(groups: &[(&str, [&str; 2])]) -> Self {
        let mount = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(mount.0.path().join("info/PERF_PKG_MON")).unwrap();
        mount.set(groups);
        mount
    }

    fn set(&self, groups: &[(&str, [&str; 2])]) {
        for (group, joules) in groups {
            for (package, joules) in joules.iter().enumerate() {
                let directory = format!("{group}/mon_data/mon_PERF_PKG_{package:02}");
                let directory = self.0.path().join(directory.trim_start_matches('/'));
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join("core_energy"), format!("{joules}\n")).unwrap();
                fs::write(directory.join("activity"), "0.5\n").unwrap();
            }
        }
    }

    fn config(&self) -> ResctrlConfig {
        ResctrlConfig { root: self.0.path().to_str().unwrap().to_owned(), ..ResctrlConfig::default() }
    }

    fn rig(&self) -> Rig {
        let mut rig = Rig::new();
        rig.start::<Resctrl>(self.config()).unwrap();
        rig
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

fn at(rig: &mut Rig, second: u64) -> Vec<Point> {
    let batch = rig.tick(Timestamp(second * SECOND)).unwrap();
    rig.points(&batch)
}

/// `domain<container = microjoules`, or `anomaly domain kind = count`.
fn shown(points: &[Point]) -> Vec<String> {
    let show = |p: &Point| match &p.series.domain {
        Some(domain) => {
            let within = domain.within.as_ref().map(|w| format!("<{w}")).unwrap_or_default();
            format!("{}{within} = {}", domain.name, p.steps)
        }
        None => {
            let words: Vec<_> = p.series.attributes.iter().map(|a| a.value.to_string()).collect();
            format!("anomaly {} = {}", words.join(" "), p.steps)
        }
    };
    points.iter().map(show).collect()
}

#[test]
fn each_package_has_its_cores_within_it() {
    let mount = Mount::new(&[("", ["12345.678901", "0.02203"])]);
    let mut rig = mount.rig();
    mount.set(&[("", ["12395.678902", "0.52203"])]);
    let points = at(&mut rig, 2);
    assert_eq!(shown(&points), ["core-0<package-0 = 50000001", "core-1<package-1 = 500000"]);
    let domain = points[1].series.domain.as_ref().unwrap();
    assert_eq!((domain.origin, domain.follows.clone()), (Origin::Simulated, Follows::Package(1)));
    assert_eq!(
        (&*points[1].metric, points[1].window),
        ("hw.energy", Window::new(Timestamp(0), Timestamp(2 * SECOND)))
    );
}

#[test]
fn groups_are_domains_of_their_own_and_packages_have_each_joule_once() {
    let mount = Mount::new(&[
        ("", ["100", "10"]),
        ("mon_groups/batch", ["40", "0"]),
        ("web", ["50", "5"]),
        ("web/mon_groups/api", ["20", "2"]),
    ]);
    let mut rig = mount.rig();
    mount.set(&[
        ("", ["130", "11"]),
        ("mon_groups/batch", ["60", "0"]),
        ("web", ["57", "9"]),
        ("web/mon_groups/api", ["26", "3"]),
    ]);
    let expected = [
        "core-0<package-0 = 37000000",
        "core-1<package-1 = 5000000",
        "batch-core-0<core-0 = 20000000",
        "batch-core-1<core-1 = 0",
        "web-core-0<core-0 = 7000000",
        "web-core-1<core-1 = 4000000",
        "web-api-core-0<web-core-0 = 6000000",
        "web-api-core-1<web-core-1 = 1000000",
    ];
    assert_eq!(shown(&at(&mut rig, 1)), expected);

    // A group is removed, another one is made of a counter with a past.
    fs::remove_dir_all(mount.0.path().join("mon_groups/batch")).unwrap();
    mount.set(&[("", ["5075", "12"]), ("mon_groups/new", ["5000", "0"])]);
    let points = at(&mut rig, 2);
    // 70 J were the root's own, and are 75 J now.
    assert_eq!(shown(&points)[..2], ["core-0<package-0 = 42000000", "core-1<package-1 = 6000000"]);
    mount.set(&[("", ["5085", "12"]), ("mon_groups/new", ["5008", "0"])]);
    let seen = shown(&at(&mut rig, 3));
    assert!(seen.contains(&"new-core-0<core-0 = 8000000".to_owned()), "{seen:?}");
    assert_eq!(seen[0], "core-0<package-0 = 52000000");
    assert!(!seen.iter().any(|line| line.starts_with("batch")), "{seen:?}");
}

#[test]
fn a_groups_energy_is_that_of_its_tasks_as_they_come_and_go() {
    let mount = Mount::new(&[("", ["100", "10"]), ("web", ["50", "5"])]);
    let (mut one, mut two) = (sleeper(), sleeper());
    let tasks = mount.0.path().join("web/tasks");
    fs::write(&tasks, format!("{}\n", one.id())).unwrap();
    let mut rig = mount.rig();
    let members = |rig: &mut Rig, second: u64| {
        let points = at(rig, second);
        let domain = |p: &&Point| p.series.domain.as_ref().is_some_and(|d| d.name == "web-core-1");
        let domain = points.iter().find(domain).unwrap().series.domain.clone().unwrap();
        assert_eq!(domain.idle_microwatts, Some(0), "only what its tasks use is counted");
        let Follows::Members(1, members) = &domain.follows else { panic!("{:?}", domain.follows) };
        let now = Timestamp(second * SECOND);
        let during = members.during(Window::new(now, Timestamp(now.0 + 1)));
        [&one, &two].map(|process| during.part((process.id(), 0)))
    };
    assert_eq!(members(&mut rig, 1), [1.0, 0.0]);
    fs::write(&tasks, format!("{}\n", two.id())).unwrap();
    assert_eq!(members(&mut rig, 2), [0.0, 1.0]);
    for process in [&mut one, &mut two] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

#[test]
fn a_counter_that_is_unavailable_is_in_the_next_reading() {
    let mount = Mount::new(&[("", ["100", "10"])]);
    let mut rig = mount.rig();
    mount.set(&[("", ["Unavailable", "11"])]);
    let seen = shown(&at(&mut rig, 1));
    assert!(seen.contains(&"anomaly core-0 bad_reading = 1".to_owned()), "{seen:?}");
    mount.set(&[("", ["130", "12"])]);
    let points = at(&mut rig, 2);
    assert_eq!(shown(&points), ["core-0<package-0 = 30000000", "core-1<package-1 = 2000000"]);
    assert_eq!([0, 1].map(|n| points[n].window.start.0 / SECOND), [0, 1], "it covers both windows");
}

#[test]
fn cores_that_rapl_meters_too_keep_their_name() {
    let mount = Mount::new(&[("", ["1", "1"])]);
    let mut rig = Rig::new();
    let (name, follows) = ("core-0".to_owned(), Follows::Package(0));
    let within = Some("package-0".to_owned());
    let domain = Domain { name, origin: Origin::Measured, follows, within, idle_microwatts: None };
    let metric = rig.registry.metric(&metric::HW_ENERGY).unwrap();
    let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(0));
    rig.registry.open(SeriesSpec { domain: Some(Arc::new(domain)), ..spec });
    rig.start::<Resctrl>(mount.config()).unwrap();
    let seen = shown(&at(&mut rig, 1));
    assert_eq!(seen, ["core-0-resctrl<package-0 = 0", "core-1<package-1 = 0"]);
}

#[test]
fn without_counters_or_if_they_cannot_be_read_there_is_no_meter_and_a_remedy() {
    let refused = |mount: &Mount| {
        let error = Rig::new().start::<Resctrl>(mount.config()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gone);
        error.to_string()
    };
    let mount = Mount::new(&[]);
    assert!(refused(&mount).contains("mount -t resctrl"));
    assert!(Resctrl::diagnose(&mount.config()).is_empty());
    mount.set(&[("", ["Error", "1"])]);
    assert!(refused(&mount).contains("core_energy: is not an energy in joules: \"Error\""));
    let counter = mount.0.path().join("mon_data/mon_PERF_PKG_00/core_energy");
    fs::remove_file(&counter).unwrap();
    fs::create_dir(&counter).unwrap();
    assert!(refused(&mount).contains("it is a directory"));
    fs::remove_dir(&counter).unwrap();
    mount.set(&[("", ["1", "1"])]);
    assert_eq!(Resctrl::diagnose(&mount.config())[0].verdict, Verdict::Ok);
    // It is unmounted.
    let mut rig = mount.rig();
    fs::remove_dir_all(mount.0.path().join("mon_data")).unwrap();
    assert_eq!(rig.tick(Timestamp(SECOND)).unwrap_err().kind(), ErrorKind::Gone);
}
