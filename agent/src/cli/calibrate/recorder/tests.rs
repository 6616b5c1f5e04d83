//! Windows belong to steps, and CPU time to the load or to other processes.

use wattrace_api::testing::Rig;
use wattrace_api::{Consumer, Identity, Metric, Resource, SeriesId, SeriesSpec, Value, metric};

use super::*;

fn consumer(kind: ConsumerKind, id: u32) -> Option<Arc<Consumer>> {
    let id = if kind == ConsumerKind::Process { id.to_string().into() } else { "".into() };
    Some(Arc::new(Consumer::new(Identity { kind, id, start_unix_nano: 0 }, None, Vec::new())))
}

fn open(rig: &Rig, what: &Metric, consumer: Option<Arc<Consumer>>) -> SeriesId {
    let metric = rig.registry.metric(what).unwrap();
    rig.registry.open(SeriesSpec { consumer, ..SeriesSpec::new(metric, Resource::package(0), Timestamp(0)) })
}

fn recorder(rig: &Rig, since: u64) -> (CalibrationRecorder, Arc<Mutex<Recording>>) {
    let recording = Arc::new(Mutex::new(Recording::default()));
    (CalibrationRecorder::new(recording.clone(), rig.registry.clone(), Timestamp(since)), recording)
}

fn meter(rig: &Rig, name: &str, origin: Origin) -> SeriesId {
    let metric = rig.registry.metric(&metric::HW_ENERGY).unwrap();
    let follows = Follows::Package(0);
    let domain = Domain { name: name.to_owned(), origin, follows, within: None, idle_microwatts: None };
    let domain = Some(Arc::new(domain));
    rig.registry.open(SeriesSpec { domain, ..SeriesSpec::new(metric, Resource::package(0), Timestamp(0)) })
}

#[test]
fn the_means_of_a_step_are_over_the_windows_within_it() {
    let rig = Rig::new();
    let energy = meter(&rig, "package-0", Origin::Simulated);
    let time = &metric::CONSUMER_CPU_TIME;
    let idle = open(&rig, time, consumer(ConsumerKind::Idle, 0));
    let own = open(&rig, time, consumer(ConsumerKind::Process, std::process::id()));
    let other = open(&rig, time, consumer(ConsumerKind::Process, 1));
    let container = open(&rig, time, consumer(ConsumerKind::Container, 0));
    let cycles = open(&rig, &metric::CONSUMER_COUNTS[0], consumer(ConsumerKind::Process, 1));
    let (mut recorder, recording) = recorder(&rig, 0);
    let second = 1_000_000_000;
    // Each second: 30 J; of two CPUs one is idle, 0.8 s are this process's and 0.2 s another's, at 2.5 GHz.
    for n in 1..=4 {
        let points = [
            (energy, n * 30_000_000),
            (idle, n * second),
            (own, n * second / 5 * 4),
            (other, n * second / 5),
            (container, n * second),
            (cycles, n * second * 5 / 2),
        ];
        let window = Window::new(Timestamp((n - 1) * second), Timestamp(n * second));
        let mut batch = rig.batch(window, &points);
        if n == 4 {
            batch.end(other);
        }
        recorder.record(&batch);
    }
    let recording = lock(&recording);
    assert_eq!(recording.missing(), None);
    let span = Window::new(Timestamp(second / 2), Timestamp(3 * second));
    let means = recording.means(Step::Level(2), span);
    assert_eq!(means.len(), 1);
    let mean = &means[0];
    assert_eq!((&*mean.domain, mean.is_package, mean.watts), ("package-0", true, 30.0));
    assert_eq!((mean.busy, mean.others, mean.shared, mean.mhz), (0.5, 0.1, 0.0, Some(2500.0)));
    assert!(recording.means(Step::Level(2), Window::new(Timestamp(0), Timestamp(1))).is_empty());
}

#[test]
fn an_estimate_is_not_a_meter_for_calibration() {
    let rig = Rig::new();
    let estimate = meter(&rig, "package-0", Origin::Estimated);
    let (mut recorder, recording) = recorder(&rig, 0);
    let window = Window::new(Timestamp(0), Timestamp(10));
    recorder.record(&rig.batch(window, &[(estimate, 5)]));
    assert!(lock(&recording).missing().unwrap().contains("sched"));
    let idle = open(&rig, &metric::CONSUMER_CPU_TIME, consumer(ConsumerKind::Idle, 0));
    recorder.record(&rig.batch(window, &[(idle, 5)]));
    assert!(lock(&recording).missing().unwrap().contains("meter"));
}

#[test]
fn the_first_window_of_a_counter_from_before_the_recorder_does_not_count() {
    let rig = Rig::new();
    let energy = meter(&rig, "package-0", Origin::Measured);
    let idle = open(&rig, &metric::CONSUMER_CPU_TIME, consumer(ConsumerKind::Idle, 0));
    let (mut recorder, recording) = recorder(&rig, 50);
    let mut batch = Batch::default();
    for (from, to, microjoules) in [(100, 200, 999), (200, 300, 1_000)] {
        batch.begin(Window::new(Timestamp(from), Timestamp(to)));
        batch.push(energy, Value::of_steps(microjoules));
        batch.push(idle, Value::of_steps(to));
    }
    recorder.record(&batch);
    let means = lock(&recording).means(Step::Pairs, Window::new(Timestamp(0), Timestamp(300)));
    // One microjoule in 100 ns.
    assert_eq!(means[0].watts, 10.0);
}
