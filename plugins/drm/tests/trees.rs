//! The plugin on directories in place of sysfs and /proc: known energies and engine times in, joules and
//! shares out.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

mod machine;

use std::fs;

use machine::{AMD, ENERGY, MEMORY, Machine, TIME, amdgpu, at, values, window};
use wattrace_api::testing::Point;
use wattrace_api::{ErrorKind, Follows, Origin, Plugin, Resource, Verdict};
use wattrace_drm::Drm;

#[test]
fn amd_power_is_integrated_and_use_is_reported_by_process() {
    let mut machine = Machine::new();
    machine.card(0, AMD, "amdgpu", "amdgpu");
    machine.meter(AMD, "power1_average", 40_000_000);
    machine.client(7, 5, &amdgpu(51, 1_000_000, 2_048));
    machine.client(8, 3, &amdgpu(52, 0, 1_024));
    machine.process(7);
    machine.process(8);
    machine.start();

    machine.meter(AMD, "power1_average", 60_000_000);
    machine.client(7, 5, &amdgpu(51, 301_000_000, 2_048));
    let (points, _) = machine.tick(1).unwrap();
    assert_eq!(values(&points, TIME), [("7".into(), 0.6), ("8".into(), 0.0)], "both engines add up");
    let memory = [("7".into(), f64::from(2 << 20)), ("8".into(), f64::from(1 << 20))];
    assert_eq!(values(&points, MEMORY), memory);
    let energy = points.last().unwrap();
    assert_eq!((&*energy.metric, energy.value, energy.window), (ENERGY, 50.0, window(0, 1)));
    let domain = energy.series.domain.as_ref().unwrap();
    assert_eq!((&*domain.name, domain.origin), ("gpu-0000:03:00.0", Origin::Simulated));
    assert_eq!(domain.follows, Follows::Device(Resource::gpu(AMD.into())));
}

#[test]
fn intel_counters_are_read_and_parts_are_within_the_whole() {
    let mut machine = Machine::new();
    let xe = "0000:0c:00.0";
    machine.card(1, xe, "xe", "xe");
    for (number, label) in [(1, "card"), (2, "pkg")] {
        machine.meter(xe, &format!("energy{number}_label"), label);
        machine.meter(xe, &format!("energy{number}_input"), 1_000_000_000);
    }
    let fdinfo = |busy, total| {
        format!(
            "drm-driver: xe\ndrm-client-id: 3\ndrm-pdev: {xe}\ndrm-resident-vram0: 3 MiB\n\
             drm-cycles-rcs: {busy}\ndrm-total-cycles-rcs: {total}\n"
        )
    };
    machine.client(7, 5, &fdinfo(500, 10_000));
    machine.process(7);
    machine.start();
    machine.meter(xe, "energy1_input", 1_030_000_000);
    machine.meter(xe, "energy2_input", 1_020_000_000);
    machine.client(7, 5, &fdinfo(750, 11_000));
    let (points, _) = machine.tick(2).unwrap();
    assert_eq!(values(&points, TIME), [("7".into(), 0.5)]);
    let energy: Vec<_> = points.iter().filter(|p| p.metric == ENERGY).collect();
    let describe = |p: &Point| {
        let domain = p.series.domain.clone().unwrap();
        (domain.name.clone(), domain.within.clone(), p.value)
    };
    assert_eq!(describe(energy[0]), ("gpu-0000:0c:00.0".into(), None, 30.0));
    assert_eq!(describe(energy[1]), ("gpu-0000:0c:00.0-pkg".into(), Some("gpu-0000:0c:00.0".into()), 20.0));
}

#[test]
fn a_client_with_many_descriptors_counts_once_and_one_found_late_counts_from_its_start() {
    let mut machine = Machine::new();
    machine.card(0, AMD, "amdgpu", "amdgpu");
    machine.client(7, 5, &amdgpu(51, 0, 1));
    machine.client(7, 6, &amdgpu(51, 0, 1));
    // The descriptor was passed to another process: the client still counts for the first.
    machine.client(9, 3, &amdgpu(51, 0, 1));
    for pid in [7, 8, 9] {
        machine.process(pid);
    }
    machine.start();
    let used = |machine: &Machine, client, pid, ns| {
        machine.client(pid, 5, &amdgpu(client, ns, 1));
    };
    used(&machine, 51, 7, 50_000_000);
    machine.client(7, 6, &amdgpu(51, 50_000_000, 1));
    machine.client(9, 3, &amdgpu(51, 50_000_000, 1));
    assert_eq!(values(&machine.tick(1).unwrap().0, TIME), [("7".into(), 0.1)]);
    // This one opens its file after all processes were scanned; the next sweep finds it.
    used(&machine, 60, 8, 400_000_000);
    let late: Vec<_> = (2..=22).flat_map(|second| machine.tick(second).unwrap().0).collect();
    let of_eight: Vec<_> = late.iter().filter(|p| p.metric == TIME && p.value == 0.8).collect();
    assert!(!of_eight.is_empty(), "found within a sweep");
    assert_eq!(&*of_eight[0].series.consumer.as_ref().unwrap().identity().id, "8");
}

#[test]
fn the_series_of_a_process_that_exits_end_and_others_continue() {
    let mut machine = Machine::new();
    machine.card(0, AMD, "amdgpu", "amdgpu");
    machine.client(7, 5, &amdgpu(51, 0, 1));
    machine.client(8, 5, &amdgpu(52, 0, 1));
    let seven = machine.process(7);
    machine.process(8);
    machine.start();
    let (points, _) = machine.tick(1).unwrap();
    let mut of_seven: Vec<_> = points.iter().map(|p| p.id).collect();
    of_seven.retain(|id| {
        let series = machine.rig.registry.get(*id).unwrap();
        series.consumer.as_ref().unwrap().identity().id == "7"
    });
    machine.exit(7);
    machine.keeper.withdraw(7, &seven);
    let (points, batch) = machine.tick(2).unwrap();
    let mut ended = batch.ended().to_vec();
    ended.sort_unstable();
    of_seven.sort_unstable();
    assert_eq!(ended, of_seven);
    assert_eq!(values(&points, TIME), [("8".into(), 0.0)]);
}

#[test]
fn a_suspended_gpu_is_not_woken() {
    let mut machine = Machine::new();
    machine.card(0, AMD, "amdgpu", "amdgpu");
    machine.meter(AMD, "power1_average", 10_000_000);
    fs::create_dir_all(machine.device(AMD).join("power")).unwrap();
    let status = machine.device(AMD).join("power/runtime_status");
    fs::write(&status, "active\n").unwrap();
    machine.start();
    assert_eq!(values(&machine.tick(1).unwrap().0, ENERGY), [(String::new(), 10.0)]);
    fs::write(&status, "suspended\n").unwrap();
    // A reading would wake the GPU and find the power of the awake GPU.
    machine.meter(AMD, "power1_average", 90_000_000);
    let last = [2, 3].map(|second| values(&machine.tick(second).unwrap().0, ENERGY)[0].1);
    assert_eq!(last, [15.0, 15.0]);
}

#[test]
fn the_series_of_a_gpu_that_disappears_end_and_it_returns_as_a_new_one() {
    let mut machine = Machine::new();
    let other = "0000:04:00.0";
    for (number, address) in [(0, AMD), (1, other)] {
        machine.card(number, address, "i915", "i915");
        machine.meter(address, "energy1_input", 5_000_000);
    }
    machine.start();
    let (points, _) = machine.tick(1).unwrap();
    let series = points[0].id;
    fs::remove_dir_all(machine.device(AMD)).unwrap();
    fs::remove_dir_all(machine.root.path().join("sys/class/drm/card0")).unwrap();
    machine.meter(other, "energy1_input", 7_000_000);
    let (points, batch) = machine.tick(2).unwrap();
    assert_eq!((values(&points, ENERGY), batch.ended()), (vec![(String::new(), 2.0)], &[series][..]));

    machine.card(0, AMD, "i915", "i915");
    machine.meter(AMD, "energy1_input", 100_000_000);
    let later: Vec<_> = (3..=13).flat_map(|second| machine.tick(second).unwrap().0).collect();
    let returned: Vec<_> = later.iter().filter(|p| p.series.resource.id == AMD).collect();
    assert_eq!((returned[0].value, returned[0].series.start), (0.0, at(12)));
}

#[test]
fn the_window_of_a_bad_reading_is_counted_with_the_next() {
    let mut machine = Machine::new();
    machine.card(0, AMD, "i915", "i915");
    machine.meter(AMD, "energy1_input", 5_000_000);
    machine.start();
    machine.meter(AMD, "energy1_input", "5x");
    let (points, _) = machine.tick(1).unwrap();
    assert!(values(&points, ENERGY).is_empty());
    assert_eq!(values(&points, "wattrace.meter.anomalies"), [(String::new(), 1.0)]);
    machine.meter(AMD, "energy1_input", 9_000_000);
    let (points, _) = machine.tick(2).unwrap();
    assert_eq!((points[0].value, points[0].window), (4.0, window(0, 2)));
}

#[test]
fn without_a_gpu_the_source_is_gone_with_a_remedy_and_display_adapters_do_not_count() {
    let mut machine = Machine::new();
    machine.card(0, AMD, "ast", "ast");
    let error = machine.rig.start::<Drm>(machine.config.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("modprobe amdgpu"), "{error}");
    let findings = Drm::diagnose(&machine.config);
    assert_eq!(findings[0].verdict, Verdict::Optional);
    assert!(findings[0].remedy.contains("modprobe amdgpu"));
}

#[test]
fn doctor_lists_each_gpu_and_its_sensors() {
    let machine = Machine::new();
    machine.card(0, AMD, "amdgpu", "amdgpu");
    machine.meter(AMD, "power1_input", 1);
    machine.card(1, "0000:00:02.0", "i915", "i915");
    fs::create_dir_all(machine.root.path().join("proc/1/fd")).unwrap();
    let found: Vec<_> = Drm::diagnose(&machine.config).into_iter().map(|f| (f.what, f.found)).collect();
    assert_eq!(found[0], ("GPU 0000:03:00.0 (amdgpu)".into(), "power1_input, integrated (simulated)".into()));
    assert!(found[1].1.contains("metered with the processor"), "{found:?}");
    assert_eq!(found.len(), 2);
}
