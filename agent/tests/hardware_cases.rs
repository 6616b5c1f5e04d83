//! Real machines' trees of sysfs and texts of `/proc/cpuinfo`, where they are at hand (`../shared/cases`
//! beside the repository): which domains there are, what they measure, and whether packages are estimated.
//! The plugins' own tests have small inputs of the same kinds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how tests fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use wattrace_api::testing::Rig;
use wattrace_api::{Consumer, ConsumerKind, Error, Origin, Resource, SeriesSpec, Timestamp, Window, metric};
use wattrace_battery::{Battery, BatteryConfig};
use wattrace_cray::{Cray, CrayConfig};
use wattrace_estimate::cpuinfo::CpuInfo;
use wattrace_estimate::{Estimate, EstimateConfig};
use wattrace_hwmon::{Hwmon, HwmonConfig};
use wattrace_rapl::{Interface, Rapl, RaplConfig};
use wattrace_topology::{Cpus, Topology};

const SECOND: u64 = 1_000_000_000;

/// The folder of a case; `None`: it is not here.
fn case(id: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases").join(id);
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

/// A copy of a case's `sys`, which may change.
struct Tree(TempDir);

impl Tree {
    fn of(case: &Path) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        copy(&case.join("sys"), tree.0.path());
        tree
    }

    fn start(&self, plugin: &str, rig: &mut Rig) -> Result<(), Error> {
        let sysfs_root = self.0.path().to_str().unwrap().to_owned();
        match plugin {
            "rapl" => {
                let dev_root = format!("{sysfs_root}/dev");
                let interface = Interface::Auto;
                rig.start::<Rapl>(RaplConfig { sysfs_root, dev_root, interface, ..RaplConfig::default() })
            }
            "hwmon" => rig.start::<Hwmon>(HwmonConfig { sysfs_root, ..HwmonConfig::default() }),
            "battery" => rig.start::<Battery>(BatteryConfig { sysfs_root, ..BatteryConfig::default() }),
            _ => rig.start::<Cray>(CrayConfig { sysfs_root, ..CrayConfig::default() }),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// What is known after a run: `domain<container = joules` for each domain, without the number if it has no
/// point; `domain anomaly = count`; `gone: …`; `estimated` if the packages are.
fn run(id: &str, plugin: &str, seconds: u64) -> Option<Vec<String>> {
    let case = case(id)?;
    let tree = Tree::of(&case);
    // The case has the text of /proc/cpuinfo; the plugin reads the same from sysfs.
    if fs::read_to_string(case.join("cpuinfo")).is_ok_and(|text| text.contains("AuthenticAMD")) {
        let alias = "cpu:type:x86,ven0002fam0017mod0031:feature:,0000\n";
        fs::write(tree.0.path().join("devices/system/cpu/modalias"), alias).unwrap();
    }
    let mut rig = Rig::new();
    let mut shown = Vec::new();
    if let Err(e) = tree.start(plugin, &mut rig) {
        shown.push(format!("gone: {e}"));
    }
    rig.start::<Estimate>(EstimateConfig::default()).unwrap();
    let mut seen = BTreeMap::new();
    let mut tick = |now: u64| {
        let batch = rig.tick(Timestamp(now * SECOND)).unwrap();
        for point in rig.points(&batch) {
            let domain = point.series.domain.as_ref().map(|d| d.name.clone());
            let anomaly: Vec<_> = point.series.attributes.iter().map(|a| a.value.to_string()).collect();
            seen.insert(domain.unwrap_or_else(|| anomaly.join(" ")), point.value);
        }
    };
    match fs::read_to_string(case.join("readings.csv")) {
        Ok(readings) => {
            for line in readings.lines().skip(2) {
                let (second, value) = line.split_once(',').unwrap();
                let counter = tree.0.path().join("class/powercap/intel-rapl:0/energy_uj");
                fs::write(counter, format!("{value}\n")).unwrap();
                tick(second.parse().unwrap());
            }
        }
        Err(_) => {
            copy(&case.join("after/sys"), tree.0.path());
            tick(seconds);
        }
    }
    let idle = SeriesSpec {
        consumer: Some(Arc::new(Consumer::closing(ConsumerKind::Idle))),
        ..SeriesSpec::new(
            rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap(),
            Resource::package(0),
            Timestamp(seconds * SECOND),
        )
    };
    let idle = rig.registry.open(idle);
    let window = Window::new(Timestamp(seconds * SECOND), Timestamp((seconds + 1) * SECOND));
    let batch = rig.batch(window, &[(idle, SECOND)]);
    rig.pass(batch).unwrap();
    for domain in rig.registry.domains() {
        let within = domain.within.as_ref().map(|w| format!("<{w}")).unwrap_or_default();
        let joules = seen.remove(&domain.name).map(|joules| format!(" = {joules:.3}")).unwrap_or_default();
        shown.push(match domain.origin {
            Origin::Estimated => "estimated".to_owned(),
            _ => format!("{}{within}{joules}", domain.name),
        });
    }
    let anomalies = seen.iter().filter(|(name, _)| name.contains(' '));
    shown.extend(anomalies.map(|(name, count)| format!("{name} = {count}")));
    shown.sort();
    Some(shown)
}

/// Case, plugin, seconds to the second reading, and what is right.
const CASES: &[(&str, &str, u64, &[&str])] = &[
    ("rapl-amd-core-zone-one-core", "rapl", 1, &["core-cpu-0<package-0 = 0.000", "package-0 = 0.000"]),
    ("rapl-dram-wraps-alone", "rapl", 1, &["dram-0 = 5.000", "dram-0 wrap = 1", "package-0 = 40.000"]),
    ("rapl-dtpm-beside", "rapl", 1, &["package-0 = 0.000"]),
    ("rapl-energy-uj-fails", "rapl", 1, &["estimated", "gone: "]),
    ("rapl-mirrored-dies", "rapl", 10, &["package-0-die-0 = 680.000"]),
    (
        "rapl-mmio-twin-and-psys",
        "rapl",
        1,
        &["core-0<package-0 = 0.840", "package-0 = 3.930", "psys = 9.610", "uncore-0<package-0 = 0.210"],
    ),
    ("rapl-no-powercap-class", "rapl", 1, &["estimated", "gone: "]),
    ("rapl-package-15", "rapl", 1, &["package-0 = 0.000", "package-15 = 0.000", "package-2 = 0.000"]),
    (
        "rapl-two-hosts-in-turn",
        "rapl",
        6,
        &["package-0 = 91.000", "package-0 jump = 1", "package-0 reset = 1"],
    ),
    ("hwmon-acpi-4-29-megawatt", "hwmon", 10, &["estimated", "gone: "]),
    ("hwmon-altra-and-smpro", "hwmon", 10, &["io-power = 185.000", "package-0 = 610.000"]),
    ("hwmon-amd-hsmp", "hwmon", 10, &["package-0 = 1450.000", "package-1 = 1310.000"]),
    ("hwmon-driver-in-milliwatts", "hwmon", 10, &["estimated", "n6000bmc-board-power<host = 0.273"]),
    (
        "hwmon-grace-known-labels",
        "hwmon",
        10,
        &["core-0<package-0 = 530.000", "package-0 = 1040.000", "uncore-0<package-0 = 64.000"],
    ),
    (
        "hwmon-grace-new-labels",
        "hwmon",
        10,
        &[
            "core-0<package-0 = 530.000",
            "dram-0<package-0 = 140.000",
            "package-0 = 1040.000",
            "package-1 = 990.000",
            "uncore-0<package-0 = 310.000",
        ],
    ),
    ("hwmon-orin-nc-channels", "hwmon", 10, &["ina3221-vdd-in = 50.077", "package-0-vdd-cpu-gpu-cv = 6.349"]),
    (
        "hwmon-same-name-one-device",
        "hwmon",
        10,
        &["estimated", "pmbus-psu-pin-1<host = 1180.000", "pmbus-psu-pin<host = 1200.000"],
    ),
    ("hwmon-zenergy", "hwmon", 10, &["package-0 = 0.000"]),
    ("battery-charge-only", "battery", 10, &["battery = 138.600", "estimated"]),
    ("battery-current-fails", "battery", 120, &["battery = 1403.640", "estimated"]),
    ("battery-drains-beside-the-charger", "battery", 10, &["battery", "estimated"]),
    ("battery-negative-current", "battery", 10, &["battery = 120.000", "estimated"]),
    ("battery-of-a-mouse-only", "battery", 10, &["estimated", "gone: no battery"]),
    ("battery-phone-on-the-port", "battery", 60, &["battery", "estimated"]),
    ("battery-usb-c-stays-online", "battery", 10, &["battery = 37.408", "estimated"]),
    ("cray-pm-counters", "cray", 1, &["accel-0<host", "cray-node = 451.000", "dram-0", "package-0"]),
];

#[test]
fn meters_of_real_machines_are_what_they_are_known_to_be() {
    let mut wrong = Vec::new();
    for (id, plugin, seconds, expected) in CASES {
        let Some(shown) = run(id, plugin, *seconds) else { continue };
        let same = |(shown, expected): (&String, &&str)| {
            shown == expected || expected.starts_with("gone: ") && shown.starts_with(expected)
        };
        if shown.len() != expected.len() || !shown.iter().zip(*expected).all(same) {
            wrong.push(format!("{id}: {shown:#?} instead of {expected:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The watts of all packages of the CPU in a text of `/proc/cpuinfo`, idle and with all CPUs busy.
fn watts(cpuinfo: &Path) -> (f64, f64) {
    let packages = CpuInfo::parse(&fs::read_to_string(cpuinfo).unwrap()).packages;
    let mut joules = [0.0; 2];
    for (busy, sum) in [false, true].into_iter().zip(&mut joules) {
        let mut rig = Rig::new();
        let cpuinfo = cpuinfo.to_str().unwrap().to_owned();
        rig.start::<Estimate>(EstimateConfig { cpuinfo, ..EstimateConfig::default() }).unwrap();
        let kind = if busy { ConsumerKind::Process } else { ConsumerKind::Idle };
        let used = (0..packages).map(|package| {
            let metric = rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
            let consumer = Some(Arc::new(Consumer::closing(kind)));
            let spec = SeriesSpec::new(metric, Resource::package(package), Timestamp(0));
            (rig.registry.open(SeriesSpec { consumer, ..spec }), SECOND)
        });
        let used: Vec<_> = used.collect();
        let batch = rig.batch(Window::new(Timestamp(0), Timestamp(SECOND)), &used);
        let batch = rig.pass(batch).unwrap();
        *sum = rig.points(&batch).iter().filter(|p| p.metric == "hw.energy").map(|p| p.value).sum();
    }
    (joules[0], joules[1])
}

#[test]
fn cpus_of_real_machines_have_the_watts_of_their_kind() {
    for (id, cpus, idle, full) in [
        ("cpu-rpi3-32-bit", 4, 4.0 * 0.57, 4.0 * 1.3),
        ("cpu-pi2-0xc07", 4, 4.0 * 0.57, 4.0 * 1.3),
        ("cpu-jetson-armv8-name", 4, 4.0 * 0.57, 4.0 * 1.3),
        ("cpu-rk3588-big-little", 8, 8.0 * 0.57, 8.0 * 1.3),
        ("cpu-xeon-gold-5222", 8, 0.12 * 105.0, 105.0),
        ("cpu-capital-processor", 8, 8.0 * 0.57, 8.0 * 1.3),
        ("cpu-vm-each-its-package", 8, 8.0 * 0.71, 8.0 * 3.54),
    ] {
        let Some(case) = case(id) else { continue };
        let cpuinfo = case.join("cpuinfo");
        assert_eq!(CpuInfo::parse(&fs::read_to_string(&cpuinfo).unwrap()).cpus, cpus, "{id}");
        let found = watts(&cpuinfo);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-4;
        assert!(
            close(found.0, idle) && close(found.1, full),
            "{id}: {found:?} instead of {:?}",
            (idle, full)
        );
    }
}

#[test]
fn cpus_are_counted_by_number_with_holes_and_before_they_come() {
    for (id, possible, online) in [("cpu-online-with-holes", 32, 24), ("cpu-possible-128-online-4", 128, 4)] {
        let Some(case) = case(id) else { continue };
        let sys = case.join("sys");
        let topology = Topology::read(&sys).unwrap();
        let found = Cpus::below(&sys).online().unwrap();
        assert_eq!((topology.package_of.len(), found.len()), (possible, online), "{id}");
        if possible == 32 {
            assert_eq!((topology.package_of[27], found.last()), (1, Some(&27)));
        }
    }
}
