//! What counts since the command began, and whose it is.

use wattrace_api::testing::Rig;
use wattrace_api::{Follows, Identity, Origin, Resource, SeriesId, SeriesSpec, Value, Window, metric};

use super::*;
use crate::cli::exec::report::Report;
use crate::cli::exec::selection::Selection;

fn domain(within: Option<&str>) -> Option<Arc<Domain>> {
    let name = if within.is_some() { "core-0" } else { "package-0" }.to_owned();
    let (origin, follows) = (Origin::Measured, Follows::Package(0));
    let within = within.map(str::to_owned);
    Some(Arc::new(Domain { name, origin, follows, within, idle_microwatts: None }))
}

fn open(rig: &Rig, start: u64, spec: impl FnOnce(SeriesSpec) -> SeriesSpec) -> SeriesId {
    let energy = rig.registry.metric(&metric::HW_ENERGY).unwrap();
    rig.registry.open(spec(SeriesSpec::new(energy, Resource::package(0), Timestamp(start))))
}

fn recorder(rig: &Rig) -> (CommandRecorder, Arc<Mutex<Recording>>) {
    let recording = Arc::new(Mutex::new(Recording::default()));
    (CommandRecorder::new(recording.clone(), rig.registry.clone(), Timestamp(100)), recording)
}

fn window(start: u64, end: u64) -> Window {
    Window::new(Timestamp(start), Timestamp(end))
}

#[test]
fn only_what_is_used_after_the_command_began_counts() {
    let rig = Rig::new();
    let (mut recorder, recording) = recorder(&rig);
    let meter = open(&rig, 100, |s| SeriesSpec { domain: domain(None), ..s });
    let part = open(&rig, 100, |s| SeriesSpec { domain: domain(Some("package-0")), ..s });
    recorder.record(&rig.batch(window(100, 200), &[(meter, 500), (part, 50)]));
    lock(&recording).reset();
    recorder.record(&rig.batch(window(200, 300), &[(meter, 700), (part, 60)]));
    let recording = lock(&recording);
    let measured: Vec<_> = recording.domains.iter().map(|d| (d.measured, d.counts_in_totals)).collect();
    assert_eq!(measured, [(200, true), (10, false)]);
}

#[test]
fn a_counter_from_before_the_recorder_or_one_that_goes_back_adds_nothing() {
    let rig = Rig::new();
    let (mut recorder, recording) = recorder(&rig);
    let meter = open(&rig, 5, |s| SeriesSpec { domain: domain(None), ..s });
    for (value, expected) in [(9_000, 0), (9_010, 10), (40, 10), (45, 15)] {
        recorder.record(&rig.batch(window(200, 300), &[(meter, value)]));
        assert_eq!(lock(&recording).domains[0].measured, expected);
    }
}

#[test]
fn the_cpu_time_of_a_process_is_the_sum_over_its_packages() {
    let rig = Rig::new();
    let (mut recorder, recording) = recorder(&rig);
    let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 0 };
    let process = Arc::new(Consumer::new(identity, None, Vec::new()));
    let time = rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
    let [first, second] = [0, 1].map(|package| {
        let consumer = Some(process.clone());
        let spec = SeriesSpec::new(time, Resource::package(package), Timestamp(150));
        rig.registry.open(SeriesSpec { consumer, ..spec })
    });
    recorder.record(&rig.batch(window(100, 200), &[(first, 30), (second, 4)]));
    let mut last = rig.batch(window(200, 300), &[(first, 31)]);
    last.end(first);
    recorder.record(&last);
    let recording = lock(&recording);
    assert_eq!((recording.processes.len(), recording.processes[0].cpu_time), (1, 35));
}

#[test]
fn intervals_are_those_of_the_last_point_and_belong_to_the_process_and_the_domain() {
    let rig = Rig::new();
    let (mut recorder, recording) = recorder(&rig);
    let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 0 };
    let process = Arc::new(Consumer::new(identity, None, Vec::new()));
    let uncertainty = rig.registry.metric(&metric::CONSUMER_ENERGY_UNCERTAINTY).unwrap();
    let [own, idle] = [process, Arc::new(Consumer::closing(ConsumerKind::Idle))].map(|consumer| {
        let spec = SeriesSpec::new(uncertainty, Resource::package(0), Timestamp(150));
        rig.registry.open(SeriesSpec { consumer: Some(consumer), domain: domain(None), ..spec })
    });
    for value in [0.25, 0.75] {
        lock(&recording).reset();
        let mut batch = Batch::default();
        batch.begin(window(100, 200));
        batch.push(own, Value::of_gauge(value));
        batch.push(idle, Value::of_gauge(2.0 * value));
        recorder.record(&batch);
    }
    let recording = lock(&recording);
    assert_eq!(recording.processes[0].uncertainty, [0.75]);
    assert_eq!(recording.domains[0].idle_interval(), Some(1.5 - 0.5), "since the command began");
    assert_eq!((recording.domains[0].idle, recording.processes[0].energy.len()), (0, 0));
}

/// As with `plugins.sched.irq = "separate"`, and with a limit on the number of consumers.
#[test]
fn the_energy_of_interrupts_and_of_everyone_else_is_other_and_the_report_closes() {
    let rig = Rig::new();
    let (mut recorder, recording) = recorder(&rig);
    let consumers = [
        Arc::new(Consumer::new(
            Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 0 },
            None,
            Vec::new(),
        )),
        Arc::new(Consumer::closing(ConsumerKind::Irq)),
        Arc::new(Consumer::closing(ConsumerKind::Other)),
        Arc::new(Consumer::closing(ConsumerKind::Idle)),
        Arc::new(Consumer::closing(ConsumerKind::Unattributed)),
    ];
    let energy = rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap();
    let parts = consumers.map(|consumer| {
        let spec = SeriesSpec::new(energy, Resource::package(0), Timestamp(100));
        rig.registry.open(SeriesSpec { consumer: Some(consumer), domain: domain(None), ..spec })
    });
    let meter = open(&rig, 100, |s| SeriesSpec { domain: domain(None), ..s });
    for factor in [1, 3] {
        let mut points: Vec<_> = parts.into_iter().zip([40, 9, 6, 30, 15].map(|of| of * factor)).collect();
        points.push((meter, 100 * factor));
        lock(&recording).reset();
        recorder.record(&rig.batch(window(100 * factor, 200 * factor), &points));
    }
    let recording = lock(&recording);
    let domain = &recording.domains[0];
    assert_eq!((domain.measured, domain.other), (200, 30), "since the command began");
    let nobody = Selection::of_all(|_| false, false, &recording);
    let report = Report::new(&[], 0, 0..1, &nobody, &recording);
    let domain = serde_json::to_value(report).unwrap()["domains"][0].take();
    let joules = |key: &str| domain[key].as_f64().unwrap();
    let sum = ["command_j", "other_j", "idle_j", "unattributed_j"].map(joules).iter().sum::<f64>();
    assert!((sum - joules("measured_j")).abs() < 1e-12, "{domain:#}");
    assert!(
        (joules("other_j") - 110e-6).abs() < 1e-12,
        "another process, and what is no process's: {domain:#}"
    );
}
