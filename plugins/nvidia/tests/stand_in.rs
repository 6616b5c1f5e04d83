//! The plugin on the stand-in library: known powers and uses in, joules and shares out; a device that is lost
//! and returns.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

mod machine;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use machine::{ENERGY, MEMORY, Machine, TIME, at, busy, last, of, windows_tile};
use wattrace_api::testing::Rig;
use wattrace_api::{ConsumerKind, ErrorKind, Follows, Origin, Plugin, Resource, Verdict, Window};
use wattrace_nvidia::{Nvidia, NvidiaConfig};
use wattrace_nvml_stand_in::{Busy, Device, Mig, Process};

#[test]
fn energy_is_the_integral_of_power_and_a_stand_in_is_simulated() {
    let power = vec![(0.0, 50.0), (2.5, 250.0)];
    let mut machine = Machine::start(vec![Device { uuid: "GPU-a".into(), power, ..Device::default() }]);
    let (points, _) = machine.seconds(1, 5);
    let energy = of(&points, ENERGY, "a");
    assert_eq!(energy.iter().map(|p| p.value).collect::<Vec<_>>(), [50.0, 100.0, 250.0, 500.0, 750.0]);
    windows_tile(&energy, 0);
    let domain = energy[0].series.domain.as_ref().unwrap();
    assert_eq!((&*domain.name, domain.origin), ("gpu-a", Origin::Simulated));
    assert_eq!(domain.follows, Follows::Device(Resource::gpu("a".into())));
}

#[test]
fn the_window_stays_open_until_the_counter_is_refreshed() {
    let device = Device { uuid: "GPU-a".into(), refresh_ms: 100, ..Device::default() };
    let mut machine = Machine::start(vec![device]);
    let ticks: Vec<_> = (1..=20).map(|n| machine.tick(n * 10).unwrap()).collect();
    let points: Vec<_> = ticks.iter().flat_map(|batch| machine.rig.points(batch)).collect();
    let energy = of(&points, ENERGY, "a");
    assert_eq!(
        energy.iter().map(|p| (p.window, p.value)).collect::<Vec<_>>(),
        [(Window::new(at(0), at(100)), 10.0), (Window::new(at(100), at(200)), 20.0),]
    );
}

#[test]
fn a_temporary_error_loses_no_energy_and_a_counter_reset_is_reported() {
    let device =
        Device { uuid: "GPU-a".into(), troubled: vec![(1.5, 2.5)], resets: vec![3.5], ..Device::default() };
    let mut machine = Machine::start(vec![device]);
    let (points, ended) = machine.seconds(1, 6);
    let energy: Vec<_> = of(&points, ENERGY, "a").iter().map(|p| (p.window, p.value)).collect();
    let window = |from: u64, to: u64| Window::new(at(from * 1_000), at(to * 1_000));
    assert_eq!(
        energy,
        [(window(0, 1), 100.0), (window(1, 3), 300.0), (window(4, 5), 400.0), (window(5, 6), 500.0),]
    );
    let anomalies = of(&points, "wattrace.meter.anomalies", "a");
    let kinds: Vec<_> = anomalies.iter().map(|p| p.series.attributes[1].value.to_string()).collect();
    assert_eq!(kinds, ["bad_reading", "reset"]);
    assert!(ended.is_empty());
}

#[test]
fn without_a_counter_power_is_integrated_over_the_driver_s_samples_or_the_ticks() {
    let power = vec![(0.0, 40.0), (1.0, 240.0)];
    let device = |uuid: &str, power_samples| Device {
        uuid: uuid.into(),
        counter: false,
        power_samples,
        power: power.clone(),
        ..Device::default()
    };
    let mut machine = Machine::start(vec![device("GPU-a", true), device("GPU-b", false)]);
    let (points, _) = machine.seconds(1, 4);
    let fine = of(&points, ENERGY, "a");
    // From the first sample, at 0.1 s, to the last. The step is between two samples: their mean counts.
    assert_eq!(fine.last().unwrap().value, 0.8 * 40.0 + 0.1 * 140.0 + 3.0 * 240.0);
    windows_tile(&fine, 100);
    // The first reading was at second 1.
    let coarse = of(&points, ENERGY, "b");
    assert_eq!(coarse.last().unwrap().value, 3.0 * 240.0);
}

#[test]
fn percentages_of_samples_become_engine_time_of_processes_in_the_directory() {
    let encoder = Busy { from: 0.0, to: 4.0, sm: 30.0, enc: 10.0, ..Busy::default() };
    let processes = vec![
        Process { pid: 7, memory: 1 << 30, busy: vec![busy(0.0, 4.0, 60.0)], ..Process::default() },
        Process { pid: 8, memory: 5, graphics: true, busy: vec![encoder], ..Process::default() },
    ];
    let mut machine = Machine::start(vec![Device { uuid: "GPU-a".into(), processes, ..Device::default() }]);
    let seven = machine.process(7);
    // The other process is announced late: windows with it wait until then.
    let (early, _) = machine.seconds(1, 2);
    assert!(of(&early, TIME, "a").is_empty());
    machine.process(8);
    let (points, ended) = machine.seconds(3, 4);
    assert_eq!(last(&points, TIME), [("7", 2.4), ("8", 1.6)]);
    assert_eq!(last(&points, MEMORY), [("7", f64::from(1 << 30)), ("8", 5.0)]);
    let time = of(&points, TIME, "a");
    assert_eq!(time.len(), 8, "four windows for each");
    windows_tile(&time.iter().step_by(2).copied().collect::<Vec<_>>(), 0);
    assert!(Arc::ptr_eq(time[0].series.consumer.as_ref().unwrap(), &seven));
    assert!(ended.is_empty());
    // Usage is written before the energy that it splits.
    let order: Vec<_> = points.iter().map(|p| &*p.metric).collect();
    assert!(order.iter().position(|m| *m == TIME) < order.iter().position(|m| *m == ENERGY), "{order:?}");
}

#[test]
fn bursts_are_counted_in_full_and_windows_end_at_the_driver_s_stamps() {
    let bursts = vec![busy(0.5, 0.8, 100.0), busy(2.3, 2.4, 50.0), busy(65.0, 65.5, 80.0)];
    let processes = vec![Process { pid: 7, memory: 1, busy: bursts, ..Process::default() }];
    let device = Device { uuid: "GPU-a".into(), sample_ms: 150, processes, ..Device::default() };
    let mut machine = Machine::start(vec![device]);
    machine.process(7);
    let (points, _) = machine.seconds(1, 70);
    let time = of(&points, TIME, "a");
    // Percentages are whole numbers, so each window may be off by half a percent.
    let (used, truth) = (time.last().unwrap().value, 0.3 + 0.05 + 0.4);
    assert!((used - truth).abs() < 0.03, "{used} s");
    windows_tile(&time, 0);
    assert!(time.iter().all(|p| p.window.end.0 % 150_000_000 == 0), "edges are the samples' stamps");
}

#[test]
fn without_use_by_process_the_only_memory_holder_used_the_gpu_or_it_is_unattributed() {
    let process = |pid, busy| Process { pid, memory: 1, busy, ..Process::default() };
    let device = |uuid: &str, processes| Device {
        uuid: uuid.into(),
        per_process: false,
        processes,
        ..Device::default()
    };
    let one = device("GPU-a", vec![process(7, vec![busy(0.0, 9.0, 40.0)])]);
    let two = device("GPU-b", vec![process(7, vec![busy(0.0, 9.0, 40.0)]), process(8, Vec::new())]);
    let mut machine = Machine::start(vec![one, two]);
    machine.process(7);
    machine.process(8);
    let (points, _) = machine.seconds(1, 5);
    let a: Vec<_> = of(&points, TIME, "a").into_iter().cloned().collect();
    let b: Vec<_> = of(&points, TIME, "b").into_iter().cloned().collect();
    assert_eq!(last(&a, TIME), [("7", 2.0)]);
    assert_eq!(last(&b, TIME), [("7", 0.0), ("8", 0.0), ("", 2.0)]);
    let unattributed = b.iter().find(|p| p.value > 0.0).unwrap().series.consumer.clone().unwrap();
    assert_eq!(unattributed.kind(), ConsumerKind::Unattributed);
}

#[test]
fn the_memory_of_mig_instances_counts_for_their_gpu() {
    let process = |pid, memory| Process { pid, memory, ..Process::default() };
    let mig = |uuid: &str, processes| Mig { uuid: uuid.into(), slices: 1, processes };
    let mig = vec![mig("MIG-1", vec![process(7, 100)]), mig("MIG-2", vec![process(7, 20), process(8, 3)])];
    let mut machine = Machine::start(vec![Device { uuid: "GPU-a".into(), mig, ..Device::default() }]);
    machine.process(7);
    machine.process(8);
    let (points, _) = machine.seconds(1, 3);
    assert_eq!(last(&points, MEMORY), [("7", 120.0), ("8", 3.0)]);
    assert_eq!(of(&points, ENERGY, "a").last().unwrap().value, 300.0);
    assert!(of(&points, TIME, "a").is_empty(), "there is no use by process with MIG");
}

#[test]
fn the_use_of_a_mig_instance_is_that_of_its_only_process_in_parts_of_the_gpu() {
    let process = |pid, sm| Process { pid, memory: 1, busy: vec![busy(0.0, 9.0, sm)], ..Process::default() };
    let mig = |uuid: &str, slices, processes| Mig { uuid: uuid.into(), slices, processes };
    let mig = vec![
        mig("MIG-1", 3, vec![process(7, 70.0)]),
        mig("MIG-2", 1, vec![process(8, 10.0), process(9, 25.0)]),
        // Drivers are known to report more than all.
        mig("MIG-3", 2, vec![process(10, 130.0)]),
        mig("MIG-4", 1, Vec::new()),
    ];
    let mut machine =
        Machine::start(vec![Device { uuid: "GPU-a".into(), gpm: true, mig, ..Device::default() }]);
    for pid in 7..=10 {
        machine.process(pid);
    }
    // The first reading has nothing to compare with.
    let (points, _) = machine.seconds(1, 3);
    let time: Vec<_> = last(&points, TIME).into_iter().map(|(id, s)| (id, (s * 1e3).round())).collect();
    let part = |seconds: f64, slices: f64| (seconds * slices / 7.0 * 1e3).round();
    let (seven, ten) = (part(1.4, 3.0), part(2.0, 2.0));
    // Which of two processes of an instance worked is not known.
    assert_eq!(time, [("7", seven), ("8", 0.0), ("9", 0.0), ("10", ten), ("", part(0.7, 1.0))]);
    let found = Nvidia::diagnose(&machine.config).remove(0).found;
    assert_eq!(found, "energy counter (simulated); MIG instances: memory by process, use by instance");
}

#[test]
fn samples_of_instances_are_freed_before_the_library_is_shut_down() {
    let process = Process { pid: 7, memory: 1, ..Process::default() };
    let mig = vec![Mig { uuid: "MIG-1".into(), slices: 1, processes: vec![process] }];
    let partitioned = Device { uuid: "GPU-a".into(), gpm: true, mig, ..Device::default() };
    let other = Device { uuid: "GPU-b".into(), lost: vec![(1.5, 99.0)], ..Device::default() };
    let mut machine = Machine::start(vec![partitioned, other]);
    machine.process(7);
    // The library is initialised again at second 5, to look for the lost device.
    machine.seconds(1, 6);
    assert_eq!(machine.samples_left(), "0");
    machine.rig.sources.clear();
    assert_eq!(machine.samples_left(), "0");
}

#[test]
fn temperature_clocks_and_memory_are_written_if_they_are_wanted_and_supported() {
    let device = |uuid: &str, temperature| Device {
        uuid: uuid.into(),
        temperature,
        clocks: (1_980, 2_619),
        processes: vec![Process { pid: 7, memory: 5 << 30, ..Process::default() }],
        ..Device::default()
    };
    let context = |points: &[wattrace_api::testing::Point], gpu: &str| {
        let is = |p: &&wattrace_api::testing::Point| {
            p.series.resource.id == gpu && !p.metric.contains("consumer") && p.metric != ENERGY
        };
        points.iter().filter(is).map(|p| (p.metric.to_string(), p.value)).collect::<Vec<_>>()
    };
    let mut machine = Machine::start(vec![device("GPU-a", 41)]);
    machine.process(7);
    assert!(context(&machine.seconds(1, 2).0, "a").is_empty(), "off by default");

    let mut machine = Machine::new(vec![device("GPU-a", 41), device("GPU-b", 0)]);
    machine.config.context = true;
    machine.rig.start::<Nvidia>(machine.config.clone()).unwrap();
    machine.process(7);
    let (points, _) = machine.seconds(1, 1);
    let (clock, gib) = ("wattrace.gpu.clock".to_owned(), f64::from(1 << 30));
    let rest = [
        (clock.clone(), 1.98e9),
        (clock, 2.619e9),
        ("hw.gpu.memory.usage".to_owned(), 5.0 * gib),
        ("hw.gpu.memory.limit".to_owned(), 80.0 * gib),
    ];
    assert_eq!(context(&points, "b"), rest);
    let mut all = vec![("hw.temperature".to_owned(), 41.0)];
    all.extend(rest);
    assert_eq!(context(&points, "a"), all);
}

#[test]
fn the_last_use_of_a_process_is_written_before_its_series_end() {
    let processes = vec![Process {
        pid: 7,
        memory: 1,
        to: 2.0,
        busy: vec![busy(0.0, 2.0, 50.0)],
        from: 0.0,
        ..Process::default()
    }];
    let mut machine = Machine::start(vec![Device { uuid: "GPU-a".into(), processes, ..Device::default() }]);
    let seven = machine.process(7);
    let (points, _) = machine.seconds(1, 1);
    let memory = of(&points, MEMORY, "a")[0].id;
    machine.keeper.withdraw(7, &seven);
    let (points, ended) = machine.seconds(2, 2);
    let time = of(&points, TIME, "a")[0];
    assert_eq!((time.value, &*ended), (1.0, &[memory][..]));
    let (_, ended) = machine.seconds(3, 4);
    assert_eq!(ended, [time.id]);
}

#[test]
fn the_series_of_a_lost_device_end_and_it_returns_as_a_new_one() {
    let processes =
        vec![Process { pid: 7, memory: 1, busy: vec![busy(0.0, 99.0, 100.0)], ..Process::default() }];
    let device = |uuid: &str, lost| Device {
        uuid: uuid.into(),
        processes: processes.clone(),
        lost,
        ..Device::default()
    };
    let mut machine = Machine::start(vec![device("GPU-a", vec![(2.5, 6.5)]), device("GPU-b", Vec::new())]);
    machine.process(7);
    let (points, _) = machine.seconds(1, 2);
    let mut series: Vec<_> =
        [ENERGY, TIME, MEMORY].iter().map(|metric| of(&points, metric, "a")[0].id).collect();
    let (points, mut ended) = machine.seconds(3, 3);
    series.sort_unstable();
    ended.sort_unstable();
    assert_eq!(ended, series, "the series of the lost device, and no others");
    assert!(of(&points, ENERGY, "a").is_empty());
    // The rescan at second 5 does not find it, the one at second 10 does.
    let (points, ended) = machine.seconds(4, 13);
    assert!(ended.is_empty(), "the series of the other device go on");
    let other = of(&points, ENERGY, "b");
    assert_eq!((other.len(), other.last().unwrap().value), (10, 1_300.0));
    windows_tile(&other, 3_000);
    let (returned, used) = (of(&points, ENERGY, "a"), of(&points, TIME, "a"));
    assert_eq!(returned.iter().map(|p| p.value).collect::<Vec<_>>(), [100.0, 200.0, 300.0]);
    assert_eq!((returned[0].series.start, used.last().unwrap().value), (at(10_000), 3.0));
}

#[test]
fn without_any_device_left_the_source_is_gone() {
    let device = Device { uuid: "GPU-a".into(), lost: vec![(1.5, 9.0)], ..Device::default() };
    let mut machine = Machine::start(vec![device]);
    machine.seconds(1, 1);
    let error = machine.tick(2_000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("nvidia-smi"), "{error}");
}

#[test]
fn without_library_or_driver_the_source_is_gone_with_a_remedy() {
    let library = "/nowhere/libnvidia-ml.so.1".to_owned();
    let config = NvidiaConfig { library, ..NvidiaConfig::default() };
    let error = Rig::new().start::<Nvidia>(config.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().starts_with("plugins.nvidia.library: /nowhere/"), "{error}");
    let findings = Nvidia::diagnose(&config);
    assert_eq!((findings.len(), findings[0].verdict), (1, Verdict::Optional));
    assert!(findings[0].remedy.contains("install"), "{findings:?}");

    let machine = Machine::new(Vec::new());
    fs::remove_file(Path::new(&format!("{}.toml", machine.config.library))).unwrap();
    let findings = Nvidia::diagnose(&machine.config);
    assert!(findings[0].remedy.contains("modprobe nvidia"), "{findings:?}");
}

#[test]
fn doctor_lists_each_gpu_and_what_it_supports() {
    let plain = Device { uuid: "GPU-a".into(), ..Device::default() };
    let old = Device { uuid: "GPU-b".into(), counter: false, per_process: false, ..Device::default() };
    let mig = Device { uuid: "GPU-c".into(), mig: vec![Mig::default()], ..Device::default() };
    let machine = Machine::new(vec![plain, old, mig]);
    machine.turn(1_000);
    let found: Vec<_> = Nvidia::diagnose(&machine.config).into_iter().map(|f| f.found).collect();
    assert_eq!(
        found,
        [
            "energy counter (simulated); use and memory by process",
            "samples of power, integrated (simulated); use of the whole device, and memory by process",
            "energy counter (simulated); MIG instances: memory by process, no use by process",
        ]
    );
}

#[test]
fn use_by_process_is_read_whether_mig_is_disabled_or_not_supported() {
    for mig_mode in [true, false] {
        let processes =
            vec![Process { pid: 4_100, memory: 1, busy: vec![busy(0.0, 9.0, 55.0)], ..Process::default() }];
        let device = Device { uuid: "GPU-a".into(), mig_mode, processes, ..Device::default() };
        let mut machine = Machine::start(vec![device]);
        machine.process(4_100);
        let (points, _) = machine.seconds(1, 2);
        assert_eq!(last(&points, TIME), [("4100", 1.1)]);
    }
}

#[test]
fn a_gpu_that_nobody_uses_has_energy_and_no_users() {
    let device = Device { uuid: "GPU-a".into(), power: vec![(0.0, 24.0)], ..Device::default() };
    let mut machine = Machine::start(vec![device]);
    let (points, _) = machine.seconds(1, 1);
    assert_eq!(points.iter().map(|p| (&*p.metric, p.value)).collect::<Vec<_>>(), [(ENERGY, 24.0)]);
}

#[test]
fn a_device_that_supports_nothing_is_no_gpu_of_0_j_and_hwmon_is_named() {
    let jetson = Device { name: "Orin (nvgpu)".into(), measures: false, ..Device::default() };
    let machine = Machine::new(vec![jetson]);
    let error = Rig::new().start::<Nvidia>(machine.config.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.to_string().contains("measures nothing of Orin (nvgpu); on a Jetson, the plugin `hwmon`"));
    let findings = Nvidia::diagnose(&machine.config);
    assert_eq!((findings.len(), findings[0].verdict), (1, Verdict::Optional));
    assert!(findings[0].remedy.contains("hwmon"), "{findings:?}");
}
