//! Who has series of their own, and random histories: whatever comes and goes, the sums stay exact.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use wattrace_api::{Consumer, Identity, Metric, Resource, Unit, metric};
use wattrace_transform_testing::{Fixture, SECOND, seconds};

use super::*;

/// Processes compete for `count` places, which are assigned again every `interval` seconds.
fn settings(count: usize, interval: u64) -> Settings {
    Settings {
        count,
        kind: ConsumerKind::Process,
        threads: false,
        by: metric::CONSUMER_ENERGY.name.to_string(),
        fallback: metric::CONSUMER_CPU_TIME.name.to_string(),
        interval: Duration::from_secs(interval),
    }
}

/// A scene with the transform under test.
fn scene(settings: Settings) -> Fixture {
    let mut scene = Fixture::new();
    let top = Top::new(settings, scene.rig.registry.clone());
    scene.rig.transforms.push(("top".to_owned(), Box::new(top)));
    scene
}

/// A point's consumer (`process/1`, `other/`), the second at which its series starts, and its steps.
fn points(s: &Fixture, batch: &Batch) -> Vec<(String, u64, u64)> {
    let point = |point: wattrace_api::testing::Point| {
        let consumer = point.series.consumer.as_ref().unwrap();
        let name = format!("{}/{}", consumer.kind().as_str(), consumer.identity().id);
        (name, point.series.start.0 / SECOND, point.steps)
    };
    s.rig.points(batch).into_iter().map(point).collect()
}

fn named(points: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    points.iter().map(|&(name, start, steps)| (name.to_owned(), start, steps)).collect()
}

#[test]
fn a_consumer_with_a_place_from_the_start_reports_from_its_own_start() {
    let mut s = scene(settings(1, 10));
    let a = s.energy(Some(&s.process(1, "a")));
    s.rig.clock.set(Timestamp(3 * SECOND));
    let b = s.energy(Some(&s.process(2, "b")));
    let batch = s.pass(4, 5, &[(a, 5), (b, 1)]);
    assert_eq!(points(&s, &batch), named(&[("process/1", 0, 5), ("other/", 3, 1)]));
}

#[test]
fn a_sum_starts_with_the_earliest_of_its_parts() {
    let mut s = scene(settings(1, 10));
    let a = s.energy(Some(&s.process(1, "a")));
    s.rig.clock.set(Timestamp(3 * SECOND));
    let late = s.energy(Some(&s.process(2, "late")));
    s.rig.clock.set(Timestamp(SECOND));
    let early = s.energy(Some(&s.process(3, "early")));
    let batch = s.pass(4, 5, &[(a, 9), (late, 1), (early, 2)]);
    assert_eq!(points(&s, &batch), named(&[("process/1", 0, 9), ("other/", 1, 3)]));
}

#[test]
fn a_consumer_that_takes_a_place_later_reports_what_the_sum_has_not() {
    let mut s = scene(settings(1, 10));
    let (a, b) = (s.energy(Some(&s.process(1, "a"))), s.energy(Some(&s.process(2, "b"))));
    let first = s.pass(0, 10, &[(a, 5), (b, 1)]);
    let own = s.rig.points(&first)[0].id;
    let second = s.pass(10, 20, &[(b, 20)]);
    assert_eq!(points(&s, &second), named(&[("process/2", 10, 19)]));
    assert_eq!(second.ended(), [own], "the displaced consumer's own series ends");
    let third = s.pass(20, 30, &[(a, 6)]);
    assert_eq!(points(&s, &third), named(&[("other/", 0, 2)]));
}

#[test]
fn without_energy_cpu_time_decides() {
    let mut s = scene(settings(1, 10));
    let [a, b] = [1, 2].map(|pid| s.cpu_time(&s.process(pid, "p")));
    let batch = s.pass(0, 1, &[(a, 5), (b, 6)]);
    assert_eq!(points(&s, &batch), named(&[("process/2", 0, 6), ("other/", 0, 5)]));
}

#[test]
fn a_free_place_is_given_at_once_and_gauges_of_the_others_are_left_out() {
    let mut s = scene(settings(1, 3600));
    let watts = Metric::gauge("watts", Unit::Watt, "");
    let (a, b) = (s.process(1, "a"), s.process(2, "b"));
    let of = |s: &Fixture, p: &Arc<Consumer>| {
        (s.energy(Some(p)), s.open(&watts, Resource::HOST, None, Some(p.clone())))
    };
    let ((a, a_watts), (b, b_watts)) = (of(&s, &a), of(&s, &b));
    s.pass(0, 1, &[(a, 9), (b, 1)]);
    let gauges = s.pass_gauges(1, 2, &[(a_watts, 1.5), (b_watts, 2.0)]);
    assert_eq!(s.lines(&gauges), ["1s..2s watts process/1 a on host/ 1.5 W"]);
    assert_eq!(s.rig.transforms[0].1.take_left_out(), 1, "b's is counted");
    let last = s.pass_ending(2, 3, &[], &[a, a_watts]);
    assert!(last.ended().contains(&s.rig.points(&gauges)[0].id), "the gauge's own series ends");
    let batch = s.pass(3, 4, &[(b, 3)]);
    assert_eq!(points(&s, &batch), named(&[("process/2", 1, 2)]));
}

#[test]
fn a_process_that_ends_before_it_is_ranked_goes_to_the_sum() {
    let mut s = scene(settings(1, 10));
    let long = s.energy(Some(&s.process(1, "long")));
    s.pass(0, 1, &[(long, 9)]);
    let short = s.energy(Some(&s.process(2, "short")));
    let batch = s.pass_ending(1, 2, &[(short, 70)], &[short]);
    assert_eq!((points(&s, &batch), batch.ended()), (named(&[("other/", 0, 70)]), &[short][..]));
}

#[test]
fn a_process_that_lives_within_one_batch_gets_a_free_place_if_it_is_the_heaviest() {
    let mut s = scene(settings(2, 10));
    let long = s.energy(Some(&s.process(1, "long")));
    s.pass(0, 1, &[(long, 20)]);
    let [heavy, light] = [2, 3].map(|pid| s.energy(Some(&s.process(pid, "short"))));
    let batch = s.pass_ending(1, 2, &[(heavy, 9), (light, 1)], &[heavy, light]);
    assert_eq!(points(&s, &batch), named(&[("process/2", 0, 9), ("other/", 0, 1)]));
    assert!(batch.ended().contains(&s.rig.points(&batch)[0].id), "its own series ends with it");
}

#[test]
fn a_process_keeps_its_name_when_its_energy_comes_after_the_end_of_its_cpu_time() {
    let mut s = scene(settings(1, 10));
    let p = s.process(1, "p");
    let (energy, time) = (s.energy(Some(&p)), s.cpu_time(&p));
    let first = s.pass_ending(0, 1, &[(time, 400)], &[time]);
    let second = s.pass_ending(1, 2, &[(energy, 6)], &[energy]);
    assert_eq!(points(&s, &first), named(&[("process/1", 0, 400)]));
    assert_eq!(points(&s, &second), named(&[("process/1", 0, 6)]));
}

#[test]
fn a_storm_of_short_processes_goes_to_the_sum_and_leaves_nothing_behind() {
    let s = Fixture::new();
    let mut top = Top::new(settings(1, 10), s.rig.registry.clone());
    let idle = s.energy(Some(&Arc::new(Consumer::closing(ConsumerKind::Idle))));
    let (mut own, mut other) = (Vec::new(), 0);
    for second in 0..3_000 {
        let short = s.energy(Some(&s.process(second as u32, "short")));
        let mut batch = s.rig.batch(seconds(second, second + 1), &[(idle, second), (short, 1)]);
        batch.end(short);
        top.apply(&mut batch).unwrap();
        for point in s.rig.points(&batch) {
            match point.series.consumer.as_ref().unwrap().kind() {
                ConsumerKind::Process => own.push(point.steps),
                ConsumerKind::Other => other = point.steps,
                _ => {}
            }
        }
        s.release(&batch);
    }
    assert_eq!(own.iter().sum::<u64>() + other, 3_000);
    assert!(own.len() <= 600, "two a ranking at most, not {}", own.len());
    assert_eq!((top.ranking.len(), top.slots.iter().count(), top.sums.len()), (0, 1, 1));
}

#[test]
fn while_it_is_frozen_no_place_is_given() {
    let s = Fixture::new();
    let frozen = Arc::new(AtomicBool::new(false));
    let mut top = Top::new(settings(2, 10), s.rig.registry.clone()).frozen_while(frozen.clone());
    let [a, b] = [1, 2].map(|pid| s.energy(Some(&s.process(pid, "p"))));
    let mut pass = |from, to, points: &[(SeriesId, u64)]| {
        let mut batch = s.rig.batch(seconds(from, to), points);
        top.apply(&mut batch).unwrap();
        super::tests::points(&s, &batch)
    };
    assert_eq!(pass(0, 1, &[(a, 5)]), named(&[("process/1", 0, 5)]));
    frozen.store(true, Ordering::Relaxed);
    assert_eq!(pass(20, 21, &[(a, 6), (b, 90)]), named(&[("process/1", 0, 6), ("other/", 0, 90)]));
    frozen.store(false, Ordering::Relaxed);
    assert_eq!(pass(21, 22, &[(b, 91)]), named(&[("process/2", 21, 1)]));
}

#[test]
fn a_sum_made_elsewhere_joins_the_sum_here() {
    let mut s = scene(settings(1, 10));
    let other = s.energy(Some(&Arc::new(Consumer::closing(ConsumerKind::Other))));
    let (a, b) = (s.energy(Some(&s.process(1, "a"))), s.energy(Some(&s.process(2, "b"))));
    let batch = s.pass(0, 1, &[(other, 10), (a, 2), (b, 1)]);
    assert_eq!(points(&s, &batch), named(&[("process/1", 0, 2), ("other/", 0, 11)]));
}

#[test]
fn threads_without_a_place_are_left_out_because_their_process_holds_what_they_used() {
    let thread = |s: &Fixture, id: &'static str| {
        let identity = Identity { kind: ConsumerKind::Thread, id: id.into(), start_unix_nano: 9 };
        s.energy(Some(&Arc::new(Consumer::new(identity, None, Vec::new()))))
    };
    let mut s = scene(Settings { threads: true, ..settings(2, 10) });
    let process = s.energy(Some(&s.process(1, "a")));
    let (busy, idle) = (thread(&s, "8"), thread(&s, "9"));
    let batch = s.pass(0, 1, &[(process, 4), (busy, 3), (idle, 1)]);
    assert_eq!(points(&s, &batch), named(&[("process/1", 0, 4), ("thread/8", 0, 3)]));
    assert_eq!(s.rig.transforms[0].1.take_left_out(), 1);

    let mut s = scene(settings(1, 10));
    let thread = thread(&s, "8");
    let batch = s.pass(0, 1, &[(thread, 3)]);
    assert_eq!(batch.series(), [thread], "where they don't compete, they pass");
}

#[test]
fn sums_of_other_kinds_than_processes_say_of_which_kind() {
    let mut s = scene(Settings { kind: ConsumerKind::Cgroup, ..settings(1, 10) });
    let cgroup = |id: &'static str| {
        let identity = Identity { kind: ConsumerKind::Cgroup, id: id.into(), start_unix_nano: 0 };
        Arc::new(Consumer::new(identity, None, Vec::new()))
    };
    let (a, b, p) = (cgroup("/a"), cgroup("/b"), s.process(1, "p"));
    let points = [(s.energy(Some(&a)), 5), (s.energy(Some(&b)), 3), (s.energy(Some(&p)), 8)];
    let batch = s.pass(0, 1, &points);
    assert_eq!(
        s.lines(&batch),
        [
            "0s..1s wattrace.consumer.energy cgroup//a on package/0 0.000005 J",
            "0s..1s wattrace.consumer.energy process/1 p on package/0 0.000008 J",
            "0s..1s wattrace.consumer.energy other/ on package/0 wattrace.consumer.other=cgroup 0.000003 J",
        ]
    );
}

/// What happens to one consumer in one tick.
#[derive(Clone, Debug)]
struct Step {
    pid: u32,
    energy: u64,
    cpu_time: u64,
    ends: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (0..8_u32, prop_oneof![Just(0), 1..50_u64, 1..100_000_u64], 0..1000_u64, prop::bool::weighted(0.1))
        .prop_map(|(pid, energy, cpu_time, ends)| Step { pid, energy, cpu_time, ends })
}

/// Reads what comes out as a back end would, and checks what it may rely on.
#[derive(Default)]
struct Reader {
    values: HashMap<SeriesId, u64>,
    totals: BTreeMap<String, u64>,
}

impl Reader {
    fn read(&mut self, s: &Fixture, batch: &Batch) {
        for point in s.rig.points(batch) {
            let before = self.values.insert(point.id, point.steps).unwrap_or(0);
            assert!(before <= point.steps, "a counter went backwards");
            *self.totals.entry(point.metric).or_default() += point.steps - before;
        }
        self.values.retain(|id, _| !batch.ended().contains(id));
        s.release(batch);
    }
}

proptest! {
    #[test]
    fn every_step_is_in_exactly_one_series(
        places in 1..4_usize,
        ticks in prop::collection::vec(prop::collection::vec(step(), 0..6), 1..40),
    ) {
        let s = Fixture::new();
        let mut top = Top::new(settings(places, 3), s.rig.registry.clone());
        // The kernel's overflow entry goes to the same sum.
        let other = s.cpu_time(&Arc::new(Consumer::closing(ConsumerKind::Other)));
        let mut reader = Reader::default();
        let mut alive: HashMap<u32, (SeriesId, u64, SeriesId, u64)> = HashMap::new();
        let mut truth: BTreeMap<String, u64> = BTreeMap::new();
        for (second, steps) in ticks.iter().enumerate() {
            let now = second as u64;
            s.rig.clock.set(Timestamp(now * SECOND));
            let mut batch = s.rig.batch(seconds(now, now + 1), &[(other, now)]);
            for step in steps {
                let (energy, e, time, t) = alive.entry(step.pid).or_insert_with(|| {
                    let process = s.process(step.pid, "p");
                    (s.energy(Some(&process)), 0, s.cpu_time(&process), 0)
                });
                (*e, *t) = (*e + step.energy, *t + step.cpu_time);
                batch.push(*energy, Value::of_steps(*e));
                batch.push(*time, Value::of_steps(*t));
                *truth.entry(metric::CONSUMER_ENERGY.name.to_string()).or_default() += step.energy;
                *truth.entry(metric::CONSUMER_CPU_TIME.name.to_string()).or_default() += step.cpu_time;
            }
            *truth.entry(metric::CONSUMER_CPU_TIME.name.to_string()).or_default() += (now > 0) as u64;
            for step in steps.iter().filter(|step| step.ends) {
                if let Some((energy, _, time, _)) = alive.remove(&step.pid) {
                    batch.end(energy);
                    batch.end(time);
                }
            }
            top.apply(&mut batch).unwrap();
            let points = s.rig.points(&batch);
            let mut single: Vec<_> = points.iter().filter_map(|p| p.series.consumer.as_ref())
                .filter(|c| c.kind() == ConsumerKind::Process).map(|c| c.identity().clone()).collect();
            single.sort_by(|a, b| a.id.cmp(&b.id));
            single.dedup();
            prop_assert!(single.len() <= places, "{single:?}");
            reader.read(&s, &batch);
            for (metric, total) in &truth {
                let read = reader.totals.get(metric).copied().unwrap_or(0);
                prop_assert_eq!(read, *total, "{} at {}", metric, now);
            }
        }
        let mut last = Batch::default();
        alive.values().for_each(|(energy, _, time, _)| { last.end(*energy); last.end(*time) });
        last.end(other);
        top.apply(&mut last).unwrap();
        reader.read(&s, &last);
        prop_assert!(reader.values.is_empty(), "every series that was opened is ended");
        prop_assert_eq!(top.sums.len(), 0);
    }
}
