//! What drivers and programs of the field do: inputs rewritten after public reports.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

mod machine;

use std::fs;

use machine::{AMD, ENERGY, MEMORY, Machine, TIME, amdgpu, values, window};
use wattrace_api::{Origin, Plugin, Resource, Verdict};
use wattrace_drm::Drm;

/// The `stat` of a process.
fn stat(pid: u32, parent: u32, start_ticks: u64) -> String {
    format!("{pid} (x) S {parent} {}{start_ticks} 0 0\n", "0 ".repeat(17))
}

/// A card with a power meter, and a client of it that both processes show.
fn shared(pids: [u32; 2]) -> Machine {
    let machine = Machine::new();
    machine.card(0, AMD, "amdgpu", "amdgpu");
    machine.meter(AMD, "power1_average", 30_000_000);
    for pid in pids {
        machine.client(pid, 9, &amdgpu(217, 0, 20_480));
    }
    machine
}

/// Values by pid.
type Values = Vec<(String, f64)>;

/// The times and the memory in a second in which the client worked for 0.6 s.
fn work(machine: &mut Machine, pids: [u32; 2], second: u64) -> (Values, Values) {
    for pid in pids {
        machine.client(pid, 9, &amdgpu(217, second * 300_000_000, 20_480));
    }
    let (points, _) = machine.tick(second).unwrap();
    (values(&points, TIME), values(&points, MEMORY))
}

#[test]
fn an_inherited_descriptor_counts_for_the_parent_whatever_the_pids() {
    let owner = || (vec![("8120".into(), 0.6)], vec![("8120".into(), f64::from(20 << 20))]);
    let (child, parent) = (700, 8_120);
    for parents_start in [900, 1_000] {
        let mut machine = shared([child, parent]);
        machine.proc_file(child, "stat", &stat(child, parent, 1_000));
        machine.proc_file(parent, "stat", &stat(parent, 1, parents_start));
        machine.process(child);
        machine.process(parent);
        machine.start();
        assert_eq!(work(&mut machine, [child, parent], 1), owner());
    }
    // /proc may not be readable; the directory knows the starts.
    let mut machine = shared([child, parent]);
    machine.process_since(child, 2_000_000_000);
    machine.process_since(parent, 1_000_000_000);
    machine.start();
    assert_eq!(work(&mut machine, [child, parent], 1), owner());
    // The client goes on with the child once the parent has closed it.
    machine.exit(parent);
    let (time, _) = work(&mut machine, [child, child], 2);
    assert_eq!(time.iter().find(|(pid, _)| pid == "700").unwrap().1, 0.6);
}

#[test]
fn a_descriptor_that_was_passed_on_counts_for_the_process_that_has_the_memory_mapped() {
    let (service, compositor) = (500, 900);
    let mut machine = shared([service, compositor]);
    for (pid, start, mapped) in [(service, 100, "/usr/lib/libdrm.so"), (compositor, 200, "/dev/dri/card0")] {
        machine.proc_file(pid, "stat", &stat(pid, 1, start));
        machine.proc_file(pid, "maps", &format!("7f00-7f10 rw-s 00000000 00:06 412 {mapped}\n"));
        machine.process(pid);
    }
    machine.start();
    assert_eq!(work(&mut machine, [service, compositor], 1).0, [("900".into(), 0.6)]);
}

#[test]
fn the_old_fdinfo_of_amdgpu_gives_shares_of_the_window() {
    let mut machine = Machine::new();
    machine.card(0, AMD, "amdgpu", "amdgpu");
    machine.meter(AMD, "power1_average", 95_000_000);
    let text = "pos:\t0\npdev:\t0000:03:00.0\npasid:\t32776\nvram mem:\t204800 kB\ngtt mem:\t8192 kB\n\
        cpu mem:\t0 kB\ngfx0:\t73.25%\ndec0:\t 1.00%\n";
    machine.client(920, 7, text);
    machine.process(920);
    machine.start();
    let (points, _) = machine.tick(2).unwrap();
    assert_eq!(values(&points, TIME), [("920".into(), 1.485)]);
    assert_eq!(values(&points, MEMORY), [("920".into(), f64::from(200 << 20))]);
    assert_eq!(values(&points, ENERGY), [(String::new(), 190.0)]);
}

#[test]
fn a_gpu_inside_a_processor_works_in_the_system_s_memory_and_has_no_meter_of_its_own() {
    // The header of gpu_metrics 3.0, or the voltage of the northbridge.
    for apu in [("gpu_metrics", &[4, 0, 3, 0][..]), ("hwmon/hwmon1/in1_label", b"vddnb\n")] {
        let mut machine = Machine::new();
        machine.card(0, AMD, "amdgpu", "amdgpu");
        machine.meter(AMD, "power1_average", 12_000_000);
        machine.device_file(AMD, apu.0, apu.1);
        let text = format!("{}drm-memory-gtt:\t25858000 KiB\n", amdgpu(3, 1_000, 5_348));
        machine.client(900, 5, &text);
        machine.process(900);
        machine.start();
        let (points, _) = machine.tick(1).unwrap();
        let kib = f64::from(25_863_348_u32) * 1024.0;
        assert_eq!(values(&points, MEMORY), [("900".into(), kib)], "{}", apu.0);
        assert!(values(&points, ENERGY).is_empty());
    }
}

#[test]
fn two_dies_with_one_meter_are_one_gpu() {
    let mut machine = Machine::new();
    let (first, second) = ("0000:c1:00.0", "0000:c6:00.0");
    let client = |die: &str, id: u32, gfx: u64| {
        format!(
            "drm-driver: amdgpu\ndrm-client-id: {id}\ndrm-pdev: {die}\ndrm-memory-vram: 1 KiB\n\
             drm-engine-gfx: {gfx} ns\n"
        )
    };
    for (number, die, watts, pid) in [(0, first, 237, 941), (1, second, 0, 942)] {
        machine.card(number, die, "amdgpu", "amdgpu");
        machine.meter(die, "power1_average", watts * 1_000_000);
        machine.client(pid, 5, &client(die, 1, 0));
        machine.process(pid);
    }
    machine.start();
    machine.client(942, 5, &client(second, 1, 1_000_000_000));
    for second in 1..=20 {
        let (points, batch) = machine.tick(second).unwrap();
        assert_eq!(values(&points, ENERGY), [(String::new(), 237.0 * second as f64)]);
        assert_eq!(values(&points, TIME), [("941".into(), 0.0), ("942".into(), 1.0)]);
        assert!(points.iter().all(|point| point.series.resource == Resource::gpu(first.into())));
        assert!(batch.ended().is_empty());
        // What the second die reports later does not make it another GPU.
        machine.meter("0000:c6:00.0", "power1_average", second * 1_000_000);
    }
    machine.meter(second, "power1_average", 0);
    let findings = Drm::diagnose(&machine.config);
    assert_eq!(findings[0].what, "GPU 0000:c1:00.0 and 0000:c6:00.0 (amdgpu)");
}

#[test]
fn a_card_that_sleeps_at_the_start_is_0_w_until_it_wakes() {
    let mut machine = Machine::new();
    machine.card(1, AMD, "amdgpu", "amdgpu");
    // Reading fails with EBUSY; here it is a directory.
    let power = machine.device(AMD).join("hwmon/hwmon1/power1_average");
    fs::create_dir_all(&power).unwrap();
    machine.device_file(AMD, "gpu_metrics", [0xff; 200]);
    machine.device_file(AMD, "power/runtime_status", "suspended\n");
    machine.start();
    for second in 1..=15 {
        let (points, _) = machine.tick(second).unwrap();
        assert_eq!(values(&points, ENERGY), [(String::new(), 0.0)]);
        assert_eq!(points.len(), 1, "no anomaly");
    }
    machine.device_file(AMD, "power/runtime_status", "active\n");
    fs::remove_dir(&power).unwrap();
    machine.meter(AMD, "power1_average", 30_000_000);
    assert_eq!(values(&machine.tick(16).unwrap().0, ENERGY), [(String::new(), 15.0)]);
    assert_eq!(values(&machine.tick(17).unwrap().0, ENERGY), [(String::new(), 45.0)]);
    machine.device_file(AMD, "power/runtime_status", "suspending\n");
    fs::remove_file(&power).unwrap();
    assert_eq!(values(&machine.tick(18).unwrap().0, ENERGY), [(String::new(), 60.0)]);
}

#[test]
fn cycles_of_cycles_are_half_of_the_window() {
    let mut machine = Machine::new();
    machine.card(0, AMD, "xe", "xe");
    machine.meter(AMD, "energy1_input", 0);
    machine.meter(AMD, "energy1_label", "card");
    let client = |busy: u64, total: u64| {
        format!(
            "drm-driver: xe\ndrm-client-id: 3\ndrm-pdev: {AMD}\ndrm-cycles-rcs: {busy}\n\
             drm-total-cycles-rcs: {total}\n"
        )
    };
    machine.client(950, 5, &client(1_000, 19_200_000));
    machine.process(950);
    machine.start();
    machine.client(950, 5, &client(9_601_000, 38_400_000));
    assert_eq!(values(&machine.tick(1).unwrap().0, TIME), [("950".into(), 0.5)]);
}

#[test]
fn a_driver_that_does_not_measure_unless_it_is_switched_on_is_named_by_doctor() {
    let mut machine = Machine::new();
    machine.card(0, "fb000000.gpu", "panthor", "panthor");
    machine.device_file("fb000000.gpu", "profiling", "0\n");
    let text = "drm-driver:\tpanthor\ndrm-client-id:\t4\ndrm-engine-panthor:\t0 ns\ndrm-cycles-panthor:\t0\n\
        drm-resident-memory:\t51200 KiB\n";
    machine.client(970, 5, text);
    machine.process(970);
    machine.start();
    let (points, _) = machine.tick(1).unwrap();
    assert_eq!(values(&points, TIME), [("970".into(), 0.0)]);
    assert_eq!(values(&points, MEMORY), [("970".into(), f64::from(50 << 20))]);
    let finding = Drm::diagnose(&machine.config).remove(0);
    assert_eq!(finding.verdict, Verdict::Optional);
    assert!(finding.remedy.starts_with("`echo 1 | sudo tee ") && finding.remedy.ends_with("/profiling`"));
    machine.device_file("fb000000.gpu", "profiling", "1\n");
    assert_eq!(Drm::diagnose(&machine.config).remove(0).verdict, Verdict::Ok);
}

/// gpu_metrics 1.6, as the MI300X has it, with a counter of so many 2^-16 J.
fn gpu_metrics(counts: u64) -> Vec<u8> {
    let mut table = vec![0xff; 100];
    table[..4].copy_from_slice(&[100, 0, 1, 6]);
    table[16..24].copy_from_slice(&counts.to_le_bytes());
    table
}

#[test]
fn the_firmware_s_counter_is_read_rather_than_power_integrated() {
    let mut machine = Machine::new();
    machine.card(0, AMD, "amdgpu", "amdgpu");
    machine.meter(AMD, "power1_average", 40_000_000);
    machine.device_file(AMD, "device", "0x74a1\n");
    let joules = |n: u64| gpu_metrics((1_000 + n) << 16);
    machine.device_file(AMD, "gpu_metrics", joules(0));
    machine.start();
    machine.device_file(AMD, "gpu_metrics", joules(500));
    let (points, _) = machine.tick(1).unwrap();
    assert_eq!((points[0].value, points[0].window), (500.0, window(0, 1)));
    assert_eq!(points[0].series.domain.as_ref().unwrap().origin, Origin::Simulated);
    // A table that holds no count for a moment: the next one covers its window.
    machine.device_file(AMD, "gpu_metrics", gpu_metrics(u64::MAX));
    let (points, _) = machine.tick(2).unwrap();
    assert_eq!(values(&points, "wattrace.meter.anomalies"), [(String::new(), 1.0)]);
    machine.device_file(AMD, "gpu_metrics", joules(1_250));
    let (points, _) = machine.tick(3).unwrap();
    assert_eq!((points[0].value, points[0].window), (1_250.0, window(1, 3)));
    let found = Drm::diagnose(&machine.config).remove(0).found;
    assert_eq!(found, "gpu_metrics, its counter of energy (simulated)");
    // It is not looked at while the GPU sleeps.
    machine.device_file(AMD, "power/runtime_status", "suspended\n");
    machine.device_file(AMD, "gpu_metrics", joules(9_000));
    assert!(values(&machine.tick(4).unwrap().0, ENERGY).is_empty());
}

#[test]
fn a_counter_of_hwmon_or_of_an_unknown_unit_leaves_the_table_alone() {
    for (file, model, joules) in [("energy1_input", "0x74a1", 7.0), ("power1_average", "0x744c", 14.0)] {
        let mut machine = Machine::new();
        machine.card(0, AMD, "amdgpu", "amdgpu");
        machine.device_file(AMD, "device", model);
        let mut table = gpu_metrics(5 << 16);
        if model == "0x744c" {
            table[3] = 3;
        }
        machine.device_file(AMD, "gpu_metrics", &table);
        machine.meter(AMD, file, 14_000_000);
        machine.start();
        if file == "energy1_input" {
            machine.meter(AMD, file, 21_000_000);
        }
        assert_eq!(values(&machine.tick(1).unwrap().0, ENERGY), [(String::new(), joules)], "{file}");
    }
}
