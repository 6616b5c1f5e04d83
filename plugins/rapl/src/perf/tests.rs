//! Opens and reads real perf counters: the kernel's clock behind a simulated PMU directory.

use std::fs;

use wattrace_api::Follows;
use wattrace_rapl_simulator::{cpus, perf_clock, perf_core_clock};

use super::*;
use crate::meter::Continuity;
use crate::unprivileged::as_unprivileged_user;

/// `None` where this user may not open perf counters.
fn opened(root: &Path) -> Option<Vec<CounterGroup>> {
    match open(root, true) {
        Err(e) if e.remedy == NO_PERMISSION => {
            eprintln!("not run: {e}");
            None
        }
        opened => Some(opened.unwrap().groups),
    }
}

#[test]
fn the_counters_of_a_package_are_read_together() {
    let root = tempfile::tempdir().unwrap();
    perf_clock(root.path(), 10).unwrap();
    let events = directory(root.path()).join("events");
    for name in ["energy-ram", "energy-psys"] {
        fs::write(events.join(name), "event=0x00\n").unwrap();
        fs::write(events.join(format!("{name}.scale")), "1e-9\n").unwrap();
    }
    // An event without a scale is left out.
    fs::write(events.join("energy-cores"), "event=0x00\n").unwrap();
    let topology = root.path().join("devices/system/cpu/cpu0/topology");
    fs::create_dir_all(&topology).unwrap();
    fs::write(topology.join("physical_package_id"), "3\n").unwrap();
    let Some(mut groups) = opened(root.path()) else { return };
    assert_eq!(groups.len(), 1);
    let names: Vec<_> = groups[0].counters.iter().map(|(s, _)| s.domain.name.as_str()).collect();
    assert_eq!(names, ["package-3", "psys", "dram-3"]);
    let (mut first, mut second) = ([0; 3], [0; 3]);
    groups[0].meter.read(&mut first).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    groups[0].meter.read(&mut second).unwrap();
    for (first, second) in first.into_iter().zip(second) {
        assert!(second > first + 1_000_000, "{first} {second}");
    }
}

#[test]
fn an_event_that_the_kernel_refuses_does_not_affect_the_others() {
    let root = tempfile::tempdir().unwrap();
    perf_clock(root.path(), 10).unwrap();
    let events = directory(root.path()).join("events");
    fs::write(events.join("energy-ram"), "event=0xffff\n").unwrap();
    fs::write(events.join("energy-ram.scale"), "1e-9\n").unwrap();
    let Some(groups) = opened(root.path()) else { return };
    assert_eq!(groups[0].counters.len(), 1);
}

#[test]
fn a_refused_counter_is_an_error_that_names_the_permission() {
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    if paranoid.trim().parse::<i32>().unwrap_or(0) < 1 {
        eprintln!("not run: all users may open perf counters here");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    perf_clock(root.path(), 10).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    as_unprivileged_user(|| {
        let error = open(root.path(), true).err().unwrap().to_string();
        assert!(error.contains("energy-pkg on CPU 0: Permission denied"), "{error}");
        assert!(error.contains("cap_perfmon") && error.contains("perf_event_paranoid=0"), "{error}");
    });
}

#[test]
fn each_core_is_a_group_named_by_its_lowest_cpu() {
    let root = tempfile::tempdir().unwrap();
    perf_clock(root.path(), 10).unwrap();
    perf_core_clock(root.path(), "0,1", 2).unwrap();
    // CPU 1 counts for another core than CPU 0.
    let all = [(0, 0, "0"), (1, 0, "1,3"), (3, 0, "1,3")];
    cpus(root.path(), "cpu:type:x86,ven0002fam001Amod0002:feature:", &all).unwrap();
    let Some(groups) = opened(root.path()) else { return };
    let domains: Vec<_> = groups.iter().flat_map(|g| &g.counters).map(|(s, _)| s.domain.clone()).collect();
    let cores: Vec<_> = domains.iter().map(|d| (&*d.name, d.within.as_deref(), d.follows.clone())).collect();
    let expected = [
        ("package-0", None, Follows::Package(0)),
        ("core-cpu-0", Some("package-0"), Follows::Core(0)),
        ("core-cpu-1", Some("package-0"), Follows::Core(1)),
    ];
    assert_eq!(cores, expected);
    assert_eq!(open(root.path(), false).unwrap().groups.len(), 1, "not asked for");
}

#[test]
fn a_group_whose_cpu_went_offline_is_opened_again_on_another_cpu_of_its_package() {
    let root = tempfile::tempdir().unwrap();
    perf_clock(root.path(), 10).unwrap();
    cpus(root.path(), "cpu:type:x86,ven0000fam0006mod009E:feature:", &[(0, 3, "0"), (1, 3, "1")]).unwrap();
    let Some(mut groups) = opened(root.path()) else { return };
    let meter = &mut groups[0].meter;
    let mut readings = [0];
    assert_eq!(meter.read(&mut readings).unwrap(), Continuity::Continued);
    assert!(!meter.close_if_dead(), "its CPU is in the mask");
    let mask = directory(root.path()).join("cpumask");
    fs::write(&mask, "1\n").unwrap();
    while readings[0] < 20_000_000 {
        meter.read(&mut readings).unwrap();
    }
    let ended = std::time::Instant::now();
    assert!(meter.close_if_dead());
    assert_eq!(meter.read(&mut readings).unwrap(), Continuity::Restarted);
    // The counter's nanoseconds and those of the clock differ by a thousandth at most.
    let since = ended.elapsed().as_nanos() as u64 / 1_000 * 1_001 + 1_000;
    assert!(readings[0] <= since, "it counts from when it was opened: {} <= {since}", readings[0]);
    assert_eq!(meter.read(&mut readings).unwrap(), Continuity::Continued);
    assert!(!meter.close_if_dead(), "it counts where the mask says");

    // The PMU counts on CPUs of another package only: gone, until a CPU of its own package is online.
    let cpu = |n: u32| root.path().join(format!("devices/system/cpu/cpu{n}"));
    let online = root.path().join("devices/system/cpu/online");
    fs::write(&mask, "0\n").unwrap();
    fs::write(&online, "0\n").unwrap();
    fs::remove_dir_all(cpu(1)).unwrap();
    fs::write(cpu(0).join("topology/physical_package_id"), "1\n").unwrap();
    assert!(meter.close_if_dead());
    assert!(meter.read(&mut readings).unwrap_err().gone);
    fs::create_dir_all(cpu(1).join("topology")).unwrap();
    fs::write(cpu(1).join("topology/physical_package_id"), "3\n").unwrap();
    fs::write(&online, "0-1\n").unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while meter.read(&mut readings).is_err() {
        assert!(std::time::Instant::now() < deadline, "it is not opened again");
    }
}
