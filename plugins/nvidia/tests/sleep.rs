//! A laptop's GPU that sleeps: it is not woken, and can fall asleep again. In the stand-in, any call about a
//! device that sleeps wakes it.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

mod machine;

use machine::{ENERGY, Machine, TIME, at, busy, last, of, windows_tile};
use wattrace_api::{Origin, Plugin, Verdict, Window};
use wattrace_nvidia::Nvidia;
use wattrace_nvml_stand_in::{Device, Process};

const ADDRESS: &str = "0000:01:00.0";

fn laptop() -> Device {
    let processes =
        vec![Process { pid: 7, memory: 1, busy: vec![busy(5.0, 7.0, 50.0)], ..Process::default() }];
    Device {
        uuid: "GPU-a".into(),
        pci: ADDRESS.into(),
        power: vec![(0.0, 10.0)],
        processes,
        ..Device::default()
    }
}

/// A machine whose GPUs are known to sysfs, and awake.
fn machine(devices: Vec<Device>) -> Machine {
    let addresses: Vec<String> = devices.iter().map(|device| device.pci.clone()).collect();
    let machine = Machine::new(devices);
    for address in addresses {
        machine.pci(&address, "vendor", "0x10de\n");
        machine.pci(&address, "class", "0x030200\n");
        machine.pci(&address, "power/runtime_status", "active\n");
        machine.pci(&address, "power/control", "on\n");
    }
    machine
}

fn start(machine: &mut Machine) {
    machine.rig.start::<Nvidia>(machine.config.clone()).unwrap();
}

#[test]
fn a_gpu_that_sleeps_at_the_start_is_0_w_and_is_read_once_it_wakes() {
    let mut machine = machine(vec![laptop()]);
    machine.sleep(ADDRESS);
    start(&mut machine);
    machine.process(7);
    let (points, _) = machine.seconds(1, 3);
    assert!(machine.is_asleep(ADDRESS));
    let energy = of(&points, ENERGY, ADDRESS);
    assert_eq!(energy.iter().map(|p| p.value).collect::<Vec<_>>(), [0.0, 0.0, 0.0]);
    windows_tile(&energy, 0);
    let domain = energy[0].series.domain.as_ref().unwrap();
    assert_eq!((&*domain.name, domain.origin), ("gpu-0000:01:00.0", Origin::Simulated));
    let finding = Nvidia::diagnose(&machine.config).remove(0);
    assert_eq!(finding.verdict, Verdict::Ok);
    assert!(finding.found.contains("it sleeps") && machine.is_asleep(ADDRESS), "{finding:?}");

    machine.pci(ADDRESS, "power/runtime_status", "active\n");
    let (points, ended) = machine.seconds(4, 8);
    assert_eq!(ended.len(), 1, "the series by its address");
    let energy = of(&points, ENERGY, "a");
    assert_eq!((energy[0].series.start, energy.last().unwrap().value), (at(4_000), 40.0));
    assert_eq!(last(&points, TIME), [("7", 1.0)]);
}

#[test]
fn a_gpu_that_falls_asleep_is_0_w_and_not_woken_and_its_counter_goes_on_after() {
    let mut machine = machine(vec![laptop()]);
    start(&mut machine);
    machine.process(7);
    machine.seconds(1, 2);
    machine.sleep(ADDRESS);
    // Longer than the time after which lost and new devices are looked for.
    let (points, ended) = machine.seconds(3, 20);
    assert!(machine.is_asleep(ADDRESS) && ended.is_empty());
    let energy = of(&points, ENERGY, "a");
    assert!(energy.iter().all(|point| point.value == 20.0) && energy.len() == 18);
    windows_tile(&energy, 2_000);
    machine.pci(ADDRESS, "power/runtime_status", "active\n");
    let (points, _) = machine.seconds(21, 21);
    // The stand-in has counted on.
    let energy = of(&points, ENERGY, "a");
    assert_eq!((energy[0].value, energy[0].window), (210.0, Window::new(at(20_000), at(21_000))));
}

#[test]
fn one_sleeps_while_another_one_is_read() {
    let other = Device { uuid: "GPU-b".into(), pci: "0000:02:00.0".into(), ..Device::default() };
    let mut machine = machine(vec![laptop(), other]);
    machine.sleep(ADDRESS);
    start(&mut machine);
    let (points, _) = machine.seconds(1, 12);
    assert!(machine.is_asleep(ADDRESS));
    assert_eq!(of(&points, ENERGY, "b").last().unwrap().value, 1_200.0);
    assert_eq!(of(&points, ENERGY, ADDRESS).last().unwrap().value, 0.0);
    assert_eq!(Nvidia::diagnose(&machine.config).len(), 2);
    assert!(machine.is_asleep(ADDRESS));
    machine.pci(ADDRESS, "power/runtime_status", "active\n");
    let (points, _) = machine.seconds(13, 14);
    assert_eq!(of(&points, ENERGY, "b").last().unwrap().value, 1_400.0);
    assert_eq!(of(&points, ENERGY, "a").last().unwrap().value, 10.0);
}

#[test]
fn a_gpu_that_may_sleep_is_left_alone_once_nothing_works() {
    let windows = |control: &str| {
        let mut machine = machine(vec![laptop()]);
        machine.pci(ADDRESS, "power/control", control);
        start(&mut machine);
        machine.process(7);
        let (points, ended) = machine.seconds(1, 40);
        assert!(ended.is_empty());
        let energy = of(&points, ENERGY, "a");
        assert!(energy.last().unwrap().value >= 330.0);
        windows_tile(&energy, 0);
        assert_eq!(last(&points, TIME), [("7", 1.0)]);
        energy.iter().map(|point| point.window.end.0 / 1_000_000_000).collect::<Vec<u64>>()
    };
    assert_eq!(windows("on\n"), (1..=40).collect::<Vec<u64>>());
    // It worked until second 7. Ten seconds later it is left alone for eight seconds, and again.
    let auto: Vec<u64> = (1..=17).chain([25, 33]).collect();
    assert_eq!(windows("auto\n"), auto);
}

#[test]
fn a_gpu_that_falls_asleep_while_it_is_left_alone_is_read_when_it_wakes() {
    let mut machine = machine(vec![laptop()]);
    machine.pci(ADDRESS, "power/control", "auto\n");
    start(&mut machine);
    machine.seconds(1, 18);
    machine.sleep(ADDRESS);
    let (points, _) = machine.seconds(19, 40);
    assert!(machine.is_asleep(ADDRESS));
    assert_eq!(of(&points, ENERGY, "a").last().unwrap().value, 170.0);
    machine.pci(ADDRESS, "power/runtime_status", "active\n");
    let (points, _) = machine.seconds(41, 41);
    assert_eq!(of(&points, ENERGY, "a")[0].value, 410.0);
}
