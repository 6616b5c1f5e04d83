//! The source on simulated trees, with a clock that the tests set.

use std::fs;

use tempfile::TempDir;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{ErrorKind, Kind, Origin};
use wattrace_meter::sysfs::Fault;
use wattrace_meter::{Period, Scale};
use wattrace_rapl_simulator::{Tree, Zone, cpus, perf_clock};

use super::*;
use crate::meter::{Continuity, CounterGroup, Meter};
use crate::{Rapl, domain, profile};

mod interfaces;

const SECOND: u64 = 1_000_000_000;

/// The window between readings at `from` and `to`, ns: what a reading shows is half a refresh old.
fn window(from: u64, to: u64) -> Window {
    Window::new(Timestamp(from) - AGE, Timestamp(to) - AGE)
}

pub(super) struct Bench {
    root: TempDir,
    pub(super) rig: Rig,
    tree: Tree,
}

impl Bench {
    pub(super) fn new(zones: Vec<Zone>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::create(root.path(), zones).unwrap();
        let mut rig = Rig::new();
        rig.start::<Rapl>(config(root.path(), Interface::Powercap)).unwrap();
        Self { root, rig, tree }
    }

    fn energy(&self, zone: &str) -> std::path::PathBuf {
        self.root.path().join("class/powercap").join(zone).join("energy_uj")
    }

    /// Sets the tree and the clock to `nanos`, and polls.
    pub(super) fn at(&mut self, nanos: u64) -> Vec<Point> {
        self.tree.write(Duration::from_nanos(nanos)).unwrap();
        self.poll(nanos)
    }

    fn poll(&mut self, nanos: u64) -> Vec<Point> {
        let batch = self.rig.tick(Timestamp(nanos)).unwrap();
        self.rig.points(&batch)
    }
}

fn config(root: &Path, interface: Interface) -> RaplConfig {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (sysfs_root, dev_root) = (path(root), path(&root.join("dev")));
    RaplConfig { sysfs_root, dev_root, interface, ..RaplConfig::default() }
}

fn shown(points: &[Point]) -> Vec<String> {
    let one = |p: &Point| {
        let about = p.series.all_attributes();
        let find =
            |key: &str| about.iter().find(|a| a.key == key).map(|a| a.value.to_string()).unwrap_or_default();
        let value =
            if p.series.metric.kind == Kind::Counter { p.steps.to_string() } else { p.value.to_string() };
        let what = ["wattrace.domain", "wattrace.anomaly", "wattrace.state"].map(find).concat();
        format!("{} {what} = {value}", p.metric)
    };
    points.iter().map(one).collect()
}

#[test]
fn each_domain_has_its_window_and_its_exact_energy() {
    let mut bench = Bench::new(vec![
        Zone::new("intel-rapl:0", "package-0", 31.4).starting_at(77),
        Zone::new("intel-rapl:0:0", "core", 12.25),
        Zone::new("intel-rapl:1", "psys", 50.0),
    ]);
    let mut from = 0;
    for to in [SECOND, SECOND + 1_234_567, 9 * SECOND] {
        let points = bench.at(to);
        assert_eq!(points.len(), 3);
        for (point, zone) in points.iter().zip(bench.tree.zones()) {
            assert_eq!(point.window, window(from, to));
            assert_eq!(point.steps, zone.used(Duration::from_nanos(to)));
            assert_eq!(point.series.domain.as_ref().unwrap().origin, Origin::Simulated);
        }
        assert_eq!(points[0].metric, "hw.energy");
        assert_eq!(points[2].metric, "hw.host.energy");
        from = to;
    }
}

#[test]
fn wraps_lose_nothing_and_are_counted() {
    let mut bench = Bench::new(vec![Zone::new("intel-rapl:0", "package-0", 40.0).range(9_999_999)]);
    // 10 J at 40 W: a wrap every 250 ms, read every 90 ms.
    let mut last_count = 0;
    for tick in 1..=500_u64 {
        let points = bench.at(tick * 90_000_000);
        assert_eq!(points[0].steps, tick * 3_600_000);
        if let Some(wraps) = points.get(1) {
            assert_eq!((&*wraps.metric, wraps.steps), ("wattrace.rapl.anomalies", last_count + 1));
            last_count = wraps.steps;
        }
    }
    assert_eq!(last_count, 500 * 3_600_000 / 10_000_000);
}

#[test]
fn the_next_good_reading_covers_the_window_of_a_bad_one_and_other_counters_are_not_affected() {
    let zones = vec![
        Zone::new("intel-rapl:0", "package-0", 10.0).range(99_999_999),
        Zone::new("intel-rapl:0:0", "core", 4.0),
    ];
    let mut bench = Bench::new(zones);
    bench.at(SECOND);
    for (nth, bad) in ["", "12", "garbage\n", "100000000\n"].into_iter().enumerate() {
        let nth = nth as u64 + 1;
        let now = (1 + nth) * SECOND;
        bench.tree.write(Duration::from_nanos(now)).unwrap();
        fs::write(bench.energy("intel-rapl:0"), bad).unwrap();
        let expected = [
            format!("wattrace.rapl.anomalies package-0bad_reading = {nth}"),
            format!("hw.energy core-0 = {}", now / SECOND * 4_000_000),
        ];
        assert_eq!(shown(&bench.poll(now)), expected);
    }
    let points = bench.at(6 * SECOND);
    assert_eq!(shown(&points), ["hw.energy package-0 = 60000000", "hw.energy core-0 = 24000000"]);
    assert_eq!(points[0].window, window(SECOND, 6 * SECOND));
    assert_eq!(points[1].window, window(5 * SECOND, 6 * SECOND));
}

#[test]
fn a_counter_that_cannot_be_read_is_no_meter_until_its_first_good_reading() {
    let root = tempfile::tempdir().unwrap();
    let zones =
        vec![Zone::new("intel-rapl:0", "package-0", 10.0), Zone::new("intel-rapl:1", "package-1", 20.0)];
    let tree = Tree::create(root.path(), zones).unwrap();
    fs::write(root.path().join("class/powercap/intel-rapl:0/energy_uj"), "").unwrap();
    let mut rig = Rig::new();
    rig.start::<Rapl>(config(root.path(), Interface::Auto)).unwrap();
    let mut bench = Bench { root, rig, tree };
    let domains =
        |bench: &Bench| bench.rig.registry.domains().iter().map(|d| d.name.clone()).collect::<Vec<_>>();
    assert_eq!(domains(&bench), ["package-1"]);
    assert_eq!(shown(&bench.at(5 * SECOND)), ["hw.energy package-1 = 100000000"]);
    assert_eq!(domains(&bench), ["package-1", "package-0"]);
    let points = bench.at(6 * SECOND);
    assert_eq!(shown(&points), ["hw.energy package-0 = 10000000", "hw.energy package-1 = 120000000"]);
    assert_eq!(points[0].window, window(5 * SECOND, 6 * SECOND));
}

#[test]
fn if_no_counter_can_be_read_there_is_no_meter_and_the_error_names_the_file() {
    let root = tempfile::tempdir().unwrap();
    let zone = root.path().join("class/powercap/intel-rapl:0");
    let energy = zone.join("energy_uj");
    let error = |wanted: &str| {
        for interface in [Interface::Auto, Interface::Powercap] {
            let mut rig = Rig::new();
            let error = rig.start::<Rapl>(config(root.path(), interface)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Gone);
            assert!(error.to_string().contains(energy.to_str().unwrap()), "{error}");
            assert!(error.to_string().contains(wanted), "{error}");
            assert!(rig.registry.domains().is_empty());
        }
    };
    let _tree = Tree::create(root.path(), vec![Zone::new("intel-rapl:0", "package-0", 10.0)]).unwrap();
    for bad in ["", "garbage\n", "-1\n", "999999999999999\n"] {
        fs::write(&energy, bad).unwrap();
        error("shows a counter that it cannot read");
    }
    fs::remove_file(&energy).unwrap();
    fs::create_dir(&energy).unwrap();
    error("it is a directory");
    // Nobody writes to these FIFOs, and nothing waits for them.
    fs::remove_dir(&energy).unwrap();
    for file in ["energy_uj", "max_energy_range_uj", "name"].map(|file| zone.join(file)) {
        _ = fs::remove_file(&file);
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap();
    }
    error("it is a FIFO");
}

#[test]
fn a_reset_adds_no_energy_and_the_next_window_begins_there() {
    let mut bench = Bench::new(vec![Zone::new("intel-rapl:0", "package-0", 10.0).starting_at(5_000_000)]);
    bench.at(SECOND);
    fs::write(bench.energy("intel-rapl:0"), "00000000000000000100\n").unwrap();
    assert_eq!(shown(&bench.poll(2 * SECOND)), ["wattrace.rapl.anomalies package-0reset = 1"]);
    fs::write(bench.energy("intel-rapl:0"), "00000000000000000350\n").unwrap();
    let points = bench.poll(3 * SECOND);
    assert_eq!(shown(&points), ["hw.energy package-0 = 10000250"]);
    assert_eq!(points[0].window, window(2 * SECOND, 3 * SECOND));
}

#[test]
fn a_removed_counter_is_retried_and_the_source_ends_when_all_are_gone() {
    let mut bench = Bench::new(vec![
        Zone::new("intel-rapl:0", "package-0", 10.0),
        Zone::new("intel-rapl:1", "package-1", 10.0),
    ]);
    let first = bench.at(SECOND);
    let zone = bench.energy("intel-rapl:0");
    let parked = bench.root.path().join("parked");
    fs::copy(&zone, &parked).unwrap();
    fs::remove_file(&zone).unwrap();
    let points = bench.poll(2 * SECOND);
    let expected = ["wattrace.rapl.anomalies package-0bad_reading = 1", "hw.energy package-1 = 10000000"];
    assert_eq!(shown(&points), expected);
    fs::write(&parked, "30000000\n").unwrap();
    fs::rename(&parked, &zone).unwrap();
    let back = bench.poll(3 * SECOND);
    assert_eq!((back[0].steps, back[0].window.start), (30_000_000, window(SECOND, SECOND).start));

    fs::remove_dir_all(bench.root.path().join("class")).unwrap();
    bench.rig.clock.set(Timestamp(4 * SECOND));
    let mut batch = Batch::default();
    let tick = Tick::at(Timestamp(4 * SECOND));
    let error = bench.rig.sources[0].1.poll(&tick, &mut batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("modprobe"), "{error}");
    for point in &first {
        assert!(batch.ended().contains(&point.id));
    }
}

#[test]
fn a_tick_at_the_time_of_the_last_reading_gives_no_points() {
    let mut bench = Bench::new(vec![Zone::new("intel-rapl:0", "package-0", 10.0)]);
    bench.at(SECOND);
    assert!(bench.poll(SECOND).is_empty());
}

#[test]
fn a_package_that_stands_still_is_counted_once_until_it_moves_and_a_part_that_may_rest_is_not() {
    let still = |t: Duration| if t < Duration::from_secs(20) { 0 } else { t.as_micros() as u64 };
    let mut bench = Bench::new(vec![
        Zone::new("intel-rapl:0", "package-0", 0.0).along(still),
        Zone::new("intel-rapl:0:0", "uncore", 0.0),
    ]);
    let mut counted = Vec::new();
    for second in 1..=30 {
        let points = bench.at(second * SECOND);
        counted.extend(shown(&points).into_iter().filter(|p| p.contains("anomalies")).map(|p| (second, p)));
    }
    // After five seconds. The first window is half a refresh short, because this clock begins at zero.
    assert_eq!(counted, [(6, "wattrace.rapl.anomalies package-0still = 1".to_owned())]);
}

#[test]
fn a_jump_adds_no_energy() {
    let curve =
        |t: Duration| t.as_micros() as u64 + if t > Duration::from_secs(2) { 20_000_000_000 } else { 0 };
    let mut bench = Bench::new(vec![Zone::new("intel-rapl:0", "package-0", 1.0).along(curve)]);
    assert_eq!(shown(&bench.at(2 * SECOND)), ["hw.energy package-0 = 2000000"]);
    assert_eq!(shown(&bench.at(3 * SECOND)), ["wattrace.rapl.anomalies package-0jump = 1"]);
    let points = bench.at(4 * SECOND);
    assert_eq!(shown(&points), ["hw.energy package-0 = 3000000"]);
    assert_eq!(points[0].window, window(3 * SECOND, 4 * SECOND));
}

#[test]
fn a_reopened_group_continues_and_the_energy_in_between_is_not_counted() {
    struct ScriptedMeter(Vec<(Continuity, u64)>);
    impl Meter for ScriptedMeter {
        fn read(&mut self, readings: &mut [u64]) -> Result<Continuity, Fault> {
            let (continuity, value) = self.0.remove(0);
            readings[0] = value;
            Ok(continuity)
        }
    }
    let script = vec![
        (Continuity::Continued, 5_000_000),
        (Continuity::Continued, 6_000_000),
        (Continuity::Restarted, 100),
        (Continuity::Continued, 1_000_100),
    ];
    let subject = domain::subject("package-0".into(), &domain::Part::Package, None, Origin::Simulated);
    let counters = vec![(subject, profile::counter(Scale::MICROJOULE, Period::Unknown))];
    let (rig, meter) = (Rig::new(), Box::new(ScriptedMeter(script)));
    let mut group = PolledGroup::open(CounterGroup { meter, counters }, &rig.clock);
    group.publish(&rig.registry).unwrap();
    let mut seen = Vec::new();
    for second in 1..=3 {
        rig.clock.set(Timestamp(second * SECOND));
        let mut batch = Batch::default();
        assert!(!group.poll(&rig.clock, &rig.registry, &mut batch).unwrap());
        seen.extend(rig.points(&batch));
    }
    let expected = [
        "hw.energy package-0 = 1000000",
        "wattrace.rapl.anomalies package-0reopened = 1",
        "hw.energy package-0 = 2000000",
    ];
    assert_eq!(shown(&seen), expected);
    assert_eq!(seen[2].window, window(2 * SECOND, 3 * SECOND));
}
