//! Attribution of scripted meters and usage, and of random histories.

use std::collections::HashMap;

use proptest::prelude::*;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Consumer, ConsumerKind, Domain, Follows, Identity, Metric, Origin, Resource, SeriesSpec, Window, metric,
};

use super::*;
use crate::books::AGENT_ENERGY;
use crate::{Attribution, GpuIdle, Idle};

mod intervals;
mod members;

const SECOND: u64 = 1_000_000_000;

/// A rig with attribution in it, and helpers that open packages' meters and processes.
struct Scene {
    rig: Rig,
}

impl Scene {
    /// With the state that `config` names, but not that of this machine.
    fn new(mut config: AttributionConfig) -> Self {
        if config.state.as_os_str().is_empty() {
            config.state = "none".into();
        }
        let mut rig = Rig::new();
        rig.start::<Attribution>(config).unwrap();
        Self { rig }
    }

    fn open(
        &self,
        metric: &Metric,
        resource: Resource,
        domain: Option<Domain>,
        consumer: Option<Consumer>,
    ) -> SeriesId {
        self.rig.registry.open(SeriesSpec {
            metric: self.rig.registry.metric(metric).unwrap(),
            resource,
            domain: domain.map(Arc::new),
            consumer: consumer.map(Arc::new),
            attributes: Vec::new(),
            start: self.rig.clock.now(),
        })
    }

    fn meter(&self, name: &str, package: Option<u32>) -> SeriesId {
        let (name, origin) = (name.to_string(), Origin::Simulated);
        let follows = Follows::package_or_all(package);
        let domain = Domain { name, origin, follows, within: None, idle_microwatts: None };
        self.open(&metric::HW_ENERGY, Resource::package(package.unwrap_or(0)), Some(domain), None)
    }

    fn process(&self, pid: u32, package: u32) -> SeriesId {
        let id = pid.to_string().into();
        let identity = Identity { kind: ConsumerKind::Process, id, start_unix_nano: 1 };
        let consumer = Consumer::new(identity, None, Vec::new());
        self.open(&metric::CONSUMER_CPU_TIME, Resource::package(package), None, Some(consumer))
    }

    fn closing(&self, kind: ConsumerKind, package: u32) -> SeriesId {
        self.open(&metric::CONSUMER_CPU_TIME, Resource::package(package), None, Some(Consumer::closing(kind)))
    }

    /// Passes one segment through attribution and returns the batch that comes out.
    fn pass(&mut self, start: u64, end: u64, points: &[(SeriesId, u64)]) -> Batch {
        let batch = self.rig.batch(Window::new(Timestamp(start), Timestamp(end)), points);
        self.rig.pass(batch).unwrap()
    }

    /// Last value in microjoules per (domain, consumer), and the sum of all residuals' magnitudes.
    fn books(&self, batches: &[Batch]) -> (HashMap<(String, String), u64>, f64) {
        let (mut books, mut residual) = (HashMap::new(), 0.0);
        for point in batches.iter().flat_map(|b| self.rig.points(b)) {
            let domain = point.series.domain.as_ref().map(|d| d.name.clone()).unwrap_or_default();
            if point.metric == metric::DOMAIN_RESIDUAL.name {
                residual += point.value.abs();
            }
            if point.metric == metric::CONSUMER_ENERGY.name {
                let consumer = point.series.consumer.clone().unwrap();
                let name = format!("{}{}", consumer.kind().as_str(), consumer.identity().id);
                let old = books.insert((domain, name), point.steps);
                assert!(old.is_none_or(|old| old <= point.steps), "a counter went backwards");
            }
        }
        (books, residual)
    }
}

fn with_idle_watts(domain: &str, watts: f64) -> AttributionConfig {
    let idle_watts = [(domain.to_string(), watts)].into();
    AttributionConfig { idle_watts, state: "none".into(), ..Default::default() }
}

/// Domains that draw nothing at no load, so that all energy is the users'.
fn without_static_power() -> AttributionConfig {
    let domains = ["package-0", "package-1", "psys", "core-cpu-0", "core-cpu-2"];
    let idle_watts = domains.map(|domain| (domain.to_owned(), 0.0)).into();
    AttributionConfig { idle_watts, state: "none".into(), ..Default::default() }
}

#[test]
fn idle_watts_of_a_domain_that_does_not_appear_are_reported_once() {
    let mut config = with_idle_watts("package-0", 10.0);
    config.idle_watts.insert("packag-0".into(), 10.0);
    let scene = Scene::new(config.clone());
    scene.meter("package-0", Some(0));
    let mut transformer = Transformer::open(&config, scene.rig.registry.clone()).unwrap();
    assert_eq!(transformer.absent, ["packag-0"], "the other one has appeared");
    let message = transformer.take_absent().unwrap();
    assert_eq!(message, "plugins.attribution.idle_watts: there is no domain packag-0; there are package-0");
    assert_eq!(transformer.take_absent(), None);
}

#[test]
fn energy_and_usage_from_before_attribution_started_do_not_count() {
    let mut scene = Scene::new(AttributionConfig::default());
    let (meter, process) = (scene.meter("package-0", Some(0)), scene.process(1, 0));
    let hour = 3600 * SECOND;
    // An hour of history, in the first points that attribution sees.
    let first = scene.pass(hour, hour + SECOND, &[(process, 600 * SECOND), (meter, 36_000_000_000)]);
    assert_eq!(first.len(), 2, "a first point that only sets the reference closes no window");
    let second =
        scene.pass(hour + SECOND, hour + 2 * SECOND, &[(process, 601 * SECOND), (meter, 36_010_000_000)]);
    let (books, residual) = scene.books(&[first, second]);
    assert_eq!(books.values().sum::<u64>(), 10_000_000, "{books:?}");
    assert_eq!(residual, 0.0);
}

#[test]
fn the_agents_own_share_has_a_series_of_its_own_as_well() {
    let mut scene = Scene::new(without_static_power());
    let meter = scene.meter("package-0", Some(0));
    let (agent, other) = (scene.process(std::process::id(), 0), scene.process(1, 0));
    let batch = scene.pass(0, SECOND, &[(agent, SECOND / 4), (other, 3 * SECOND / 4), (meter, 40_000_000)]);
    let of = |metric: &str| {
        let points = scene.rig.points(&batch).into_iter().filter(|p| p.metric == metric);
        points.map(|p| p.steps).collect::<Vec<_>>()
    };
    assert_eq!(of(&AGENT_ENERGY.name), [10_000_000]);
    assert!(of(&metric::CONSUMER_ENERGY.name).contains(&10_000_000), "it is a consumer like any other");
}

#[test]
fn dynamic_energy_is_divided_by_cpu_time_and_static_energy_goes_to_idle() {
    let mut s = Scene::new(with_idle_watts("package-0", 10.0));
    let (idle, a, b) = (s.closing(ConsumerKind::Idle, 0), s.process(1, 0), s.process(2, 0));
    let meter = s.meter("package-0", Some(0));
    // Two CPUs for a second, 60 % and 30 % busy: 10 W idle and 20 W per busy CPU make 28 J.
    let ms = SECOND / 1000;
    let usage = s.pass(0, SECOND, &[(idle, 1100 * ms), (a, 600 * ms), (b, 300 * ms)]);
    let energy = s.pass(0, SECOND, &[(meter, 28_000_000)]);
    let (books, residual) = s.books(&[usage, energy]);
    let of = |name: &str| books[&("package-0".to_string(), name.to_string())];
    assert_eq!((of("idle"), of("unattributed"), residual), (10_000_000, 0, 0.0));
    assert!(of("process1").abs_diff(12_000_000) <= 1 && of("process2").abs_diff(6_000_000) <= 1, "{books:?}");
}

#[test]
fn before_anything_is_learnt_static_power_is_what_such_hardware_usually_draws() {
    let mut s = Scene::new(AttributionConfig::default());
    let (idle, a) = (s.closing(ConsumerKind::Idle, 0), s.process(1, 0));
    let meter = s.meter("package-0", Some(0));
    // One of two CPUs busy for 10 ms, at 10 W at no load and 20 W per busy CPU.
    let ms = SECOND / 1000;
    let batch = s.pass(0, 10 * ms, &[(idle, 10 * ms), (a, 10 * ms), (meter, 300_000)]);
    let (books, residual) = s.books(&[batch]);
    let of = |name: &str| books[&("package-0".to_string(), name.to_string())];
    assert_eq!((of("idle"), of("process1"), of("unattributed"), residual), (100_000, 200_000, 0, 0.0));
}

#[test]
fn a_packages_energy_goes_to_its_own_users() {
    let mut s = Scene::new(without_static_power());
    let (zero, one) = (s.process(1, 0), s.process(2, 1));
    let (m0, m1, host) =
        (s.meter("package-0", Some(0)), s.meter("package-1", Some(1)), s.meter("psys", None));
    let batches =
        [s.pass(0, 100, &[(zero, 60), (one, 30)]), s.pass(0, 100, &[(m0, 5000), (m1, 7000), (host, 9000)])];
    let (books, _) = s.books(&batches);
    let of = |d: &str, c: &str| books.get(&(d.to_string(), c.to_string())).copied();
    assert_eq!((of("package-0", "process1"), of("package-0", "process2")), (Some(5000), None));
    assert_eq!((of("package-1", "process1"), of("package-1", "process2")), (None, Some(7000)));
    assert_eq!((of("psys", "process1"), of("psys", "process2")), (Some(6000), Some(3000)));
}

#[test]
fn an_energy_window_across_two_usage_windows_waits_for_the_second_and_uses_both() {
    let mut s = Scene::new(without_static_power());
    let a = s.process(1, 0);
    s.rig.clock.set(Timestamp(50));
    let meter = s.meter("package-0", Some(0));
    s.rig.clock.set(Timestamp(100));
    let b = s.process(2, 0);
    let first = s.pass(0, 100, &[(a, 100)]);
    let waiting = s.pass(50, 150, &[(meter, 1000)]);
    assert_eq!(waiting.len(), 1, "usage from 100 to 150 is not known yet");
    let second = s.pass(100, 200, &[(b, 50)]);
    let (books, residual) = s.books(&[first, waiting, second]);
    // 50 ns of a and 25 ns of b.
    let of = |name: &str| books[&("package-0".to_string(), name.to_string())];
    assert!(of("process1").abs_diff(667) <= 1 && of("process2").abs_diff(333) <= 1, "{books:?}");
    assert_eq!((of("idle") + of("unattributed"), residual), (0, 0.0));
}

#[test]
fn energy_from_before_usage_was_known_is_unattributed() {
    let mut s = Scene::new(without_static_power());
    let meter = s.meter("package-0", Some(0));
    s.rig.clock.set(Timestamp(100));
    let a = s.process(1, 0);
    let batches = [s.pass(100, 200, &[(a, 100)]), s.pass(0, 200, &[(meter, 1000)])];
    let (books, _) = s.books(&batches);
    let of = |name: &str| books[&("package-0".to_string(), name.to_string())];
    assert_eq!((of("unattributed"), of("process1")), (500, 500));
}

#[test]
fn a_consumers_energy_ends_with_its_last_window() {
    let mut s = Scene::new(without_static_power());
    let (a, meter) = (s.process(1, 0), s.meter("package-0", Some(0)));
    s.pass(0, 100, &[(meter, 10)]);
    let mut last = s.rig.batch(Window::new(Timestamp(0), Timestamp(100)), &[(a, 100)]);
    last.end(a);
    let closed = s.rig.pass(last).unwrap();
    let energy: Vec<_> =
        s.rig.points(&closed).into_iter().filter(|p| p.metric == "wattrace.consumer.energy").collect();
    let of_a = energy.iter().find(|p| p.series.consumer.as_ref().unwrap().identity().id == "1").unwrap();
    assert_eq!(of_a.steps, 10);
    assert_eq!(closed.ended(), &[a, of_a.id], "the energy was final in this batch, so both end here");
}

#[test]
fn a_consumers_energy_stays_open_for_a_slow_meter_but_no_longer_than_the_history() {
    let config = AttributionConfig { history: std::time::Duration::from_nanos(1000), ..Default::default() };
    let mut s = Scene::new(config);
    let (a, b, meter) = (s.process(1, 0), s.process(2, 0), s.meter("package-0", Some(0)));
    s.pass(0, 1, &[(meter, 1)]);
    let mut last = s.rig.batch(Window::new(Timestamp(0), Timestamp(100)), &[(a, 100)]);
    last.end(a);
    assert_eq!(s.rig.pass(last).unwrap().ended().len(), 1, "only the usage; the meter is at 1");
    let mut ended = Vec::new();
    for i in 1..20u64 {
        ended.extend_from_slice(s.pass(i * 100, i * 100 + 100, &[(b, i)]).ended());
    }
    assert_eq!(ended.len(), 1, "its energy of window 0 to 1");
    // Energy that the meter reports for the forgotten time is unattributed.
    let late = s.pass(1, 1901, &[(meter, 1901)]);
    let (books, residual) = s.books(&[late]);
    assert!(books[&("package-0".to_string(), "unattributed".to_string())] >= 800);
    assert_eq!(residual, 0.0);
}

#[test]
fn a_meter_that_ends_closes_and_ends_its_account() {
    let mut s = Scene::new(AttributionConfig::default());
    let (a, meter) = (s.process(1, 0), s.meter("package-0", Some(0)));
    s.pass(0, 100, &[(a, 10)]);
    let mut last = s.rig.batch(Window::new(Timestamp(0), Timestamp(200)), &[(meter, 1000)]);
    last.end(meter);
    let batch = s.rig.pass(last).unwrap();
    let (books, _) = s.books(std::slice::from_ref(&batch));
    let total: u64 = books.values().sum();
    assert_eq!(total, 1000, "closed with what there was: {books:?}");
    // The meter's own series, idle, unattributed, residual, the process's energy, the intervals of it and of
    // idle, static power and its error, and two for each kind of weights.
    assert_eq!(batch.ended().len(), 13);
}

/// Energy by consumer for a second on two CPUs, of which one process used 0.6 s and another 0.3 s, at 10 W at
/// no load and 20 W per busy CPU.
fn by_policy(idle: Idle) -> HashMap<String, u64> {
    let mut s = Scene::new(AttributionConfig { idle, ..with_idle_watts("package-0", 10.0) });
    let (nobody, a, b) = (s.closing(ConsumerKind::Idle, 0), s.process(1, 0), s.process(2, 0));
    let meter = s.meter("package-0", Some(0));
    let ms = SECOND / 1000;
    let points = [(nobody, 1100 * ms), (a, 600 * ms), (b, 300 * ms), (meter, 28_000_000)];
    let batch = s.pass(0, SECOND, &points);
    let (books, residual) = s.books(std::slice::from_ref(&batch));
    assert_eq!((books.values().sum::<u64>(), residual), (28_000_000, 0.0));
    let shared_out =
        s.rig.points(&batch).into_iter().filter(|p| p.metric == "wattrace.consumer.energy.static");
    let shared_out: u64 = shared_out.map(|p| p.steps).sum();
    let mut books: HashMap<_, _> =
        books.into_iter().map(|((_, consumer), energy)| (consumer, energy)).collect();
    books.insert("static".to_owned(), shared_out);
    books
}

#[test]
fn static_energy_goes_where_the_policy_says_and_has_its_own_series() {
    let near = |a: u64, b: u64| a.abs_diff(b) <= 1;
    for (policy, one, two, idle, shared_out) in [
        (Idle::Separate, 12_000_000, 6_000_000, 10_000_000, 0),
        (Idle::ByUsage, 12_000_000 + 6_666_667, 6_000_000 + 3_333_333, 0, 10_000_000),
        (Idle::Even, 17_000_000, 11_000_000, 0, 10_000_000),
        (Idle::None, 18_666_667, 9_333_333, 0, 0),
    ] {
        let books = by_policy(policy);
        assert!(near(books["process1"], one) && near(books["process2"], two), "{policy:?}: {books:?}");
        assert_eq!((books["idle"], books["static"]), (idle, shared_out), "{policy:?}");
    }
}

#[test]
fn threads_divide_the_energy_of_their_process() {
    let mut s = Scene::new(with_idle_watts("package-0", 10.0));
    let (nobody, a, b) = (s.closing(ConsumerKind::Idle, 0), s.process(1, 0), s.process(2, 0));
    let thread = |tid: u32, pid: u32| {
        let identity = |kind, id: u32| Identity { kind, id: id.to_string().into(), start_unix_nano: 1 };
        let process = identity(ConsumerKind::Process, pid);
        let thread = Consumer::new(identity(ConsumerKind::Thread, tid), Some(process), Vec::new());
        s.open(&metric::CONSUMER_CPU_TIME, Resource::package(0), None, Some(thread))
    };
    let (one, two, three) = (thread(11, 1), thread(12, 1), thread(13, 2));
    let meter = s.meter("package-0", Some(0));
    let ms = SECOND / 1000;
    let used = [(nobody, 1100 * ms), (a, 600 * ms), (b, 300 * ms)];
    let of_which = [(one, 200 * ms), (two, 400 * ms), (three, 300 * ms), (meter, 28_000_000)];
    let batch = s.pass(0, SECOND, &[&used[..], &of_which[..]].concat());
    let (books, residual) = s.books(&[batch]);
    let of = |name: &str| books[&("package-0".to_string(), name.to_string())];
    assert_eq!(residual, 0.0);
    assert_eq!(of("process1") + of("process2") + of("idle"), 28_000_000);
    assert_eq!((of("thread11") + of("thread12"), of("thread13")), (of("process1"), of("process2")));
    assert!(of("thread12").abs_diff(8_000_000) <= 1, "{books:?}");
}

#[test]
fn a_cores_energy_is_divided_by_the_use_of_that_core() {
    let mut s = Scene::new(without_static_power());
    let of_core = |s: &Scene, cpu, pid: u32| {
        let identity =
            Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: 1 };
        let consumer = Consumer::new(identity, None, Vec::new());
        s.open(&metric::CONSUMER_CORE_TIME, Resource::core(cpu), None, Some(consumer))
    };
    let (a, b) = (of_core(&s, 0, 1), of_core(&s, 2, 2));
    let domain = |name: &str, follows| {
        let (name, origin) = (name.to_owned(), Origin::Simulated);
        Some(Domain { name, origin, follows, within: None, idle_microwatts: None })
    };
    let zero = s.open(&metric::HW_ENERGY, Resource::core(0), domain("core-cpu-0", Follows::Core(0)), None);
    let two = s.open(&metric::HW_ENERGY, Resource::core(2), domain("core-cpu-2", Follows::Core(2)), None);
    let batch = s.pass(0, SECOND, &[(a, SECOND), (b, SECOND / 2), (zero, 7), (two, 9)]);
    let (books, _) = s.books(&[batch]);
    let of = |d: &str, c: &str| books.get(&(d.to_owned(), c.to_owned())).copied();
    assert_eq!((of("core-cpu-0", "process1"), of("core-cpu-0", "process2")), (Some(7), None));
    assert_eq!((of("core-cpu-2", "process1"), of("core-cpu-2", "process2")), (None, Some(9)));
}

/// Energy by domain and consumer for a GPU that one process uses for half of the first second only, while
/// another one holds memory of it.
fn gpu(config: AttributionConfig) -> HashMap<(String, String), u64> {
    let mut s = Scene::new(config);
    let gpu = || Resource::gpu("GPU-1".to_owned());
    let process = |pid: u32| {
        let identity =
            Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: 1 };
        Consumer::new(identity, None, Vec::new())
    };
    let (name, origin, follows) = ("gpu-GPU-1".to_owned(), Origin::Simulated, Follows::Device(gpu()));
    let domain = Domain { name, origin, follows, within: None, idle_microwatts: None };
    let meter = s.open(&metric::HW_ENERGY, gpu(), Some(domain), None);
    let user = s.open(&metric::CONSUMER_GPU_TIME, gpu(), None, Some(process(1)));
    let holder = s.open(&metric::CONSUMER_GPU_MEMORY, gpu(), None, Some(process(2)));
    // CPU time of the same second does not count.
    let elsewhere = s.process(3, 0);
    let mut held = Batch::default();
    held.begin(Window::new(Timestamp(0), Timestamp(SECOND)));
    held.push(holder, wattrace_api::Value::of_gauge(1e9));
    let held = s.rig.pass(held).unwrap();
    let used = s.pass(0, SECOND, &[(elsewhere, SECOND), (user, SECOND / 2)]);
    let energy = s.pass(0, SECOND, &[(meter, 150_000_000)]);
    // A second without use, which is reported as such.
    let rest = s.pass(SECOND, 2 * SECOND, &[(user, SECOND / 2), (meter, 200_000_000)]);
    let (books, residual) = s.books(&[held, used, energy, rest]);
    assert_eq!(residual, 0.0);
    books
}

#[test]
fn a_gpus_energy_is_divided_by_engine_time_and_its_static_part_by_policy() {
    let config = with_idle_watts("gpu-GPU-1", 50.0);
    let of = |books: &HashMap<_, u64>, c: &str| books.get(&("gpu-GPU-1".to_owned(), c.to_owned())).copied();
    let books = gpu(config.clone());
    let parts = ["process1", "process2", "process3", "idle"].map(|c| of(&books, c));
    assert_eq!(parts, [Some(100_000_000), None, None, Some(100_000_000)]);
    let books = gpu(AttributionConfig { gpu_idle: GpuIdle::Holder, ..config });
    let parts = ["process1", "process2", "process3", "idle"].map(|c| of(&books, c));
    assert_eq!(parts, [Some(100_000_000), Some(100_000_000), None, Some(0)]);
}

#[test]
fn learnt_static_power_is_kept_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = AttributionConfig { state: directory.path().join("state.json"), ..Default::default() };
    // Loads of 0 to 90 %, at 10 W at no load and 20 W at full load.
    let run = |loads: &[u64]| {
        let mut s = Scene::new(config.clone());
        let (nobody, a, meter) =
            (s.closing(ConsumerKind::Idle, 0), s.process(1, 0), s.meter("package-0", Some(0)));
        let (mut used, mut energy, mut last) = (0, 0, 0);
        for (i, tenths) in loads.iter().enumerate() {
            let (i, before) = (i as u64, last);
            used += tenths * SECOND / 10;
            energy += 10_000_000 + tenths * 1_000_000;
            let idle = (i + 1) * SECOND - used;
            let batch = s.pass(i * SECOND, (i + 1) * SECOND, &[(nobody, idle), (a, used), (meter, energy)]);
            let (books, _) = s.books(&[batch]);
            last = books[&("package-0".to_owned(), "idle".to_owned())];
            if i + 1 == loads.len() as u64 {
                s.rig.transforms.iter_mut().for_each(|(_, t)| t.finish(&mut Batch::default()).unwrap());
                return last - before;
            }
        }
        unreachable!("there is a last load")
    };
    run(&[0, 1, 5, 9, 0, 3, 7, 9, 2, 5]);
    let idle = run(&[9]);
    assert!(idle.abs_diff(10_000_000) < 100_000, "the first window of a new run: {idle} uJ");
    std::fs::write(&config.state, "{").unwrap();
    let idle = run(&[9]);
    assert!(idle < 9_000_000, "a broken file is ignored: {idle} uJ");
}

proptest! {
    /// Whatever the windows, gaps and overlaps: the books sum to what was measured.
    #[test]
    fn the_books_close_over_random_histories(
        usage in prop::collection::vec((1..400u64, 0..300u64, 0..300u64, 0..300u64, any::<bool>()), 1..40),
        energy in prop::collection::vec((1..700u64, 0..50_000u64), 1..40),
        idle_watts in prop::option::of(0.0..1e6f64),
    ) {
        let config = idle_watts.map_or_else(AttributionConfig::default, |w| with_idle_watts("package-0", w));
        let mut s = Scene::new(config);
        let idle = s.closing(ConsumerKind::Idle, 0);
        let meter = s.meter("package-0", Some(0));
        let (mut pid, mut process, mut totals) = (1, s.process(1, 0), [0u64; 2]);
        let (mut now, mut read, mut measured) = (0, 0, 0);
        let mut batches = Vec::new();
        let mut steps = energy.iter();
        for (length, gap, busy, idling, ends) in usage {
            let start = now + gap / 100;
            totals[0] += busy;
            totals[1] += idling;
            now = start + length;
            let window = Window::new(Timestamp(start), Timestamp(now));
            let mut batch = s.rig.batch(window, &[(process, totals[0]), (idle, totals[1])]);
            if ends {
                batch.end(process);
                pid += 1;
                process = s.process(pid, 0);
                totals[0] = 0;
            }
            batches.push(s.rig.pass(batch).unwrap());
            if let Some(&(length, microjoules)) = steps.next() {
                measured += microjoules;
                batches.push(s.pass(read, read + length, &[(meter, measured)]));
                read += length;
            }
        }
        let mut rest = Batch::default();
        for (_, transform) in &mut s.rig.transforms {
            transform.finish(&mut rest).unwrap();
        }
        batches.push(rest);
        let (books, residual) = s.books(&batches);
        prop_assert_eq!(books.values().sum::<u64>(), measured, "{:?}", books);
        prop_assert_eq!(residual, 0.0);
    }
}
