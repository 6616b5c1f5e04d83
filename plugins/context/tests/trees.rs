//! The plugin on simulated trees.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use wattrace_api::testing::Rig;
use wattrace_api::{ErrorKind, Plugin, Timestamp, Verdict};
use wattrace_context::{Context, ContextConfig, Frequency};

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

/// Two packages of two cores of two threads each, and some sensors.
fn tree() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for cpu in 0..8 {
        let (package, core) = (cpu / 2 % 2, cpu % 4);
        let put =
            |file: &str, text: &str| put(root.path(), &format!("devices/system/cpu/cpu{cpu}/{file}"), text);
        put("topology/physical_package_id", &package.to_string());
        put("topology/thread_siblings_list", &format!("{core},{}", core + 4));
        put("cpufreq/scaling_cur_freq", &format!("{}", 1_000_000 * (cpu + 1)));
    }
    for (file, text) in [
        ("hwmon0/name", "coretemp"),
        ("hwmon0/temp1_input", "61500"),
        ("hwmon0/temp1_label", "Package id 0"),
        ("hwmon1/name", "nvme"),
        ("hwmon1/temp1_input", "40850"),
        ("hwmon2/name", "nvme"),
        ("hwmon2/temp1_input", "-273150"),
        ("hwmon3/name", "cpu_thermal"),
        ("hwmon3/temp1_input", "50000"),
    ] {
        put(root.path(), &format!("class/hwmon/{file}"), text);
    }
    for (file, text) in
        [("0/type", "cpu-thermal"), ("0/temp", "50000"), ("1/type", "acpitz"), ("1/temp", "27800")]
    {
        put(root.path(), &format!("class/thermal/thermal_zone{file}"), text);
    }
    root
}

fn config(root: &TempDir, frequency: Frequency) -> ContextConfig {
    let sysfs_root = root.path().to_str().unwrap().to_owned();
    ContextConfig { sysfs_root, frequency, ..ContextConfig::default() }
}

/// `metric id parent = value`.
fn at(rig: &mut Rig, second: u64) -> Vec<String> {
    let batch = rig.tick(Timestamp(second * 1_000_000_000)).unwrap();
    let show = |p: wattrace_api::testing::Point| {
        let all = p.series.all_attributes();
        let word =
            |key: &str| all.iter().find(|a| a.key == key).map(|a| a.value.to_string()).unwrap_or_default();
        format!("{} {}<{} = {}", p.metric, word("hw.id"), word("hw.parent"), p.value)
    };
    rig.points(&batch).into_iter().map(show).collect()
}

#[test]
fn sensors_with_equal_names_are_numbered() {
    let root = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("hwmon0/name", "a"),
        ("hwmon0/temp1_input", "1000"),
        ("hwmon0/temp1_label", "b 1"),
        ("hwmon0/temp2_input", "2000"),
        ("hwmon0/temp2_label", "b"),
        ("hwmon0/temp3_input", "3000"),
        ("hwmon0/temp3_label", "b"),
        ("hwmon1/name", "\u{b4}"),
        ("hwmon1/temp1_input", "4000"),
        ("hwmon1/temp1_label", "\u{b4}"),
    ] {
        put(root.path(), &format!("class/hwmon/{file}"), text);
    }
    let mut rig = Rig::new();
    rig.start::<Context>(config(&root, Frequency::Off)).unwrap();
    let expected = [
        "hw.temperature a-b-1< = 1",
        "hw.temperature a-b< = 2",
        "hw.temperature a-b-2< = 3",
        "hw.temperature temperature< = 4",
    ];
    assert_eq!(at(&mut rig, 1), expected);
}

#[test]
fn packages_have_the_mean_of_their_cpus_and_each_sensor_is_read_once() {
    let root = tree();
    let mut rig = Rig::new();
    rig.start::<Context>(config(&root, Frequency::Package)).unwrap();
    let expected = [
        // CPUs 0, 1, 4, 5 at 1, 2, 5, 6 GHz; CPUs 2, 3, 6, 7 at 3, 4, 7, 8 GHz.
        "hw.cpu.speed package-0< = 3500000000",
        "hw.cpu.speed package-1< = 5500000000",
        "hw.temperature coretemp-package-id-0< = 61.5",
        "hw.temperature nvme-temp1< = 40.85",
        "hw.temperature cpu-thermal-temp1< = 50",
        "hw.temperature thermal-acpitz< = 27.8",
    ];
    assert_eq!(at(&mut rig, 10), expected);
    // One sensor recovers, and another one fails.
    put(root.path(), "class/hwmon/hwmon2/temp1_input", "38850");
    put(root.path(), "class/hwmon/hwmon1/temp1_input", "garbage");
    let seen = at(&mut rig, 20);
    assert!(seen.contains(&"hw.temperature nvme-temp1-1< = 38.85".to_owned()), "{seen:?}");
    assert!(!seen.iter().any(|p| p.contains("nvme-temp1<")), "{seen:?}");
}

#[test]
fn cores_have_the_mean_of_their_cpus_and_their_package_as_parent() {
    let root = tree();
    let mut rig = Rig::new();
    rig.start::<Context>(ContextConfig { temperature: false, ..config(&root, Frequency::Core) }).unwrap();
    let expected = [
        "hw.cpu.speed core-cpu-0<package-0 = 3000000000",
        "hw.cpu.speed core-cpu-1<package-0 = 4000000000",
        "hw.cpu.speed core-cpu-2<package-1 = 5000000000",
        "hw.cpu.speed core-cpu-3<package-1 = 6000000000",
    ];
    assert_eq!(at(&mut rig, 10), expected);
}

#[test]
fn sensors_are_added_and_removed_and_the_source_is_gone_without_any() {
    let root = tree();
    let mut rig = Rig::new();
    rig.start::<Context>(config(&root, Frequency::Off)).unwrap();
    for second in 1..=5 {
        assert_eq!(at(&mut rig, second).len(), 4);
    }
    fs::remove_dir_all(root.path().join("class/hwmon/hwmon0")).unwrap();
    put(root.path(), "class/hwmon/hwmon9/name", "k10temp");
    put(root.path(), "class/hwmon/hwmon9/temp1_input", "1000");
    let batch = rig.tick(Timestamp(6_000_000_000)).unwrap();
    assert_eq!((batch.ended().len(), batch.len()), (1, 4));
    fs::remove_dir_all(root.path().join("class")).unwrap();
    for second in 7..=11 {
        assert!(at(&mut rig, second).is_empty());
    }
    assert_eq!(rig.tick(Timestamp(12_000_000_000)).unwrap_err().kind(), ErrorKind::Gone);
    let error = Rig::new().start::<Context>(config(&root, Frequency::Off)).unwrap_err();
    assert!(error.kind() == ErrorKind::Gone && error.to_string().contains("modprobe coretemp"), "{error}");
    assert_eq!(Context::diagnose(&config(&root, Frequency::Off))[0].verdict, Verdict::Ok);
}
