//! The plugin on simulated trees of whole boards: what is metered, under which name, and how much energy.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{
    Batch, Domain, ErrorKind, Follows, Origin, Plugin, Resource, SeriesSpec, Tick, Timestamp, Verdict, metric,
};
use wattrace_hwmon::{Hwmon, HwmonConfig};

const SECOND: u64 = 1_000_000_000;

/// A simulated `/sys`.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("class/hwmon")).unwrap();
        Self(root)
    }

    /// A chip as the kernel shows it: its files in a directory of its device, and a link to the directory in
    /// the class.
    fn chip(&self, number: u32, device: &str, files: &[(&str, &str)]) -> PathBuf {
        let directory = self.0.path().join(format!("devices/{device}/hwmon/hwmon{number}"));
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), format!("{text}\n")).unwrap();
        }
        let device = self.0.path().join(format!("devices/{device}"));
        symlink(&device, directory.join("device")).unwrap();
        symlink(&directory, self.0.path().join(format!("class/hwmon/hwmon{number}"))).unwrap();
        directory
    }

    fn config(&self) -> HwmonConfig {
        HwmonConfig { sysfs_root: self.0.path().to_str().unwrap().to_owned(), ..HwmonConfig::default() }
    }

    fn rig(&self) -> Rig {
        self.rig_with(self.config())
    }

    fn rig_with(&self, config: HwmonConfig) -> Rig {
        let mut rig = Rig::new();
        rig.start::<Hwmon>(config).unwrap();
        rig
    }
}

fn set(directory: &Path, file: &str, text: &str) {
    fs::write(directory.join(file), format!("{text}\n")).unwrap();
}

fn at(rig: &mut Rig, second: u64) -> Vec<Point> {
    let batch = rig.tick(Timestamp(second * SECOND)).unwrap();
    rig.points(&batch)
}

/// `metric domain<container = microjoules`, or `anomaly domain anomaly = count`.
fn shown(points: &[Point]) -> Vec<String> {
    let show = |p: &Point| match &p.series.domain {
        Some(domain) => {
            let within = domain.within.as_ref().map(|w| format!("<{w}")).unwrap_or_default();
            format!("{} {}{within} = {}", p.metric, domain.name, p.steps)
        }
        None => {
            let words: Vec<_> = p.series.attributes.iter().map(|a| a.value.to_string()).collect();
            format!("anomaly {} = {}", words.join(" "), p.steps)
        }
    };
    points.iter().map(show).collect()
}

#[test]
fn a_grace_hopper_board_has_its_sockets_with_their_parts_and_a_module_that_is_in_no_total() {
    let tree = Tree::new();
    // Old kernels put an ACPI meter's files in the directory of the device, new ones in that of the chip.
    let meter = |number, label: &str, watts: u32| {
        let average = format!("{}", watts * 1_000_000);
        tree.chip(
            number,
            &format!("LNXSYSTM:00/ACPI000D:0{number}"),
            &[
                ("name", "power_meter"),
                ("power1_average", &average),
                ("power1_oem_info", label),
                ("power1_is_battery", "0"),
            ],
        )
    };
    let module = meter(1, "Module Power Socket 0", 700);
    meter(2, "Grace Power Socket 0", 120);
    meter(3, "CPU Power Socket 0", 80);
    let old = tree.0.path().join("devices/LNXSYSTM:00/ACPI000D:04");
    tree.chip(4, "LNXSYSTM:00/ACPI000D:04", &[]);
    for (file, text) in
        [("name", "power_meter"), ("power1_average", "25000000"), ("power1_oem_info", "SysIO Power Socket 0")]
    {
        set(&old, file, text);
    }
    for cpu in 0..4 {
        let topology = tree.0.path().join(format!("devices/system/cpu/cpu{cpu}/topology"));
        fs::create_dir_all(&topology).unwrap();
        set(&topology, "physical_package_id", "0");
    }
    let mut rig = tree.rig();
    // The module's power falls linearly; the rest is constant.
    set(&module, "power1_average", "500000000");
    let expected = [
        "hw.energy module-0<host = 1200000000",
        "hw.energy package-0 = 240000000",
        "hw.energy core-0<package-0 = 160000000",
        "hw.energy uncore-0<package-0 = 50000000",
    ];
    let points = at(&mut rig, 2);
    assert_eq!(shown(&points), expected);
    assert!(points.iter().all(|p| p.series.domain.as_ref().unwrap().origin == Origin::Simulated));
    assert_eq!(points[0].window.start, Timestamp(0));
}

#[test]
fn each_rail_of_a_jetson_board_is_voltage_times_current() {
    let tree = Tree::new();
    let chip = tree.chip(
        3,
        "platform/bus@0/c240000.i2c/i2c-1/1-0040",
        &[
            ("name", "ina3221"),
            ("in1_label", "VDD_GPU_SOC"),
            ("in1_input", "19000"),
            ("curr1_input", "500"),
            ("in2_label", "VDD_CPU_CV"),
            ("in2_input", "19000"),
            ("curr2_input", "-8"),
            ("in3_label", "NC"),
            ("in3_input", "19000"),
            ("curr3_input", "100"),
            ("in3_enable", "1"),
            ("in4_input", "12"),
            ("curr4_input", "592"),
            ("in7_label", "sum of shunt voltages"),
        ],
    );
    tree.chip(
        4,
        "platform/bus@0/c240000.i2c/i2c-1/1-0041",
        &[
            ("name", "ina3221"),
            ("in1_label", "VIN_SYS_5V0"),
            ("in1_input", "4992"),
            ("curr1_input", "1001"),
            ("in2_label", "VDDQ_VDD2_1V8AO"),
            ("in2_input", "5000"),
            ("curr2_input", "40"),
            ("in2_enable", "0"),
        ],
    );
    let mut rig = tree.rig();
    set(&chip, "in1_input", "20000");
    set(&chip, "curr1_input", "700");
    let expected = [
        "anomaly package-0-vdd-cpu-cv negative = 1",
        // (19 V · 0.5 A + 20 V · 0.7 A) / 2 for a second.
        "hw.energy vdd-gpu-soc = 11750000",
        "hw.energy package-0-vdd-cpu-cv = 0",
        "anomaly package-0-vdd-cpu-cv negative = 2",
        "hw.energy vin-sys-5v0 = 4996992",
    ];
    assert_eq!(shown(&at(&mut rig, 1)), expected);
}

#[test]
fn an_older_jetson_has_the_same_chip_as_an_iio_device_in_milliwatts() {
    let tree = Tree::new();
    let chip = tree.0.path().join("devices/3160000.i2c/i2c-0/0-0040/iio:device0");
    fs::create_dir_all(&chip).unwrap();
    fs::create_dir_all(tree.0.path().join("bus/iio/devices")).unwrap();
    symlink(&chip, tree.0.path().join("bus/iio/devices/iio:device0")).unwrap();
    for (file, text) in [
        ("name", "ina3221x"),
        ("rail_name_0", "VDD_IN"),
        ("in_power0_input", "5123"),
        ("rail_name_1", "VDD_SYS_CPU"),
        ("in_power1_input", "1000"),
        ("rail_name_2", "VDD_SYS_DDR"),
        ("in_power2_input", "700"),
    ] {
        set(&chip, file, text);
    }
    let mut rig = tree.rig();
    let expected = [
        "hw.host.energy ina3221x-vdd-in = 20492000",
        "hw.energy package-0-vdd-sys-cpu = 4000000",
        "hw.energy vdd-sys-ddr = 2800000",
    ];
    assert_eq!(shown(&at(&mut rig, 4)), expected);
}

#[test]
fn the_only_acpi_meter_is_the_hosts_and_channels_of_other_plugins_are_left_out() {
    let tree = Tree::new();
    tree.chip(0, "LNXSYSTM:00/ACPI000D:00", &[("name", "power_meter"), ("power1_average", "250000000")]);
    tree.chip(1, "pci0000:00/0000:03:00.0", &[("name", "amdgpu"), ("power1_average", "30000000")]);
    tree.chip(2, "pci0000:00/0000:00:02.0", &[("name", "i915_gt0"), ("energy1_input", "30000000")]);
    tree.chip(
        5,
        "platform/amd_energy.0",
        &[("name", "amd_energy"), ("energy1_label", "Esocket0"), ("energy1_input", "1")],
    );
    let battery = "LNXSYSTM:00/PNP0C0A:00/power_supply/BAT0";
    tree.chip(6, battery, &[("name", "BAT0"), ("power1_input", "9000000")]);
    fs::create_dir_all(tree.0.path().join("class/power_supply")).unwrap();
    symlink(
        tree.0.path().join("class/power_supply"),
        tree.0.path().join(format!("devices/{battery}/subsystem")),
    )
    .unwrap();
    let off = || HwmonConfig { amd_energy: false, ..tree.config() };
    assert_eq!(shown(&at(&mut tree.rig_with(off()), 1)), ["hw.host.energy power-meter = 250000000"]);

    // A meter that names what it measures: the system, or a part of it.
    let measures = tree.0.path().join("devices/LNXSYSTM:00/ACPI000D:00/hwmon/hwmon0/measures");
    fs::create_dir_all(measures.join("LNXSYBUS:00")).unwrap();
    assert_eq!(shown(&at(&mut tree.rig_with(off()), 1)), ["hw.host.energy power-meter = 250000000"]);
    fs::rename(measures.join("LNXSYBUS:00"), measures.join("LNXCPU:00")).unwrap();
    assert_eq!(shown(&at(&mut tree.rig_with(off()), 1)), ["hw.energy power-meter-power1<host = 250000000"]);
    fs::remove_dir_all(measures).unwrap();

    tree.chip(7, "LNXSYSTM:00/ACPI000D:01", &[("name", "power_meter"), ("power1_average", "10000000")]);
    let expected =
        ["hw.energy power-meter-power1<host = 250000000", "hw.energy power-meter-power1-1<host = 10000000"];
    assert_eq!(shown(&at(&mut tree.rig_with(off()), 1)), expected);
    let named = HwmonConfig { host: vec!["power-meter-power1".to_owned()], ..tree.config() };
    set(&tree.0.path().join("class/hwmon/hwmon5"), "energy1_input", "5");
    let expected = [
        "hw.host.energy power-meter-power1 = 250000000",
        "hw.energy power-meter-power1-1<host = 10000000",
        "hw.energy package-0 = 0",
    ];
    assert_eq!(shown(&at(&mut tree.rig_with(named), 1)), expected);
}

#[test]
fn second_meters_of_packages_are_not_read_if_packages_are_metered_already() {
    let tree = Tree::new();
    let files = [("name", "amd_energy"), ("energy1_label", "Esocket0"), ("energy1_input", "1")];
    let chip = tree.chip(5, "platform/amd_energy.0", &files);
    let config = tree.config();
    let mut rig = tree.rig_with(config.clone());
    set(&chip, "energy1_input", "7");
    assert_eq!(shown(&at(&mut rig, 1)), ["hw.energy package-0 = 6"]);

    let mut rig = Rig::new();
    let (name, follows) = ("package-0".to_owned(), Follows::Package(0));
    let domain = Domain { name, origin: Origin::Measured, follows, within: None, idle_microwatts: None };
    let metric = rig.registry.metric(&metric::HW_ENERGY).unwrap();
    let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(0));
    rig.registry.open(SeriesSpec { domain: Some(Arc::new(domain)), ..spec });
    assert_eq!(rig.start::<Hwmon>(config).unwrap_err().kind(), ErrorKind::Gone);
}

#[test]
fn scmi_counts_energy_and_the_configuration_says_what_it_meters() {
    let tree = Tree::new();
    let chip = tree.chip(
        0,
        "platform/firmware:scmi/scmi_dev.3",
        &[
            ("name", "scmi_sensors"),
            ("energy1_label", "BIG"),
            ("energy1_input", "18446744073709551000"),
            ("power1_label", "BIG"),
            ("power1_input", "2000000"),
            ("power2_label", "GPU"),
            ("power2_input", "1000000"),
            ("temp1_input", "40000"),
        ],
    );
    let config = HwmonConfig {
        in_totals: vec!["scmi-*-big".to_owned()],
        follow_cpus: vec!["*-big".to_owned()],
        exclude: vec!["*-gpu".to_owned()],
        ..tree.config()
    };
    let mut rig = tree.rig_with(config);
    set(&chip, "energy1_input", "18446744073709551300");
    let points = at(&mut rig, 1);
    assert_eq!(shown(&points), ["hw.energy scmi-sensors-big = 300"]);
    assert_eq!(points[0].series.domain.as_ref().unwrap().follows, Follows::Cpus);
    // Past the end of 64 bits: 316 to the end, 100 after it.
    set(&chip, "energy1_input", "100");
    let expected = ["hw.energy scmi-sensors-big = 716", "anomaly scmi-sensors-big wrap = 1"];
    assert_eq!(shown(&at(&mut rig, 2)), expected);
}

#[test]
fn channels_with_equal_names_are_numbered() {
    let tree = Tree::new();
    let files = [
        ("name", "a"),
        ("power1_input", "1"),
        ("power1_label", "b"),
        ("power2_input", "1"),
        ("power2_label", "b"),
        ("power3_input", "1"),
        ("power3_label", "b 1"),
    ];
    tree.chip(0, "x", &files);
    let mut rig = tree.rig();
    at(&mut rig, 1);
    let points = at(&mut rig, 2);
    let mut domains: Vec<_> =
        points.iter().filter_map(|p| Some(p.series.domain.as_ref()?.name.clone())).collect();
    domains.sort();
    domains.dedup();
    assert_eq!(domains, ["a-b", "a-b-1", "a-b-1-1"]);
}

#[test]
fn the_next_good_reading_covers_the_window_of_a_bad_one_and_other_channels_are_not_affected() {
    let tree = Tree::new();
    let chip = tree.chip(0, "a", &[("name", "x"), ("power1_input", "1000000"), ("power2_input", "3000000")]);
    let mut rig = tree.rig();
    at(&mut rig, 1);
    for (nth, bad) in ["", "garbage", "1e6", "99999999999999999999"].into_iter().enumerate() {
        set(&chip, "power1_input", bad);
        let second = nth as u64 + 2;
        let what = if bad.starts_with('9') {
            "implausible = 1".to_owned()
        } else {
            format!("bad_reading = {}", nth + 1)
        };
        let expected =
            [format!("anomaly x-power1 {what}"), format!("hw.energy x-power2<host = {}", second * 3_000_000)];
        assert_eq!(shown(&at(&mut rig, second)), expected);
    }
    set(&chip, "power1_input", "1000000");
    let points = at(&mut rig, 6);
    assert_eq!((points[0].steps, points[0].window.start), (6_000_000, Timestamp(SECOND)));
}

#[test]
fn chips_are_added_and_removed_and_the_source_is_gone_when_all_are() {
    let tree = Tree::new();
    let first = tree.chip(0, "a", &[("name", "x"), ("power1_input", "1000000")]);
    let mut rig = tree.rig();
    let x = at(&mut rig, 1)[0].id;
    let second = tree.chip(1, "b", &[("name", "y"), ("power1_input", "2000000")]);
    at(&mut rig, 2);
    assert_eq!(
        shown(&at(&mut rig, 3)),
        ["hw.energy x-power1<host = 3000000", "hw.energy y-power1<host = 2000000"]
    );
    // The chip's number is given to another device, which is another domain.
    fs::remove_dir_all(&first).unwrap();
    fs::remove_file(tree.0.path().join("class/hwmon/hwmon0")).unwrap();
    tree.chip(0, "c", &[("name", "z"), ("power1_input", "5000000")]);
    let batch = rig.tick(Timestamp(4 * SECOND)).unwrap();
    assert_eq!(batch.ended(), [x]);
    at(&mut rig, 5);
    assert_eq!(
        shown(&at(&mut rig, 6)),
        ["hw.energy y-power1<host = 8000000", "hw.energy z-power1<host = 5000000"]
    );

    fs::remove_dir_all(second).unwrap();
    fs::remove_dir_all(tree.0.path().join("class")).unwrap();
    fs::remove_dir_all(tree.0.path().join("devices")).unwrap();
    rig.clock.set(Timestamp(7 * SECOND));
    let mut batch = Batch::default();
    let tick = Tick::at(Timestamp(7 * SECOND));
    let error = rig.sources[0].1.poll(&tick, &mut batch).unwrap_err();
    assert_eq!((error.kind(), batch.ended().len()), (ErrorKind::Gone, 2));
    assert!(error.to_string().contains("modprobe"), "{error}");
}

#[test]
fn a_tree_without_channels_is_gone_with_a_remedy() {
    let tree = Tree::new();
    tree.chip(0, "a", &[("name", "coretemp"), ("temp1_input", "40000")]);
    let error = Rig::new().start::<Hwmon>(tree.config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("sudo modprobe acpi_power_meter"), "{error}");
    let findings = Hwmon::diagnose(&tree.config());
    assert_eq!(findings[0].verdict, Verdict::Optional);
    assert!(findings[0].remedy.contains("sudo modprobe"));
    tree.chip(1, "b", &[("name", "y"), ("power1_input", "2000000")]);
    assert_eq!(Hwmon::diagnose(&tree.config())[0].found, "y-power1 (simulated)");
}
