//! Attribution of scripted meters and usage.

use std::collections::HashMap;

use wattrace_api::testing::Rig;
use wattrace_api::{
    Consumer, ConsumerKind, Domain, Follows, Identity, Metric, Origin, Resource, SeriesSpec, Window, metric,
};

use super::*;
use crate::Attribution;
use crate::books::AGENT_ENERGY;

mod intervals;
mod members;
mod parts;
mod random;
mod static_energy;

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
