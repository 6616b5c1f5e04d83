//! The book's example, and random histories: whatever comes and goes, the sums stay exact.

use std::collections::HashMap;

use proptest::prelude::*;
use wattrace_api::testing::Rig;
use wattrace_api::{Consumer, Metric, Resource, Unit, metric};
use wattrace_select::testing::Scene;

use super::*;
use crate::Top;

/// The example of docs/transforms.md.
const EXAMPLE: &str = "[plugins.top]\ncount = 2\ninterval = \"10s\"\n";

fn config(text: &str) -> TopConfig {
    let config: toml::Table = text.parse().unwrap();
    config["plugins"]["top"].clone().try_into().unwrap()
}

#[test]
fn a_newcomer_takes_the_place_of_the_weakest_and_the_book_shows_it() {
    let mut s = Scene::of::<Top>(config(EXAMPLE));
    let idle = s.energy(Some(&Arc::new(Consumer::closing(ConsumerKind::Idle))));
    let [a, b, c] = [(1, "make"), (2, "postgres"), (3, "bash")].map(|(pid, name)| s.process(pid, name));
    let (a, b, c) = (s.energy(Some(&a)), s.energy(Some(&b)), s.energy(Some(&c)));
    let j = 1_000_000;
    let first = s.pass(0, 10, &[(idle, 50 * j), (a, 20 * j), (b, 30 * j), (c, j)]);
    let second = s.pass(10, 20, &[(idle, 100 * j), (a, 21 * j), (b, 60 * j), (c, 41 * j)]);
    let lines = [s.lines(&first), s.lines(&second)].concat().join("\n");
    assert_eq!(
        lines,
        "0s..10s wattrace.consumer.energy idle/ on package/0 50 J\n\
         0s..10s wattrace.consumer.energy process/1 make on package/0 20 J\n\
         0s..10s wattrace.consumer.energy process/2 postgres on package/0 30 J\n\
         0s..10s wattrace.consumer.energy other/ on package/0 1 J\n\
         10s..20s wattrace.consumer.energy idle/ on package/0 100 J\n\
         10s..20s wattrace.consumer.energy process/2 postgres on package/0 60 J\n\
         10s..20s wattrace.consumer.energy process/3 bash on package/0 40 J\n\
         10s..20s wattrace.consumer.energy other/ on package/0 2 J"
    );
    let book = include_str!("../../../../docs/transforms.md");
    assert!(book.contains(EXAMPLE) && book.contains(&lines), "docs/transforms.md shows something else");
    let bash = &s.rig.points(&second)[2].series;
    assert_eq!(bash.start, Timestamp(10_000_000_000), "what it used before is told in `other`");
    assert_eq!(second.ended(), &[s.rig.points(&first)[1].id], "make's own series is over");
}

#[test]
fn a_free_place_is_given_at_once_and_gauges_of_the_others_are_left_out() {
    let mut s = Scene::of::<Top>(config("[plugins.top]\ncount = 1\ninterval = \"1h\""));
    let watts = Metric::gauge("watts", Unit::Watt, "");
    let (a, b) = (s.process(1, "a"), s.process(2, "b"));
    let of = |s: &Scene, p: &Arc<Consumer>| {
        (s.energy(Some(p)), s.open(&watts, Resource::HOST, None, Some(p.clone())))
    };
    let ((a, a_watts), (b, b_watts)) = (of(&s, &a), of(&s, &b));
    s.pass(0, 1, &[(a, 9), (b, 1)]);
    let gauges = s.pass_gauges(1, 2, &[(a_watts, 1.0), (b_watts, 2.0)]);
    assert_eq!(s.rig.points(&gauges).iter().map(|p| p.id).collect::<Vec<_>>(), [a_watts]);
    assert_eq!(s.rig.transforms[0].1.take_left_out(), 1, "b's is counted");
    s.pass_ending(2, 3, &[], &[a, a_watts]);
    let batch = s.pass(3, 4, &[(b, 3)]);
    let point = &s.rig.points(&batch)[0];
    assert_eq!((point.series.consumer.as_ref().unwrap().kind(), point.steps), (ConsumerKind::Process, 2));
}

#[test]
fn sums_of_other_than_processes_say_whose_they_are() {
    let mut s = Scene::of::<Top>(config("[plugins.top]\ncount = 1\nconsumer = \"cgroup\""));
    let cgroup = |id: &'static str| {
        let identity =
            wattrace_api::Identity { kind: ConsumerKind::Cgroup, id: id.into(), start_unix_nano: 0 };
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

#[test]
fn whoever_is_no_closing_entry_may_compete() {
    for kind in ConsumerKind::ALL {
        let config = TopConfig { consumer: kind.as_str().to_owned(), ..TopConfig::default() };
        let is_closing = matches!(
            kind,
            ConsumerKind::Idle | ConsumerKind::Irq | ConsumerKind::Other | ConsumerKind::Unattributed
        );
        assert_eq!(Rig::new().start::<Top>(config).is_ok(), !is_closing, "{kind:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_its_key() {
    for (text, start) in [
        ("count = 0", "plugins.top.count: "),
        ("by = \"\"", "plugins.top.by: "),
        ("interval = \"0s\"", "plugins.top.interval: "),
        ("consumer = \"idle\"", "plugins.top.consumer: \"idle\" is none of process, "),
    ] {
        let message = Rig::new().start::<Top>(toml::from_str(text).unwrap()).unwrap_err().to_string();
        assert!(message.starts_with(start), "{message}");
    }
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
    totals: HashMap<String, u64>,
}

impl Reader {
    fn read(&mut self, s: &Scene, batch: &Batch) {
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
    fn every_step_is_told_once(
        places in 1..4_usize,
        ticks in prop::collection::vec(prop::collection::vec(step(), 0..6), 1..40),
    ) {
        let config = TopConfig { count: places, interval: Duration::from_secs(3), ..TopConfig::default() };
        let s = Scene::new();
        let mut top = Transformer::new(&config, ConsumerKind::Process, s.rig.registry.clone());
        // The kernel's overflow entry flows into the same sum.
        let other = s.cpu_time(&Arc::new(Consumer::closing(ConsumerKind::Other)));
        let mut reader = Reader::default();
        let mut alive: HashMap<u32, (SeriesId, u64, SeriesId, u64)> = HashMap::new();
        let mut truth: HashMap<String, u64> = HashMap::new();
        for (second, steps) in ticks.iter().enumerate() {
            let now = second as u64;
            s.rig.clock.set(Timestamp(now * 1_000_000_000));
            let mut batch = s.rig.batch(wattrace_select::testing::seconds(now, now + 1), &[(other, now)]);
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
                prop_assert_eq!(reader.totals.get(metric).copied().unwrap_or(0), *total, "{} at {}", metric, now);
            }
        }
        let mut last = Batch::default();
        alive.values().for_each(|(energy, _, time, _)| { last.end(*energy); last.end(*time) });
        last.end(other);
        top.apply(&mut last).unwrap();
        reader.read(&s, &last);
        prop_assert!(reader.values.is_empty(), "every series that was opened is ended");
        prop_assert_eq!(top.others.len(), 0);
    }
}
