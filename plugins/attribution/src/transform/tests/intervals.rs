//! The published intervals: which consumers have one, when, and that it ends with them.

use super::*;

/// A scene in which a process uses a CPU of two for so many seconds, another one `tiny` of each of them.
/// Returns what came of each second.
fn seconds(scene: &mut Scene, count: u64, tiny: u64) -> (SeriesId, Vec<Batch>) {
    let (idle, large, small) =
        (scene.closing(ConsumerKind::Idle, 0), scene.process(1, 0), scene.process(2, 0));
    let meter = scene.meter("package-0", Some(0));
    let second = |n: u64| {
        let used =
            [(idle, n * (SECOND - tiny)), (large, n * SECOND), (small, n * tiny), (meter, n * 30_000_000)];
        scene.pass((n - 1) * SECOND, n * SECOND, &used)
    };
    (large, (1..=count).map(second).collect())
}

/// The half widths that were published of each consumer, by its id, in order.
fn half_widths(scene: &Scene, batches: &[Batch]) -> HashMap<String, Vec<f64>> {
    let mut all: HashMap<String, Vec<f64>> = HashMap::new();
    for point in batches.iter().flat_map(|batch| scene.rig.points(batch)) {
        if point.series.role == Role::Uncertainty {
            let consumer = point.series.consumer.clone().unwrap();
            let name = format!("{}{}", consumer.kind().as_str(), consumer.identity().id);
            all.entry(name).or_default().push(point.value);
        }
    }
    all
}

#[test]
fn a_consumer_s_interval_is_published_every_few_seconds_and_that_of_idle_always() {
    let mut scene = Scene::new(AttributionConfig::default());
    let (_, batches) = seconds(&mut scene, 12, 10);
    let all = half_widths(&scene, &batches);
    let (idle, large) = (&all["idle"], &all["process1"]);
    assert_eq!((idle.len(), large.len()), (12, 2), "{all:?}");
    assert!(large.is_sorted() && idle.is_sorted() && large[0] > 0.1 && idle[0] > 0.1, "{all:?}");
    assert_eq!(all.get("process2"), None, "what used microjoules has none");
}

#[test]
fn a_consumer_s_last_interval_is_published_before_it_ends() {
    let mut scene = Scene::new(AttributionConfig::default());
    let (large, batches) = seconds(&mut scene, 3, 10);
    assert_eq!(half_widths(&scene, &batches).get("process1"), None, "it is too new");
    let mut last = scene.rig.batch(Window::new(Timestamp(3 * SECOND), Timestamp(4 * SECOND)), &[]);
    last.end(large);
    let batch = scene.rig.pass(last).unwrap();
    let all = half_widths(&scene, std::slice::from_ref(&batch));
    assert_eq!(all["process1"].len(), 1, "{all:?}");
    let of_process = |id: &&SeriesId| {
        let series = scene.rig.registry.get(**id).unwrap();
        series.role == Role::Uncertainty && series.consumer.is_some()
    };
    assert_eq!(batch.ended().iter().filter(of_process).count(), 1);
}

#[test]
fn static_power_that_is_given_leaves_a_lone_process_the_edges_of_its_windows() {
    let mut scene = Scene::new(with_idle_watts("package-0", 10.0));
    let (_, batches) = seconds(&mut scene, 6, 0);
    let all = half_widths(&scene, &batches);
    assert_eq!(all["idle"], [0.0; 6]);
    // 30 W for 289 µs at either end, times `EDGE_SPREAD`.
    let edges = 1.62 * 1.96 * 30.0 * 289e-6 * 2.0_f64.sqrt();
    assert!((all["process1"][0] - edges).abs() < 0.01 * edges, "{all:?}, {edges} J");
}
