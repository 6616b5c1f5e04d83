//! The plugin on simulated nodes.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{
    Domain, ErrorKind, Follows, Origin, Plugin, Resource, SeriesSpec, Timestamp, Window, metric,
};
use wattrace_cray::{Cray, CrayConfig};

const SECOND: u64 = 1_000_000_000;
const MICROSECONDS: u64 = 1_733_321_098_123_456;

/// A simulated `/sys` of a node.
struct Node(TempDir);

impl Node {
    /// A node with these counters of joules, read at second 0 of its controller.
    fn new(counters: &[(&str, u64)]) -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(node.path("")).unwrap();
        node.write("generation", &format!("17 {MICROSECONDS} us"));
        node.write("freshness", "4711");
        node.write("power", &format!("451 W {MICROSECONDS} us"));
        node.write("raw_scan_hz", "10");
        counters.iter().for_each(|(file, joules)| node.set(file, *joules, 0));
        node
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join("cray/pm_counters").join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), format!("{text}\n")).unwrap();
    }

    fn set(&self, file: &str, joules: u64, second: u64) {
        self.write(file, &format!("{joules} J {} us", MICROSECONDS + second * 1_000_000));
    }

    fn config(&self) -> CrayConfig {
        CrayConfig { sysfs_root: self.0.path().to_str().unwrap().to_owned(), ..CrayConfig::default() }
    }

    fn rig(&self) -> Rig {
        let mut rig = Rig::new();
        rig.clock.set(Timestamp(10 * SECOND));
        rig.start::<Cray>(self.config()).unwrap();
        rig
    }
}

fn at(rig: &mut Rig, second: u64) -> Vec<Point> {
    let batch = rig.tick(Timestamp((10 + second) * SECOND)).unwrap();
    rig.points(&batch)
}

/// `metric domain<container = joules`, or `anomaly domain kind = count`.
fn shown(points: &[Point]) -> Vec<String> {
    let show = |p: &Point| match &p.series.domain {
        Some(domain) => {
            let within = domain.within.as_ref().map(|w| format!("<{w}")).unwrap_or_default();
            format!("{} {}{within} = {}", p.metric, domain.name, p.value)
        }
        None => {
            let words: Vec<_> = p.series.attributes.iter().map(|a| a.value.to_string()).collect();
            format!("anomaly {} = {}", words.join(" "), p.steps)
        }
    };
    points.iter().map(show).collect()
}

const ALL: [(&str, u64); 4] = [
    ("energy", 2_178_501_771),
    ("cpu_energy", 208_285_642),
    ("memory_energy", 293_871_653),
    ("accel0_energy", 479_512_261),
];

#[test]
fn a_node_and_its_parts_are_counted_in_joules() {
    let node = Node::new(&ALL);
    let mut rig = node.rig();
    for (file, joules) in ALL {
        let used = [("energy", 451), ("cpu_energy", 80), ("memory_energy", 40), ("accel0_energy", 220)];
        let used = used.iter().find(|(name, _)| *name == file).unwrap().1;
        node.set(file, joules + used, 1);
    }
    let points = at(&mut rig, 1);
    let expected = [
        "hw.host.energy cray-node = 451",
        "hw.energy package-0 = 80",
        "hw.energy dram-0 = 40",
        "hw.energy accel-0<host = 220",
    ];
    assert_eq!(shown(&points), expected);
    // What a counter shows is 50 ms old on average.
    let window = Window::new(Timestamp(9_950_000_000), Timestamp(10_950_000_000));
    assert_eq!((points[0].window, &points[0].series.resource), (window, &Resource::HOST));
    assert!(points.iter().all(|p| p.series.domain.as_ref().unwrap().origin == Origin::Simulated));
    assert_eq!(points[1].series.domain.as_ref().unwrap().follows, Follows::Package(0));
}

#[test]
fn a_counter_that_was_not_refreshed_closes_no_window() {
    let node = Node::new(&ALL[..1]);
    let mut rig = node.rig();
    assert!(at(&mut rig, 1).is_empty());
    node.set("energy", ALL[0].1 + 900, 2);
    let points = at(&mut rig, 2);
    assert_eq!(shown(&points), ["hw.host.energy cray-node = 900"]);
    assert_eq!(points[0].window.start, Timestamp(9_950_000_000));
}

#[test]
fn a_new_generation_is_a_reset_and_so_is_a_counter_that_runs_backwards() {
    let node = Node::new(&ALL[..1]);
    let mut rig = node.rig();
    node.set("energy", ALL[0].1 + 451, 1);
    at(&mut rig, 1);
    node.write("generation", &format!("18 {} us", MICROSECONDS + 1_500_000));
    node.set("energy", ALL[0].1 + 900, 2);
    assert_eq!(shown(&at(&mut rig, 2)), ["anomaly cray-node reset = 1"]);
    node.set("energy", ALL[0].1 + 1_000, 3);
    assert_eq!(shown(&at(&mut rig, 3)), ["hw.host.energy cray-node = 551"]);
    node.set("energy", 12, 4);
    assert_eq!(shown(&at(&mut rig, 4)), ["anomaly cray-node reset = 2"]);
    node.set("energy", 112, 5);
    assert_eq!(shown(&at(&mut rig, 5)), ["hw.host.energy cray-node = 651"]);
    node.write("energy", "112 W");
    assert_eq!(shown(&at(&mut rig, 6)), ["anomaly cray-node bad_reading = 1"]);
    // The controller has started again.
    node.write("startup", "1");
    node.set("energy", 500, 7);
    assert_eq!(shown(&at(&mut rig, 7)), ["anomaly cray-node reset = 3"]);
}

#[test]
fn counters_of_each_package_come_before_their_sum() {
    let mut counters = ALL.to_vec();
    counters.extend([("cpu0_energy", 5), ("cpu1_energy", 7), ("accel_energy", 479_512_261)]);
    let node = Node::new(&counters);
    for cpu in 0..2 {
        let topology = node.0.path().join(format!("devices/system/cpu/cpu{cpu}/topology"));
        fs::create_dir_all(&topology).unwrap();
        fs::write(topology.join("physical_package_id"), format!("{cpu}\n")).unwrap();
    }
    let domains = |rig: &Rig| {
        let mut names: Vec<_> = rig.registry.domains().iter().map(|d| d.name.clone()).collect();
        names.sort();
        names
    };
    let each = ["accel-0", "cray-node", "dram-node", "package-0", "package-1"];
    assert_eq!(domains(&node.rig()), each);
    for file in ["cpu0_energy", "cpu1_energy", "accel0_energy"] {
        fs::remove_file(node.path(file)).unwrap();
    }
    assert_eq!(domains(&node.rig()), ["accel", "cray-node", "dram-node", "package-node"]);
}

#[test]
fn packages_are_left_to_rapl_where_it_meters_them() {
    let rapl = |rig: &Rig| {
        let (name, follows) = ("package-0".to_owned(), Follows::Package(0));
        let domain = Domain { name, origin: Origin::Measured, follows, within: None, idle_microwatts: None };
        let metric = rig.registry.metric(&metric::HW_ENERGY).unwrap();
        let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(0));
        rig.registry.open(SeriesSpec { domain: Some(Arc::new(domain)), ..spec });
    };
    let node = Node::new(&ALL);
    let bump = |second: u64| ALL.iter().for_each(|(file, joules)| node.set(file, joules + second, second));
    let expected = ["hw.host.energy cray-node", "hw.energy dram-0", "hw.energy accel-0<host"];
    let names = |points: &[Point]| {
        shown(points).iter().map(|s| s.split_once(" = ").unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    let mut rig = Rig::new();
    rapl(&rig);
    rig.start::<Cray>(node.config()).unwrap();
    bump(1);
    assert_eq!(names(&at(&mut rig, 1)), expected);
    // It may come later.
    let mut rig = node.rig();
    bump(2);
    assert_eq!(names(&at(&mut rig, 2)).len(), 4);
    rapl(&rig);
    bump(3);
    assert_eq!(names(&at(&mut rig, 3)), expected);
}

#[test]
fn what_cannot_be_read_is_no_meter_and_another_machine_has_none() {
    let node = Node::new(&ALL[..2]);
    fs::remove_file(node.path("cpu_energy")).unwrap();
    fs::create_dir(node.path("cpu_energy")).unwrap();
    let rig = node.rig();
    assert_eq!(rig.registry.domains().len(), 1);
    node.write("energy", "no number");
    let error = Rig::new().start::<Cray>(node.config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("pm_counters: "), "{error}");
    fs::remove_dir_all(node.0.path().join("cray")).unwrap();
    let error = Rig::new().start::<Cray>(node.config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("no node of HPE Cray EX"), "{error}");
    assert!(Cray::diagnose(&node.config()).is_empty());
    assert_eq!(Cray::diagnose(&Node::new(&ALL[..1]).config()).len(), 1);
}
