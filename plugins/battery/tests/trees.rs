//! The plugin on simulated trees of power supplies.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{ErrorKind, Plugin, Resource, Timestamp, Verdict, Window};
use wattrace_battery::{Battery, BatteryConfig, Method};

const SECOND: u64 = 1_000_000_000;

/// A simulated `/sys` with the power supplies of a laptop.
struct Laptop(TempDir);

impl Laptop {
    /// It runs on its only battery.
    fn new(files: &[(&str, &str)]) -> Self {
        let laptop = Self(tempfile::tempdir().unwrap());
        laptop.supply("AC", &[("type", "Mains"), ("online", "0")]);
        laptop.supply("BAT0", &[("type", "Battery"), ("present", "1"), ("status", "Discharging")]);
        laptop.supply("BAT0", files);
        laptop.supply(
            "hidpp_battery_0",
            &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging")],
        );
        laptop
    }

    fn path(&self, supply: &str) -> PathBuf {
        self.0.path().join("class/power_supply").join(supply)
    }

    fn supply(&self, supply: &str, files: &[(&str, &str)]) {
        fs::create_dir_all(self.path(supply)).unwrap();
        for (file, text) in files {
            fs::write(self.path(supply).join(file), format!("{text}\n")).unwrap();
        }
    }

    fn config(&self, method: Method) -> BatteryConfig {
        let sysfs_root = self.0.path().to_str().unwrap().to_owned();
        BatteryConfig { sysfs_root, method, ..BatteryConfig::default() }
    }

    fn rig(&self, method: Method) -> Rig {
        let mut rig = Rig::new();
        rig.start::<Battery>(self.config(method)).unwrap();
        rig
    }
}

fn at(rig: &mut Rig, second: u64) -> Vec<Point> {
    let batch = rig.tick(Timestamp(second * SECOND)).unwrap();
    rig.points(&batch)
}

/// `energy = microjoules [from, to]` in seconds, or `anomaly = count [from, to]`.
fn shown(points: &[Point]) -> Vec<String> {
    let show = |p: &Point| {
        let anomaly = p.series.attributes.iter().find(|a| a.key == "wattrace.anomaly");
        let what = anomaly.map_or("energy".to_owned(), |a| a.value.to_string());
        format!("{what} = {} [{}, {}]", p.steps, p.window.start.0 / SECOND, p.window.end.0 / SECOND)
    };
    points.iter().map(show).collect()
}

#[test]
fn power_is_integrated_while_the_machine_runs_on_battery_alone() {
    let laptop = Laptop::new(&[("power_now", "10000000"), ("energy_now", "40000000")]);
    let mut rig = laptop.rig(Method::Auto);
    laptop.supply("BAT0", &[("power_now", "-20000000")]);
    let points = at(&mut rig, 5);
    assert_eq!(shown(&points), ["energy = 75000000 [0, 5]"]);
    let series = &points[0].series;
    assert_eq!((&*series.metric.name, &series.resource), ("hw.host.energy", &Resource::HOST));

    laptop.supply("AC", &[("online", "1")]);
    laptop.supply("BAT0", &[("status", "Charging"), ("power_now", "45000000")]);
    assert!(at(&mut rig, 10).is_empty());
    // The charger is too weak: the battery discharges as well, but does not measure all of the power.
    laptop.supply("BAT0", &[("status", "Discharging")]);
    assert!(at(&mut rig, 15).is_empty());
    laptop.supply("AC", &[("online", "0")]);
    laptop.supply("BAT0", &[("power_now", "20000000")]);
    assert_eq!(shown(&at(&mut rig, 20)), ["gap = 1 [5, 20]"]);
    assert_eq!(shown(&at(&mut rig, 25)), ["energy = 175000000 [20, 25]"]);
}

#[test]
fn current_times_voltage_is_read_if_there_is_no_power_and_two_batteries_are_added() {
    let laptop = Laptop::new(&[("current_now", "1500000"), ("voltage_now", "12000000")]);
    laptop.supply("BAT1", &[("type", "Battery"), ("status", "Unknown"), ("power_now", "0")]);
    let mut rig = laptop.rig(Method::Auto);
    assert_eq!(shown(&at(&mut rig, 5)), ["energy = 90000000 [0, 5]"]);
    laptop.supply("BAT1", &[("status", "Discharging"), ("power_now", "2000000")]);
    // 18 W, then 20 W.
    assert_eq!(shown(&at(&mut rig, 10)), ["energy = 185000000 [5, 10]"]);
}

#[test]
fn a_power_of_zero_or_nonsense_is_a_bad_reading() {
    let laptop = Laptop::new(&[("power_now", "10000000")]);
    let mut rig = laptop.rig(Method::Auto);
    for (nth, bad) in ["0", "", "garbage", "99999999999999999999999"].into_iter().enumerate() {
        laptop.supply("BAT0", &[("power_now", bad)]);
        let nth = nth as u64 + 1;
        assert_eq!(shown(&at(&mut rig, nth * 5)), [format!("bad_reading = {nth} [0, {}]", nth * 5)]);
    }
    laptop.supply("BAT0", &[("power_now", "10000000")]);
    assert_eq!(shown(&at(&mut rig, 25)), ["energy = 250000000 [0, 25]"]);
}

#[test]
fn levels_fall_in_steps_and_the_window_of_a_step_begins_at_the_step_before() {
    let laptop = Laptop::new(&[("energy_now", "40000000")]);
    let mut rig = laptop.rig(Method::Auto);
    assert!(at(&mut rig, 5).is_empty());
    laptop.supply("BAT0", &[("energy_now", "39990000")]);
    assert_eq!(shown(&at(&mut rig, 10)), ["energy = 36000000 [0, 10]"]);
    assert!(at(&mut rig, 15).is_empty());
    laptop.supply("BAT0", &[("energy_now", "39970000")]);
    assert_eq!(shown(&at(&mut rig, 20)), ["energy = 108000000 [10, 20]"]);
    // The gauge corrects itself upwards; then it jumps, as after a suspend. Neither is energy of the machine.
    laptop.supply("BAT0", &[("energy_now", "41000000")]);
    assert_eq!(shown(&at(&mut rig, 25)), ["gap = 1 [20, 25]"]);
    laptop.supply("BAT0", &[("energy_now", "20000000")]);
    assert_eq!(shown(&at(&mut rig, 30)), ["gap = 2 [25, 30]"]);
    laptop.supply("BAT0", &[("energy_now", "19990000")]);
    assert_eq!(shown(&at(&mut rig, 35)), ["energy = 144000000 [30, 35]"]);
}

#[test]
fn a_level_in_ampere_hours_is_multiplied_by_the_mean_voltage() {
    let laptop = Laptop::new(&[("charge_now", "3000000"), ("voltage_now", "12000000")]);
    let mut rig = laptop.rig(Method::Level);
    laptop.supply("BAT0", &[("charge_now", "2999000"), ("voltage_now", "11800000")]);
    assert_eq!(shown(&at(&mut rig, 30)), ["energy = 42840000 [0, 30]"]);
}

#[test]
fn metering_begins_when_a_machine_that_started_on_mains_is_unplugged() {
    let laptop = Laptop::new(&[("power_now", "0"), ("status", "Full")]);
    laptop.supply("AC", &[("online", "1")]);
    let mut rig = laptop.rig(Method::Auto);
    assert!(at(&mut rig, 5).is_empty());
    assert_eq!(Battery::diagnose(&laptop.config(Method::Auto))[0].verdict, Verdict::Ok);
    laptop.supply("AC", &[("online", "0")]);
    laptop.supply("BAT0", &[("status", "Discharging"), ("power_now", "8000000")]);
    assert!(at(&mut rig, 10).is_empty());
    let points = at(&mut rig, 15);
    assert_eq!(
        (points[0].steps, points[0].window),
        (40_000_000, Window::new(Timestamp(10 * SECOND), Timestamp(15 * SECOND)))
    );
}

#[test]
fn a_usb_port_that_says_online_does_not_feed_a_machine_whose_adapter_is_off() {
    let laptop = Laptop::new(&[("current_now", "-334000"), ("voltage_now", "11200000")]);
    let port = [("type", "USB"), ("online", "1"), ("usb_type", "[C] PD")];
    laptop.supply("tps6598x-source-psy-0-0038", &port);
    let mut rig = laptop.rig(Method::Auto);
    // 11.2 V x 0.334 A.
    assert_eq!(shown(&at(&mut rig, 5)), ["energy = 18704000 [0, 5]"]);
    // While it charges, the port is what feeds it.
    laptop.supply("BAT0", &[("status", "Charging")]);
    assert!(at(&mut rig, 10).is_empty());
    let found = &Battery::diagnose(&laptop.config(Method::Auto))[0];
    assert_eq!((found.verdict, found.remedy.as_str()), (Verdict::Ok, ""));
    assert!(found.found.contains("tps6598x-source-psy-0-0038 is plugged in"), "{}", found.found);
    // A machine without an adapter is fed by its ports.
    laptop.supply("BAT0", &[("status", "Discharging")]);
    fs::remove_dir_all(laptop.path("AC")).unwrap();
    assert!(at(&mut rig, 15).is_empty());
}

#[test]
fn an_adapter_that_says_online_beside_a_battery_that_discharges_is_believed_unless_it_is_ignored() {
    let files = [("current_now", "820000"), ("voltage_now", "15400000"), ("charge_now", "3100000")];
    let laptop = Laptop::new(&files);
    laptop.supply("AC", &[("online", "1")]);
    let mut rig = laptop.rig(Method::Auto);
    laptop.supply("BAT0", &[("charge_now", "3086000")]);
    assert!(at(&mut rig, 60).is_empty());
    // It is said why, and what to do.
    let found = &Battery::diagnose(&laptop.config(Method::Auto))[0];
    assert_eq!(found.verdict, Verdict::Optional);
    assert!(found.found.contains("BAT0 discharges, but AC says that it is plugged in"), "{}", found.found);
    assert!(found.remedy.contains("plugins.battery.ignore = [\"AC\"]"), "{}", found.remedy);

    let ignoring = BatteryConfig { ignore: vec!["AC".to_owned()], ..laptop.config(Method::Auto) };
    let mut rig = Rig::new();
    rig.start::<Battery>(ignoring.clone()).unwrap();
    // 15.4 V x 0.82 A.
    assert_eq!(shown(&at(&mut rig, 5)), ["energy = 63140000 [0, 5]"]);
    assert_eq!(Battery::diagnose(&ignoring)[0].found, "the machine runs on BAT0");
    laptop.supply("BAT0", &[("status", "Charging")]);
    assert!(at(&mut rig, 10).is_empty(), "it is believed while the battery does not discharge");
}

#[test]
fn without_a_battery_the_source_is_gone_with_a_remedy() {
    let laptop = Laptop::new(&[]);
    fs::remove_dir_all(laptop.path("BAT0")).unwrap();
    let error = Rig::new().start::<Battery>(laptop.config(Method::Auto)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("sudo modprobe battery"), "{error}");
    assert_eq!(Battery::diagnose(&laptop.config(Method::Auto))[0].verdict, Verdict::Optional);

    // The battery is removed while the source runs.
    let laptop = Laptop::new(&[("power_now", "1000000")]);
    let mut rig = laptop.rig(Method::Auto);
    laptop.supply("BAT0", &[("present", "0")]);
    assert_eq!(rig.tick(Timestamp(5 * SECOND)).unwrap_err().kind(), ErrorKind::Gone);
}
