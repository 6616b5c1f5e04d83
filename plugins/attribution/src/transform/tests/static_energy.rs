//! Static energy: given, expected or learnt, and where the policy puts it.

use super::*;
use crate::Idle;

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
