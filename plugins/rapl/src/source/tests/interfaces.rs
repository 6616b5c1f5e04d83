//! Several interfaces to the same counters: which is read, and how disagreements are reported. Also energy
//! filtering.

use wattrace_rapl_simulator::Registers;

use super::*;

/// The kernel's `cpu-clock` behind a simulated PMU: a real perf counter with a known rate.
#[test]
fn perf_energy_follows_the_clock() {
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
    // Nanoseconds times watts are nanojoules. The span between the first and the last reading lies between
    // these two, however long the thread was preempted. The rates of the two clocks may differ by a
    // thousandth.
    let used = |from: Timestamp, to: Timestamp| (to.0 - from.0) * u64::from(WATTS) / 1_000;
    let least = used(after_first, before_last) / 1_000 * 999;
    let most = used(before_first, rig.clock.now()) / 1_000 * 1_001 + 1_000;
    assert!((least..=most).contains(&microjoules), "{least} <= {microjoules} <= {most} µJ");
}

#[test]
fn auto_selects_powercap_if_perf_cannot_be_opened() {
    let root = tempfile::tempdir().unwrap();
    perf_clock(root.path(), 25).unwrap();
    // A type that no PMU has.
    fs::write(root.path().join("bus/event_source/devices/power/type"), "987654\n").unwrap();
    let _tree = Tree::create(root.path(), vec![Zone::new("intel-rapl:0", "package-0", 1.0)]).unwrap();
    let mut rig = Rig::new();
    rig.start::<Rapl>(config(root.path(), Interface::Auto)).unwrap();
    assert_eq!(rig.registry.domains().len(), 1);
    let refused = rig.start::<Rapl>(config(root.path(), Interface::Perf)).unwrap_err().to_string();
    assert!(refused.contains("energy-pkg on CPU 0"), "{refused}");
}

/// Powercap and registers in one simulated tree.
struct Interfaces {
    root: TempDir,
    tree: Tree,
    registers: Registers,
    rig: Rig,
}

const UNIT: u64 = 1 << 20;

impl Interfaces {
    /// Powercap reports 20 W, and the registers `watts`, from time zero on.
    fn new(interface: Interface, watts: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::create(root.path(), vec![Zone::new("intel-rapl:0", "package-0", 20.0)]).unwrap();
        cpus(root.path(), "cpu:type:x86,ven0000fam0006mod009E:feature:", &[(0, 0, "0")]).unwrap();
        let registers = Registers::create(&root.path().join("dev"), 0).unwrap();
        // ESU 20: a count is a little less than a microjoule, and a watt is a whole number of counts.
        registers.set(0x606, 20 << 8).unwrap();
        registers.set(0x3a, 0).unwrap();
        let mut all = Self { root, tree, registers, rig: Rig::new() };
        all.at(0, watts);
        all.rig.start::<Rapl>(config(all.root.path(), interface)).unwrap();
        all
    }

    fn at(&mut self, nanos: u64, watts: u64) {
        self.tree.write(Duration::from_nanos(nanos)).unwrap();
        self.registers.set(0x611, 1 + nanos * watts / 1_000 * UNIT / 1_000_000).unwrap();
    }

    fn poll(&mut self, nanos: u64, watts: u64) -> (Vec<String>, Vec<Point>, Batch) {
        self.at(nanos, watts);
        let batch = self.rig.tick(Timestamp(nanos)).unwrap();
        let points = self.rig.points(&batch);
        (shown(&points), points, batch)
    }
}

#[test]
fn of_interfaces_that_agree_the_preferred_one_is_read_and_no_energy_is_lost_before_the_comparison() {
    let mut all = Interfaces::new(Interface::Auto, 20);
    // Too early to compare: the next window covers this time.
    assert!(all.poll(SECOND / 100, 20).0.is_empty());
    let (shown, points, _) = all.poll(SECOND, 20);
    assert_eq!(shown, ["wattrace.rapl.filtering off = 1", "hw.energy package-0 = 20000000"]);
    assert_eq!(points[1].window, window(0, SECOND));
    assert_eq!(all.poll(2 * SECOND, 20).0, ["hw.energy package-0 = 40000000"]);
}

#[test]
fn an_interface_that_stands_still_is_replaced_and_its_series_continue_with_the_other_one() {
    let mut all = Interfaces::new(Interface::Auto, 20);
    let before: Vec<_> = all.rig.registry.domains().iter().map(|d| d.name.clone()).collect();
    assert_eq!(before, ["package-0"]);
    // Powercap stands still from now on.
    all.tree = Tree::create(tempfile::tempdir().unwrap().path(), Vec::new()).unwrap();
    let (shown, points, batch) = all.poll(SECOND, 20);
    let expected = [
        "wattrace.rapl.anomalies package-0disagreement = 1",
        "wattrace.rapl.filtering off = 1",
        "hw.energy package-0 = 20000000",
    ];
    assert_eq!(shown, expected);
    assert_eq!(points[2].window, window(0, SECOND));
    assert!(batch.ended().is_empty(), "the series of the first interface continues");
    assert_eq!(all.poll(3 * SECOND, 20).0, ["hw.energy package-0 = 60000000"]);
}

#[test]
fn a_configured_interface_is_read_although_others_disagree() {
    // Even if its counter stands still.
    for watts in [50, 0] {
        let mut all = Interfaces::new(Interface::Msr, watts);
        let (shown, ..) = all.poll(SECOND, watts);
        let expected = [
            "wattrace.rapl.anomalies package-0disagreement = 1".to_owned(),
            "wattrace.rapl.filtering off = 1".to_owned(),
            format!("hw.energy package-0 = {}", watts * 1_000_000),
        ];
        assert_eq!(shown, expected);
    }
}

#[test]
fn the_state_of_energy_filtering_is_published_at_the_first_tick_and_when_it_changes() {
    let mut all = Interfaces::new(Interface::Powercap, 20);
    let flag = |points: Vec<Point>| {
        let flags = points.into_iter().filter(|p| p.metric == "wattrace.rapl.filtering");
        flags.map(|p| (p.series.attributes[0].value.to_string(), p.value)).collect::<Vec<_>>()
    };
    assert_eq!(flag(all.poll(SECOND, 20).1), [("off".to_owned(), 1.0)]);
    all.registers.set(0x10a, 1 << 11).unwrap();
    all.registers.set(0xbc, 1).unwrap();
    assert_eq!(flag(all.poll(2 * SECOND, 20).1), []);
    let (_, points, batch) = all.poll(62 * SECOND, 20);
    assert_eq!((flag(points), batch.ended().len()), (vec![("on".to_owned(), 1.0)], 1));
}
