//! The plugin as the meter of packages, under all names that drivers and firmware have for it: what is
//! metered, what contains what, and when it yields to RAPL.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{Domain, ErrorKind, Follows, Origin, Resource, SeriesSpec, Timestamp, metric};
use wattrace_hwmon::{Hwmon, HwmonConfig};

const SECOND: u64 = 1_000_000_000;

/// A simulated `/sys` whose chips have their files in the class itself.
struct Tree(TempDir);

impl Tree {
    fn new(chips: &[(u32, &[(&str, &str)])]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (number, files) in chips {
            for (file, text) in *files {
                tree.set(*number, file, text);
            }
        }
        tree
    }

    fn path(&self, chip: u32, file: &str) -> PathBuf {
        self.0.path().join(format!("class/hwmon/hwmon{chip}")).join(file)
    }

    fn set(&self, chip: u32, file: &str, text: &str) {
        let path = self.path(chip, file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn config(&self) -> HwmonConfig {
        HwmonConfig { sysfs_root: self.0.path().to_str().unwrap().to_owned(), ..HwmonConfig::default() }
    }

    fn rig(&self) -> Rig {
        let mut rig = Rig::new();
        rig.start::<Hwmon>(self.config()).unwrap();
        rig
    }
}

/// `domain<container = joules` of each energy at `second`, sorted.
fn at(rig: &mut Rig, second: u64) -> Vec<String> {
    let batch = rig.tick(Timestamp(second * SECOND)).unwrap();
    let show = |p: &Point| {
        let domain = p.series.domain.as_ref()?;
        let within = domain.within.as_ref().map(|w| format!("<{w}")).unwrap_or_default();
        let host = if p.metric == "hw.host.energy" { " (host)" } else { "" };
        Some(format!("{}{within} = {}{host}", domain.name, p.value))
    };
    let mut shown: Vec<_> = rig.points(&batch).iter().filter_map(show).collect();
    shown.sort();
    shown
}

/// Opens `package-0` as RAPL does.
fn rapl(rig: &Rig) {
    let (name, follows) = ("package-0".to_owned(), Follows::Package(0));
    let domain = Domain { name, origin: Origin::Measured, follows, within: None, idle_microwatts: None };
    let metric = rig.registry.metric(&metric::HW_ENERGY).unwrap();
    let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(0));
    rig.registry.open(SeriesSpec { domain: Some(Arc::new(domain)), ..spec });
}

#[test]
fn a_board_of_newer_firmware_has_its_sockets_with_their_parts() {
    let label = |label: &'static str, watts: &'static str| {
        [("name", "power_meter"), ("power1_oem_info", label), ("power1_average", watts)]
    };
    let chips = [
        label("Total Input Power Socket 0", "104000000"),
        label("CPU Rail Input Power Socket 0", "53000000"),
        label("SoC Rail Input Power Socket 0", "31000000"),
        label("DRAM Input Power Socket 0", "14000000"),
        label("Total Power in uW socket 1", "99000000"),
        label("CPU Rail Output Power in uW socket 1", "40000000"),
    ];
    let chips: Vec<(u32, &[(&str, &str)])> =
        chips.iter().enumerate().map(|(n, files)| (n as u32 + 1, &files[..])).collect();
    let tree = Tree::new(&chips);
    let mut rig = tree.rig();
    let expected = [
        "core-0<package-0 = 53",
        "dram-0<package-0 = 14",
        "package-0 = 104",
        "package-1 = 99",
        "power-meter-cpu-rail-output-power-in-uw-socket-1<host = 40",
        "uncore-0<package-0 = 31",
    ];
    assert_eq!(at(&mut rig, 1), expected);
}

#[test]
fn chips_of_one_driver_are_packages_in_the_order_of_their_numbers() {
    let socket = |watts: &'static str| {
        [("name", "amd_hsmp_hwmon"), ("power1_input", watts), ("power1_cap", "400000000")]
    };
    let tree = Tree::new(&[(9, &socket("145000000")), (10, &socket("131000000"))]);
    let mut rig = tree.rig();
    assert_eq!(at(&mut rig, 2), ["package-0 = 290", "package-1 = 262"]);
    let soc = |watts: &'static str| {
        [
            ("name", "altra_hwmon"),
            ("power1_label", "CPU power"),
            ("power1_input", watts),
            ("power2_label", "IO power"),
            ("power2_input", "18500000"),
            ("energy1_label", "Core Energy 000"),
            ("energy1_input", "2790000000"),
        ]
    };
    let tree = Tree::new(&[(0, &soc("61000000")), (1, &soc("60000000"))]);
    let mut rig = tree.rig();
    let expected = ["io-power = 37", "io-power-1 = 37", "package-0 = 122", "package-1 = 120"];
    assert_eq!(at(&mut rig, 2), expected);
}

#[test]
fn a_driver_that_reads_rapls_registers_meters_packages_until_rapl_does() {
    let files = [
        ("name", "zenergy"),
        ("energy1_label", "Ecore000"),
        ("energy1_input", "1200000000"),
        ("energy2_label", "Esocket0"),
        ("energy2_input", "39000000000"),
    ];
    let tree = Tree::new(&[(2, &files)]);
    let mut rig = tree.rig();
    tree.set(2, "energy2_input", "39050000000");
    assert_eq!(at(&mut rig, 1), ["package-0 = 50"]);
    // The driver of RAPL is loaded later.
    rapl(&rig);
    assert_eq!(rig.tick(Timestamp(2 * SECOND)).unwrap_err().kind(), ErrorKind::Gone);
    // And if it was there before, nothing is counted twice.
    let mut rig = Rig::new();
    rapl(&rig);
    assert_eq!(rig.start::<Hwmon>(tree.config()).unwrap_err().kind(), ErrorKind::Gone);
    // An estimate is no meter.
    let off = HwmonConfig { amd_energy: false, ..tree.config() };
    assert_eq!(Rig::new().start::<Hwmon>(off).unwrap_err().kind(), ErrorKind::Gone);
}

#[test]
fn a_channel_is_no_meter_before_it_has_been_read() {
    let files = [("name", "altra_hwmon"), ("power1_label", "CPU power")];
    let tree = Tree::new(&[(0, &files), (1, &[("name", "x"), ("power1_input", "5000000")])]);
    let file = tree.path(0, "power1_input");
    fs::create_dir(&file).unwrap();
    let mut rig = tree.rig();
    assert_eq!(at(&mut rig, 1), ["x-power1<host = 5"]);
    let domains = |rig: &Rig| rig.registry.domains().len();
    assert_eq!(domains(&rig), 1, "an estimate of the packages goes on");
    fs::remove_dir(&file).unwrap();
    for bad in ["garbage", "4294967295000"] {
        tree.set(0, "power1_input", bad);
        at(&mut rig, 2);
        assert_eq!(domains(&rig), 1, "{bad}");
    }
    tree.set(0, "power1_input", "61000000");
    at(&mut rig, 3);
    assert_eq!(
        (domains(&rig), at(&mut rig, 4)),
        (2, vec!["package-0 = 61".into(), "x-power1<host = 20".into()])
    );
}

#[test]
fn if_no_channel_can_be_read_there_is_no_meter_and_nothing_waits() {
    let tree = Tree::new(&[(0, &[("name", "power_meter"), ("power1_average", "4294967295000")])]);
    let refused = |tree: &Tree| {
        let error = Rig::new().start::<Hwmon>(tree.config()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gone);
        error.to_string()
    };
    let file = tree.path(0, "power1_average");
    assert!(refused(&tree).contains(&format!("{}: 4294967295000 is not a reading", file.display())));
    fs::remove_file(&file).unwrap();
    mkfifoat(CWD, &file, Mode::RUSR).unwrap();
    assert!(refused(&tree).contains(&format!("{}: it is a FIFO", file.display())));
    let name = tree.path(0, "name");
    fs::remove_file(&name).unwrap();
    mkfifoat(CWD, &name, Mode::RUSR).unwrap();
    assert!(refused(&tree).contains("no channel of power or energy"));
}
