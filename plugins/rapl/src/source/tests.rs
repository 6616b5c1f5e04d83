//! The source on trees whose truth is known, with a clock that the tests turn.

use std::fs;

use tempfile::TempDir;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{ErrorKind, Origin};

use super::*;
use crate::config::Interface;
use crate::simulate::{Tree, Zone, perf_clock};
use crate::{Rapl, simulate};

const SECOND: u64 = 1_000_000_000;

struct Bench {
    root: TempDir,
    rig: Rig,
    tree: Tree,
}

impl Bench {
    fn new(zones: Vec<Zone>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::create(root.path(), zones).unwrap();
        let mut rig = Rig::new();
        rig.start::<Rapl>(config(root.path(), Interface::Powercap)).unwrap();
        Self { root, rig, tree }
    }

    fn energy(&self, zone: &str) -> std::path::PathBuf {
        self.root.path().join("class/powercap").join(zone).join("energy_uj")
    }

    /// Turns tree and clock to `nanos`, and reads.
    fn at(&mut self, nanos: u64) -> Vec<Point> {
        self.tree.write(Duration::from_nanos(nanos)).unwrap();
        self.poll(nanos)
    }

    fn poll(&mut self, nanos: u64) -> Vec<Point> {
        let batch = self.rig.tick(Timestamp(nanos)).unwrap();
        self.rig.points(&batch)
    }
}

fn config(root: &Path, interface: Interface) -> RaplConfig {
    RaplConfig { sysfs_root: root.to_str().unwrap().to_owned(), interface, ..RaplConfig::default() }
}

fn shown(points: &[Point]) -> Vec<String> {
    let one = |p: &Point| {
        let about = p.series.all_attributes();
        let find =
            |key: &str| about.iter().find(|a| a.key == key).map(|a| a.value.to_string()).unwrap_or_default();
        format!("{} {}{} = {}", p.metric, find("wattrace.domain"), find("wattrace.anomaly"), p.steps)
    };
    points.iter().map(one).collect()
}

#[test]
fn each_domain_has_its_window_and_its_exact_joules() {
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
            assert_eq!(point.window, Window::new(Timestamp(from), Timestamp(to)));
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
    // 10 J at 40 W: a wrap each 250 ms, read every 90 ms.
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
fn a_bad_reading_leaves_its_window_to_the_next_good_one_and_spares_the_neighbours() {
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
    assert_eq!(points[0].window, Window::new(Timestamp(SECOND), Timestamp(6 * SECOND)));
    assert_eq!(points[1].window, Window::new(Timestamp(5 * SECOND), Timestamp(6 * SECOND)));
}

#[test]
fn a_counter_whose_first_reading_is_bad_counts_from_its_first_good_one() {
    let root = tempfile::tempdir().unwrap();
    let tree = Tree::create(root.path(), vec![Zone::new("intel-rapl:0", "package-0", 10.0)]).unwrap();
    let path = root.path().join("class/powercap/intel-rapl:0/energy_uj");
    fs::write(&path, "").unwrap();
    let mut rig = Rig::new();
    rig.start::<Rapl>(config(root.path(), Interface::Auto)).unwrap();
    let mut bench = Bench { root, rig, tree };
    assert!(bench.at(5 * SECOND).is_empty());
    let points = bench.at(6 * SECOND);
    assert_eq!(shown(&points), ["hw.energy package-0 = 10000000"]);
    assert_eq!(points[0].window, Window::new(Timestamp(5 * SECOND), Timestamp(6 * SECOND)));
}

#[test]
fn a_reset_claims_no_joules_and_the_next_window_begins_there() {
    let mut bench = Bench::new(vec![Zone::new("intel-rapl:0", "package-0", 10.0).starting_at(5_000_000)]);
    bench.at(SECOND);
    fs::write(bench.energy("intel-rapl:0"), "00000000000000000100\n").unwrap();
    assert_eq!(shown(&bench.poll(2 * SECOND)), ["wattrace.rapl.anomalies package-0reset = 1"]);
    fs::write(bench.energy("intel-rapl:0"), "00000000000000000350\n").unwrap();
    let points = bench.poll(3 * SECOND);
    assert_eq!(shown(&points), ["hw.energy package-0 = 10000250"]);
    assert_eq!(points[0].window, Window::new(Timestamp(2 * SECOND), Timestamp(3 * SECOND)));
}

#[test]
fn one_that_vanishes_is_retried_and_only_when_all_are_gone_the_source_ends() {
    let mut bench = Bench::new(vec![
        Zone::new("intel-rapl:0", "package-0", 10.0),
        Zone::new("intel-rapl:1", "package-1", 10.0),
    ]);
    let first = bench.at(SECOND);
    let zone = bench.energy("intel-rapl:0");
    let parked = bench.root.path().join("parked");
    // Parked as a copy, so that the tree's own file is the one that comes back at the end of the test.
    fs::copy(&zone, &parked).unwrap();
    fs::remove_file(&zone).unwrap();
    let points = bench.poll(2 * SECOND);
    let expected = ["wattrace.rapl.anomalies package-0bad_reading = 1", "hw.energy package-1 = 10000000"];
    assert_eq!(shown(&points), expected);
    fs::write(&parked, "30000000\n").unwrap();
    fs::rename(&parked, &zone).unwrap();
    let back = bench.poll(3 * SECOND);
    assert_eq!((back[0].steps, back[0].window.start), (30_000_000, Timestamp(SECOND)));

    fs::remove_dir_all(bench.root.path().join("class")).unwrap();
    bench.rig.clock.set(Timestamp(4 * SECOND));
    let mut batch = Batch::default();
    let tick = Tick { scheduled: Timestamp(4 * SECOND), missed: 0, last: false };
    let error = bench.rig.sources[0].1.poll(&tick, &mut batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("modprobe"), "{error}");
    for point in &first {
        assert!(batch.ended().contains(&point.id));
    }
}

#[test]
fn a_tick_at_the_time_of_the_last_reading_says_nothing() {
    let mut bench = Bench::new(vec![Zone::new("intel-rapl:0", "package-0", 10.0)]);
    bench.at(SECOND);
    assert!(bench.poll(SECOND).is_empty());
}

/// The kernel's `cpu-clock` behind a PMU tree: a true perf counter, of a rate that the clock knows.
#[test]
fn perf_s_joules_follow_the_clock() {
    const WATTS: u32 = 25;
    let root = tempfile::tempdir().unwrap();
    perf_clock(root.path(), WATTS).unwrap();
    let mut rig = Rig::new();
    rig.clock = Clock::system();
    let before_first = rig.clock.now();
    match rig.start::<Rapl>(config(root.path(), Interface::Auto)) {
        Err(e) if e.to_string().contains("cap_perfmon") => {
            eprintln!("not run: this user may not open perf counters");
            return;
        }
        opened => opened.unwrap(),
    }
    let after_first = rig.clock.now();
    let deadline = after_first + Duration::from_millis(100);
    let (mut microjoules, mut before_last) = (0, after_first);
    while before_last < deadline {
        before_last = rig.clock.now();
        let batch = rig.tick(Timestamp(0)).unwrap();
        for point in rig.points(&batch) {
            assert_eq!(point.series.domain.as_ref().unwrap().origin, Origin::Simulated);
            microjoules = point.steps;
        }
    }
    // Nanoseconds times watts are nanojoules. However long anything was held up, the span between the first and the last
    // reading lies between these two; a thousandth is for the two clocks' rates.
    let used = |from: Timestamp, to: Timestamp| (to.0 - from.0) * u64::from(WATTS) / 1_000;
    let least = used(after_first, before_last) / 1_000 * 999;
    let most = used(before_first, rig.clock.now()) / 1_000 * 1_001 + 1_000;
    assert!((least..=most).contains(&microjoules), "{least} <= {microjoules} <= {most} µJ");
}

#[test]
fn auto_takes_powercap_where_perf_cannot_be_opened() {
    let root = tempfile::tempdir().unwrap();
    perf_clock(root.path(), 25).unwrap();
    // A number that no PMU has.
    fs::write(root.path().join("bus/event_source/devices/power/type"), "987654\n").unwrap();
    let _tree =
        simulate::Tree::create(root.path(), vec![Zone::new("intel-rapl:0", "package-0", 1.0)]).unwrap();
    let mut rig = Rig::new();
    rig.start::<Rapl>(config(root.path(), Interface::Auto)).unwrap();
    assert_eq!(rig.registry.domains().len(), 1);
    let refused = rig.start::<Rapl>(config(root.path(), Interface::Perf)).unwrap_err().to_string();
    assert!(refused.contains("energy-pkg on CPU 0"), "{refused}");
}
