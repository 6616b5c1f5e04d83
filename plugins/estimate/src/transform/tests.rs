//! Loads whose energy is known.

use wattrace_api::testing::{Point, Rig};
use wattrace_api::{Consumer, ErrorKind};

use super::*;
use crate::Estimate;
use crate::profile::tests::profile;

/// 10 W idle, 70 W busy: whole microjoules are rare in odd windows.
fn config() -> EstimateConfig {
    EstimateConfig { idle_watts: 10.0, full_watts: 70.0, ..EstimateConfig::default() }
}

fn started(config: EstimateConfig) -> Rig {
    let mut rig = Rig::new();
    rig.start::<Estimate>(config).unwrap();
    rig
}

fn cpu_time(rig: &Rig, package: u32, kind: ConsumerKind) -> SeriesId {
    rig.registry.open(SeriesSpec {
        metric: rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap(),
        resource: Resource::package(package),
        domain: None,
        consumer: Some(Arc::new(Consumer::closing(kind))),
        attributes: Vec::new(),
        start: Timestamp(0),
    })
}

fn window(start: u64, end: u64) -> Window {
    Window::new(Timestamp(start), Timestamp(end))
}

fn energies(rig: &mut Rig, batch: Batch) -> Vec<Point> {
    let batch = rig.pass(batch).unwrap();
    let points = rig.points(&batch);
    points.into_iter().filter(|p| p.metric == "hw.energy").collect()
}

#[test]
fn the_energy_of_a_known_load_is_exact() {
    let mut rig = started(config());
    let (idle, irq) = (cpu_time(&rig, 0, ConsumerKind::Idle), cpu_time(&rig, 0, ConsumerKind::Irq));
    let process = cpu_time(&rig, 0, ConsumerKind::Process);
    // Two CPUs for 1 s, half of their time busy: 10 J + 60 J / 2.
    let batch = rig.batch(
        window(0, 1_000_000_000),
        &[(idle, 1_000_000_000), (irq, 400_000_000), (process, 600_000_000)],
    );
    let points = energies(&mut rig, batch);
    assert_eq!(points.len(), 1);
    assert_eq!((points[0].steps, points[0].window), (40_000_000, window(0, 1_000_000_000)));
    let domain = points[0].series.domain.clone().unwrap();
    assert_eq!(
        (&*domain.name, domain.origin, domain.follows.clone()),
        ("package-0", Origin::Estimated, wattrace_api::Follows::Package(0))
    );
    assert_eq!(domain.idle_microwatts, Some(10_000_000));
    assert_eq!((domain.within.as_deref(), &points[0].series.resource), (None, &Resource::package(0)));
    // Then idle: the process has no point, because it used nothing.
    let batch = rig.batch(window(1_000_000_000, 3_000_000_000), &[(idle, 5_000_000_000)]);
    assert_eq!(energies(&mut rig, batch)[0].steps, 60_000_000);
}

#[test]
fn the_sum_over_many_odd_windows_equals_the_closed_form() {
    let mut rig = started(config());
    let (idle, busy) = (cpu_time(&rig, 0, ConsumerKind::Idle), cpu_time(&rig, 0, ConsumerKind::Process));
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut now, mut idle_ns, mut busy_ns, mut last) = (0, 0, 0, 0);
    for _ in 0..20_000 {
        let nanos = 1 + random(3_000_001);
        // All time of three CPUs is accounted for, so the closed form does not depend on the windows.
        let used = random(3 * nanos + 1);
        let from = now;
        (now, idle_ns, busy_ns) = (now + nanos, idle_ns + 3 * nanos - used, busy_ns + used);
        let batch = rig.batch(window(from, now), &[(idle, idle_ns), (busy, busy_ns)]);
        last = energies(&mut rig, batch)[0].steps;
    }
    let femtojoules = 10_000_000 * u128::from(now) + 60_000_000 * u128::from(busy_ns) / 3;
    let expected = (femtojoules / 1_000_000_000) as u64;
    assert!(last.abs_diff(expected) <= 1, "{last} {expected}");
}

#[test]
fn packages_are_separate_and_share_the_segment_of_their_window() {
    let mut rig = started(config());
    let idle = [0, 1].map(|package| cpu_time(&rig, package, ConsumerKind::Idle));
    let busy = cpu_time(&rig, 1, ConsumerKind::Process);
    let mut batch = rig.batch(window(0, 1_000), &[(idle[0], 1_000), (idle[1], 0)]);
    // The same window again: its points are summed with the others.
    batch.append(&rig.batch(window(0, 1_000), &[(busy, 1_000)]));
    let batch = rig.pass(batch).unwrap();
    let points: Vec<_> = rig.points(&batch).into_iter().filter(|p| p.metric == "hw.energy").collect();
    let seen: Vec<_> = points.iter().map(|p| (p.series.resource.id.to_string(), p.steps)).collect();
    // 10 W and 70 W over a microsecond.
    assert_eq!(seen, [("0".to_owned(), 10), ("1".to_owned(), 70)]);
    assert_eq!(batch.segments().count(), 3);
}

#[test]
fn cpu_time_from_before_the_transform_was_opened_is_no_load() {
    let mut rig = Rig::new();
    let idle = cpu_time(&rig, 0, ConsumerKind::Idle);
    let [busy, sleeping] = [(); 2].map(|()| cpu_time(&rig, 0, ConsumerKind::Process));
    let second = 1_000_000_000;
    rig.clock.set(Timestamp(100 * second));
    rig.start::<Estimate>(config()).unwrap();
    // The idle time of this window is not known: 10 W for 2 s.
    let batch = rig.batch(window(99 * second, 101 * second), &[(idle, 100 * second), (busy, 70 * second)]);
    assert_eq!(energies(&mut rig, batch)[0].steps, 20_000_000);
    // A process with a long history has its first point: 10 W for 1 s, not 70 W.
    let points = [(idle, 101 * second), (sleeping, 1000 * second)];
    let batch = rig.batch(window(101 * second, 102 * second), &points);
    assert_eq!(energies(&mut rig, batch)[0].steps, 30_000_000);
    // From then on it counts: half of the time busy.
    let points = [(idle, 102 * second), (sleeping, 1001 * second)];
    let batch = rig.batch(window(102 * second, 103 * second), &points);
    assert_eq!(energies(&mut rig, batch)[0].steps, 70_000_000);
}

#[test]
fn a_reused_series_id_starts_from_zero() {
    let mut rig = started(config());
    let (idle, first) = (cpu_time(&rig, 0, ConsumerKind::Idle), cpu_time(&rig, 0, ConsumerKind::Process));
    let mut batch = rig.batch(window(0, 1_000_000), &[(idle, 0), (first, 1_000_000)]);
    batch.end(first);
    assert_eq!(energies(&mut rig, batch)[0].steps, 70_000);
    rig.registry.release(&[first]);
    let second = cpu_time(&rig, 0, ConsumerKind::Process);
    assert_eq!(first, second);
    // With the old value nothing would be busy here.
    let batch = rig.batch(window(1_000_000, 2_000_000), &[(idle, 500_000), (second, 500_000)]);
    assert_eq!(energies(&mut rig, batch)[0].steps, 70_000 + 40_000);
}

#[test]
fn other_series_and_empty_windows_are_ignored() {
    let mut rig = started(config());
    let other = rig.series(&metric::CONSUMER_ENERGY, Resource::package(0));
    let idle = cpu_time(&rig, 0, ConsumerKind::Idle);
    // A container's time is counted in its processes.
    let container = cpu_time(&rig, 0, ConsumerKind::Container);
    let batch = rig.batch(window(0, 1_000), &[(other, 5), (container, 5)]);
    assert!(energies(&mut rig, batch).is_empty());
    let batch = rig.batch(window(7, 7), &[(idle, 5)]);
    assert!(energies(&mut rig, batch).is_empty());
}

fn meter(rig: &Rig, name: &str, origin: Origin) {
    rig.registry.open(SeriesSpec {
        metric: rig.registry.metric(&metric::HW_ENERGY).unwrap(),
        resource: Resource::package(0),
        domain: Some(Arc::new(Domain {
            name: name.to_owned(),
            origin,
            follows: wattrace_api::Follows::Package(0),
            within: None,
            idle_microwatts: None,
        })),
        consumer: None,
        attributes: Vec::new(),
        start: Timestamp(0),
    });
}

#[test]
fn a_metered_package_is_estimated_only_if_configured() {
    for (name, origin, when, expected) in [
        ("package-0", Origin::Measured, When::NoMeter, None),
        ("package-0", Origin::Simulated, When::NoMeter, None),
        ("dram-0", Origin::Measured, When::NoMeter, Some("package-0")),
        ("host-share", Origin::Estimated, When::NoMeter, None),
        ("package-0", Origin::Measured, When::Always, Some("package-0-estimate")),
        ("dram-0", Origin::Measured, When::Never, None),
    ] {
        let mut rig = Rig::new();
        meter(&rig, name, origin);
        rig.start::<Estimate>(EstimateConfig { when, ..config() }).unwrap();
        let idle = cpu_time(&rig, 0, ConsumerKind::Idle);
        let batch = rig.batch(window(0, 1_000), &[(idle, 1_000)]);
        let points = energies(&mut rig, batch);
        let domain = points.first().and_then(|p| p.series.domain.as_ref()).map(|d| d.name.as_str());
        assert_eq!(domain, expected, "{name} {when:?}");
        if when == When::Always {
            let within = points[0].series.domain.as_ref().and_then(|d| d.within.as_deref());
            assert_eq!(within, Some("package-0"));
        }
    }
}

#[test]
fn packages_known_at_start_get_their_domains_at_once() {
    let mut rig = Rig::new();
    cpu_time(&rig, 3, ConsumerKind::Idle);
    rig.start::<Estimate>(config()).unwrap();
    let names: Vec<_> = rig.registry.domains().iter().map(|d| d.name.clone()).collect();
    assert_eq!(names, ["package-3"]);
}

#[test]
fn a_window_of_a_day_on_a_large_server_is_exact_to_a_microjoule() {
    let config = EstimateConfig { idle_watts: 100.0, full_watts: 10_000.0, ..EstimateConfig::default() };
    let power = Power::find(&config).unwrap();
    let day = 86_400_000_000_000;
    let load = Load { busy: 512 * day, total: 1024 * day, ..Load::default() };
    let expected = (100_000_000 + 4_950_000_000) * u128::from(day);
    // Within a microjoule of 436 MJ.
    assert!(femtojoules(&power, window(0, day), &load).abs_diff(expected) < 1_000_000_000);
}

fn usage(rig: &Rig, metric: &wattrace_api::Metric, kind: ConsumerKind) -> SeriesId {
    rig.registry.open(SeriesSpec {
        consumer: Some(Arc::new(Consumer::closing(kind))),
        ..SeriesSpec::new(rig.registry.metric(metric).unwrap(), Resource::package(0), Timestamp(0))
    })
}

/// A machine of two CPUs that share a core; the profile says that together they draw 1.2 times what one does.
fn calibrated(directory: &std::path::Path) -> EstimateConfig {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let one = "processor: 0\nmodel name: Some CPU\nphysical id: 0\nsiblings: 2\ncpu cores: 1\n";
    std::fs::write(path("cpuinfo"), one.repeat(2)).unwrap();
    let package = "idle_watts = 10\nsmt_factor = 0.6\nfrequency_exponent = 2\n\
        curve = [{ load = 1, watts = 70, mhz = 2000 }]";
    std::fs::write(path("profile.toml"), profile(2, package)).unwrap();
    EstimateConfig { profile: path("profile.toml"), cpuinfo: path("cpuinfo"), ..EstimateConfig::default() }
}

#[test]
fn a_profile_applies_to_shared_cores_and_frequency() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = started(calibrated(directory.path()));
    let idle = cpu_time(&rig, 0, ConsumerKind::Idle);
    let (cycles, shared) = (&metric::CONSUMER_COUNTS[0], &metric::CONSUMER_SHARED_TIME);
    let of_process = |metric| usage(&rig, metric, ConsumerKind::Process);
    let (busy, cycles, shared) =
        (of_process(&metric::CONSUMER_CPU_TIME), of_process(cycles), of_process(shared));
    // Cycles of the idle task are not part of the load.
    let others = usage(&rig, &metric::CONSUMER_COUNTS[0], ConsumerKind::Idle);
    let second = 1_000_000_000;
    let mut step = |from: u64, points: &[(SeriesId, u64)]| {
        let batch = rig.batch(window(from * second, (from + 1) * second), points);
        energies(&mut rig, batch)[0].steps
    };
    // Both busy at 2 GHz for a second.
    let both = step(
        0,
        &[(idle, 0), (busy, 2 * second), (shared, 2 * second), (cycles, 4 * second), (others, second)],
    );
    assert_eq!(both, 70_000_000);
    // One of the two at 2 GHz: 1 / 1.2 of the dynamic power.
    let one = step(1, &[(idle, second), (busy, 3 * second), (shared, 2 * second), (cycles, 6 * second)]);
    assert_eq!(one - both, 60_000_000);
    // The same at 1 GHz: a quarter of it.
    let slow = step(
        2,
        &[
            (idle, 2 * second),
            (busy, 4 * second),
            (shared, 2 * second),
            (cycles, 7 * second),
            (others, 2 * second),
        ],
    );
    assert_eq!(slow - one, 22_500_000);
    // Only idle time, and cycles of the idle task.
    assert_eq!(step(3, &[(idle, 4 * second), (others, 3 * second)]) - slow, 10_000_000);
}

#[test]
fn a_missing_profile_is_reported_and_nothing_is_estimated() {
    let mut rig = Rig::new();
    let config =
        EstimateConfig { profile: "/nonexistent/profile.toml".to_owned(), ..EstimateConfig::default() };
    let findings = <Estimate as wattrace_api::Plugin>::diagnose(&config);
    assert_eq!(findings[0].verdict, wattrace_api::Verdict::Missing);
    assert!(findings[0].remedy.starts_with("wattrace calibrate --output /nonexistent/profile.toml"));
    let error = rig.start::<Estimate>(config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().contains("/nonexistent/profile.toml: No such file"), "{error}");
}

#[test]
fn an_invalid_configuration_does_not_start() {
    let mut rig = Rig::new();
    let error = rig.start::<Estimate>(EstimateConfig { tdp_watts: f64::NAN, ..config() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().starts_with("plugins.estimate.tdp_watts: "), "{error}");
}

#[test]
fn a_meter_that_appears_later_replaces_the_estimate() {
    let mut rig = started(config());
    let idle = cpu_time(&rig, 0, ConsumerKind::Idle);
    let batch = rig.batch(window(0, 1_000), &[(idle, 1_000)]);
    let estimate = energies(&mut rig, batch)[0].id;
    let domain = |name: &str, origin| {
        let name = name.to_owned();
        Some(Arc::new(Domain {
            name,
            origin,
            follows: wattrace_api::Follows::Cpus,
            within: None,
            idle_microwatts: None,
        }))
    };
    let energy = rig.registry.metric(&metric::HW_ENERGY).unwrap();
    let registry = rig.registry.clone();
    let open = |domain| {
        registry.open(SeriesSpec { domain, ..SeriesSpec::new(energy, Resource::package(0), Timestamp(0)) })
    };
    open(domain("dram-0", Origin::Measured));
    let batch = rig.batch(window(1_000, 2_000), &[(idle, 2_000)]);
    assert_eq!(energies(&mut rig, batch).len(), 1, "not a package");
    open(domain("package-0", Origin::Measured));
    let batch = rig.batch(window(2_000, 3_000), &[(idle, 3_000)]);
    let batch = rig.pass(batch).unwrap();
    assert_eq!((rig.points(&batch).len(), batch.ended()), (1, &[estimate][..]));

    // While one of two meters is left, nothing is estimated; then it begins again, from there.
    let first = registry.series().into_iter().rev().find(|(_, s)| s.resource == Resource::package(0));
    let second = open(domain("package-1", Origin::Measured));
    let end = |rig: &mut Rig, from: u64, ended: SeriesId| {
        let mut batch = rig.batch(window(from, from + 1_000), &[(idle, from + 1_000)]);
        batch.end(ended);
        rig.clock.set(Timestamp(from + 1_000));
        energies(rig, batch)
    };
    let first = first.map(|(id, _)| id).unwrap();
    assert!(end(&mut rig, 3_000, first).is_empty());
    end(&mut rig, 4_000, second);
    let batch = rig.batch(window(5_000, 1_000_005_000), &[(idle, 2_000_005_000)]);
    let points = energies(&mut rig, batch);
    let estimated = points[0].series.domain.as_ref().unwrap();
    assert_eq!((points.len(), &*estimated.name, estimated.origin), (1, "package-0", Origin::Estimated));
    // 10 W idle: what was used before counts for nobody.
    assert_eq!((points[0].steps, points[0].series.start), (10_000_000, Timestamp(5_000)));
    // It yields to the next one.
    open(domain("package-0", Origin::Measured));
    let batch = rig.batch(window(1_000_005_000, 1_000_006_000), &[(idle, 2_000_006_000)]);
    assert!(energies(&mut rig, batch).is_empty());
}
