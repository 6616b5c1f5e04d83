//! The simulator as a whole: energy is conserved, and a seed reproduces everything.

use std::collections::HashMap;

use wattrace_api::testing::Rig;
use wattrace_api::{ConsumerKind, Timestamp};

use super::*;
use crate::machine::{Machine, MeterShape, Part};
use crate::mix::Mix;
use crate::schedule::{Phase, Process, Schedule, Thread};
use crate::truth::Location;

const ALL: [Part; 6] = [Part::Package, Part::Cores, Part::Core, Part::Uncore, Part::Dram, Part::Psys];

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Two packages with shared cores and changing frequencies, and processes of every kind.
fn everything() -> (Machine, Schedule) {
    let machine = Machine {
        packages: 2,
        cores: 2,
        threads: 2,
        ghz: vec![1.8, 3.2, 2.4],
        shift: ms(700),
        meters: ALL.to_vec(),
        ..Machine::default()
    };
    let mut processes = vec![
        Process::new("pinned", vec![Phase::steady(Mix::Vector)]).on(&[0]),
        Process::new("beside", vec![Phase::duty(Mix::Chase, 0.7).varying(0.3)]).on(&[4]),
        Process::new("roams", vec![Phase::new(Mix::Stream, ms(30), ms(20)).varying(0.5)]),
        Process {
            name: "threads".into(),
            threads: vec![Thread { phases: vec![Phase::duty(Mix::Float, 0.4)], ..Thread::default() }; 3],
        },
    ];
    processes.extend((0..50).map(|n| {
        let start = ms(40 * n);
        let phase = Phase::new(Mix::Branchy, ms(3), Duration::ZERO);
        Process::new(format!("short-{n}"), vec![phase]).from_to(start, Duration::ZERO).rounds(1)
    }));
    (machine, Schedule { processes })
}

#[test]
fn thread_energy_and_static_energy_sum_to_what_each_meter_measures() {
    let (machine, schedule) = everything();
    let mut simulation = Simulation::new(machine, &schedule, 5).unwrap();
    for step in 1..=20 {
        simulation.advance(ms(137 * step));
        let truth = simulation.truth();
        let mut psys = 0;
        for meter in simulation.meters() {
            let of = |p| simulation.of_process(p, meter.location).energy.seen_by(meter.part);
            let caused: u64 = simulation.processes().iter().map(of).sum();
            let measured = truth.measured(meter.part, meter.location);
            assert_eq!(caused + truth.idle(meter.part, meter.location), measured, "{meter:?}");
            assert!(caused > 0 && measured > caused);
            if matches!(meter.part, Part::Package | Part::Dram) {
                psys += measured;
            }
        }
        let platform = truth.measured(Part::Psys, Location::Everywhere) - psys;
        assert_eq!(platform, 20 * simulation.now().as_nanos() as u64, "20 W beside packages and memory");
    }
}

#[test]
fn processes_that_run_the_same_code_differ_as_their_data_do() {
    let schedule = || Schedule {
        processes: (0..4)
            .map(|n| Process::new(format!("same-{n}"), vec![Phase::steady(Mix::Float)]))
            .collect(),
    };
    let energies = |hidden: f64| {
        let mut machine = Machine { cores: 4, ..Machine::default() };
        machine.physics.hidden = hidden;
        let mut simulation = Simulation::new(machine, &schedule(), 5).unwrap();
        simulation.advance(ms(1000));
        let of = |p| simulation.of_process(p, Location::Package(0)).energy.seen_by(Part::Cores);
        simulation.processes().iter().map(of).collect::<Vec<u64>>()
    };
    let same = energies(0.0);
    assert!(same.iter().all(|energy| *energy == same[0]), "{same:?}");
    let different = energies(1.0);
    let parts = different.iter().map(|&energy| energy as f64 / different[0] as f64 - 1.0);
    let largest = parts.map(f64::abs).fold(0.0, f64::max);
    assert!((0.005..0.1).contains(&largest), "{different:?}");
}

#[test]
fn cpu_time_is_complete_and_shared_time_counts_for_both_threads() {
    let (machine, schedule) = everything();
    let mut simulation = Simulation::new(machine, &schedule, 5).unwrap();
    simulation.advance(ms(2500));
    let used = |name: &str| {
        let process = simulation.processes().iter().find(|p| p.name == name).unwrap();
        simulation.of_process(process, Location::Everywhere).used
    };
    assert_eq!(used("pinned").time, 2_500_000_000);
    assert_eq!(used("short-7").time, 3_000_000);
    let beside = used("beside");
    assert_eq!(beside.shared, beside.time, "its core's other CPU is never idle");
    for core in 0..4 {
        let all = simulation.processes().iter().map(|p| simulation.of_process(p, Location::Core(core)).used);
        let (time, shared) = all.fold((0, 0), |sum, used| (sum.0 + used.time, sum.1 + used.shared));
        assert!(shared % 2 == 0 && time - shared / 2 <= 2_500_000_000, "core {core}: {time}, {shared}");
    }
}

#[test]
fn a_seed_gives_the_same_result_however_often_it_is_read() {
    let run = |seed, step: u64| {
        let (mut machine, schedule) = everything();
        machine.meter.noise = 0.02;
        let mut simulation = Simulation::new(machine, &schedule, seed).unwrap();
        (1..=3000 / step).for_each(|n| simulation.advance(ms(n * step)));
        let times: Vec<_> = simulation
            .processes()
            .iter()
            .map(|p| simulation.of_process(p, Location::Everywhere).used.time)
            .collect();
        let shown: Vec<_> = simulation.meters().iter().map(|m| m.shown()).collect();
        (times, shown, simulation.truth().clone())
    };
    assert_eq!(run(5, 100), run(5, 100));
    let (times, _, truth) = run(5, 3000);
    assert_eq!(times, run(5, 1).0);
    assert_ne!(times, run(6, 3000).0);
    let energy = |truth: &truth::Truth| truth.measured(Part::Package, Location::Everywhere) as f64;
    // Each reading ends a stretch of time, and each stretch is rounded to a nanojoule.
    assert!((energy(&truth) / energy(&run(5, 1).2) - 1.0).abs() < 1e-6);
}

/// The plugin's points over `ticks` of 100 ms: last value of each (metric, resource or domain, consumer).
fn points(config: SimulatorConfig, ticks: u32) -> HashMap<(String, String, String), u64> {
    let mut rig = Rig::new();
    rig.start::<Simulator>(config).unwrap();
    let mut last = HashMap::new();
    for batch in rig.ticks(ms(100), ticks).unwrap() {
        for point in rig.points(&batch) {
            let consumer = point.series.consumer.as_ref();
            let consumer = consumer.map_or(String::new(), |c| match c.attribute("process.executable.name") {
                Some(name) => name.to_string(),
                None => c.kind().as_str().to_owned(),
            });
            let location = match &point.series.domain {
                Some(domain) => domain.name.clone(),
                None => format!("{}-{}", point.series.resource.kind.as_str(), point.series.resource.id),
            };
            let before = last.insert((point.metric, location, consumer), point.steps);
            assert!(before.is_none_or(|before| before <= point.steps), "a counter decreased");
        }
    }
    last
}

fn script() -> SimulatorConfig {
    let text = "
        schedule = 'script'
        machine = { packages = 2, cores = 2, threads = 2, meters = ['package', 'core', 'psys'] }
        threads = [
            { process = 'half', cpus = [0], run = '5ms', sleep = '5ms', mix = 'float' },
            { process = 'two', cpus = [1] },
            { process = 'two', cpus = [5] },
            { process = 'short', cpus = [3], copies = 3, every = '300ms', run = '10ms', rounds = 1 },
        ]";
    toml::from_str(text).unwrap()
}

#[test]
fn a_configured_script_gives_points_of_meters_and_processes() {
    let last = points(script(), 10);
    let get = |metric: &str, location: &str, who: &str| {
        last.get(&(metric.to_owned(), location.to_owned(), who.to_owned())).copied()
    };
    let time = |location: &str, who: &str| get("wattrace.consumer.cpu.time", location, who);
    assert_eq!(time("package-0", "half"), Some(500_000_000));
    assert_eq!(time("package-0", "two"), Some(2_000_000_000));
    assert_eq!(get("wattrace.consumer.cpu.shared.time", "package-0", "two"), Some(2_000_000_000));
    assert_eq!(time("package-1", "short-1"), Some(10_000_000));
    assert_eq!((time("package-0", "short-1"), time("package-1", "half")), (None, None));
    assert_eq!(time("package-0", "idle"), Some(1_500_000_000));
    assert_eq!(time("package-1", "idle"), Some(4_000_000_000 - 30_000_000));
    assert_eq!(get("wattrace.consumer.cpu.cycles", "package-0", "two"), Some(6_000_000_000));
    assert_eq!(get("wattrace.consumer.core.time", "core-cpu-1", "two"), Some(2_000_000_000));
    let energy = |domain: &str| get("hw.energy", domain, "").unwrap();
    assert!(energy("package-0") > energy("package-1") && energy("package-1") > 10_000_000);
    assert!(energy("core-cpu-1") > energy("core-cpu-0") && energy("core-cpu-3") > energy("core-cpu-2"));
    let packages = energy("package-0") + energy("package-1");
    assert!(get("hw.host.energy", "psys", "").unwrap() > packages);
}

#[test]
fn the_next_reading_covers_a_failed_one() {
    let whole = points(script(), 40);
    let mut config = script();
    config.machine.meter.dropouts = 0.4;
    let mut rig = Rig::new();
    rig.start::<Simulator>(config).unwrap();
    let (mut at, mut energy, mut points) = (0, 0, 0);
    for batch in rig.ticks(ms(100), 40).unwrap() {
        for point in rig.points(&batch) {
            if point.series.domain.as_ref().is_some_and(|d| d.name == "package-0") {
                assert_eq!(point.window.start, Timestamp(at), "windows leave no gap");
                (at, energy, points) = (point.window.end.0, point.steps, points + 1);
            }
        }
    }
    assert!((10..35).contains(&points), "{points} of 40 readings");
    let watts = |steps: u64, ns: u64| steps as f64 / ns as f64;
    let all = whole[&("hw.energy".to_owned(), "package-0".to_owned(), String::new())];
    assert!((watts(energy, at) / watts(all, 4_000_000_000) - 1.0).abs() < 0.02);
}

#[test]
fn a_process_is_in_the_directory_until_its_series_end_after_their_last_point() {
    let mut rig = Rig::new();
    rig.start::<Simulator>(script()).unwrap();
    let directory = rig.registry.directory().clone();
    let pid = simulation::FIRST_PID + 2;
    rig.tick(Timestamp(5_000_000)).unwrap();
    assert_eq!(directory.process(pid).map(|c| c.kind()), Some(ConsumerKind::Process));
    let batch = rig.tick(Timestamp(100_000_000)).unwrap();
    assert!(batch.ended().is_empty(), "it ran in this window");
    let batch = rig.tick(Timestamp(200_000_000)).unwrap();
    // CPU time, cycles, weighted cycles, instructions and cache misses on the package, and time on the core.
    assert_eq!(batch.ended().len(), 6);
    assert!(directory.process(pid).is_none());
}

#[test]
fn an_invalid_script_is_refused_with_its_key() {
    let error = |text: &str| {
        let config: SimulatorConfig = toml::from_str(text).unwrap();
        Rig::new().start::<Simulator>(config).unwrap_err().to_string()
    };
    assert!(error("schedule = 'script'").contains("plugins.simulator.threads is empty"));
    let one = "schedule = 'script'\nthreads = [{ process = 'a', cpus = [4] }]";
    assert!(error(one).contains("`a` runs on CPU 4: the machine has 0 to 3"));
    assert!(error(&format!("{one}\nmachine = {{ threads = 5 }}")).contains("machine.threads is 5"));
    assert!(error("busy_watts = -1").contains("busy_watts is -1"));
    assert!(error("schedule = 'script'\nthreads = [{}]").contains("has no process"));
}

/// The tree of files, read by the plugin that reads the real one, across many wraps.
#[test]
fn the_rapl_plugin_reads_the_tree_of_files() {
    let root = tempfile::tempdir().unwrap();
    let (mut machine, schedule) = everything();
    // 2^32 counts of a ten-thousandth of a microjoule: it wraps every few hundred milliseconds.
    machine.meter = MeterShape { unit: 1.0, bits: 22, ..MeterShape::default() };
    machine.meters = vec![Part::Package, Part::Cores, Part::Dram, Part::Psys];
    let mut simulation = Simulation::new(machine, &schedule, 5).unwrap();
    let tree = sysfs::SysfsTree::create(root.path(), &simulation).unwrap();
    let mut rig = Rig::new();
    let config = format!("sysfs_root = '{}'\ninterface = 'powercap'", root.path().display());
    rig.start::<wattrace_rapl::Rapl>(toml::from_str(&config).unwrap()).unwrap();
    let mut read = HashMap::new();
    for step in 1..=60 {
        simulation.advance(ms(50 * step));
        tree.write(&simulation).unwrap();
        let batch = rig.tick(Timestamp(step * 50_000_000)).unwrap();
        for point in rig.points(&batch).into_iter().filter(|p| p.metric.ends_with(".energy")) {
            let domain = point.series.domain.clone().unwrap();
            assert_eq!(domain.origin.as_str(), "simulated");
            read.insert(domain.name.clone(), point.steps);
        }
    }
    assert_eq!(read.len(), 7, "{read:?}");
    for meter in simulation.meters() {
        let name = match (meter.part, meter.location) {
            (Part::Package, Location::Package(n)) => format!("package-{n}"),
            (Part::Cores, Location::Package(n)) => format!("core-{n}"),
            (Part::Dram, Location::Package(n)) => format!("dram-{n}"),
            _ => "psys".to_owned(),
        };
        let truth = simulation.truth().measured(meter.part, meter.location) / 1000;
        let behind = truth - read[&name];
        // The meter was updated within the last millisecond.
        assert!(behind < 200_000 && truth > 4_000_000, "{name}: {truth} against {}", read[&name]);
    }
}
