//! What the table says over time, against the true values.

use std::collections::{BTreeMap, HashMap};

use wattrace_api::testing::Rig;
use wattrace_api::{Attribute, Domain, Follows, Identity, Origin, Resource, SeriesSpec, Window};

use super::*;
use crate::stream::REFRESH;

/// What a collector ends up with: the last value per stream and start, and which streams were ended.
#[derive(Default)]
struct Collector {
    values: BTreeMap<(String, u64), f64>,
    times: HashMap<(String, u64), u64>,
    ends: Vec<String>,
    points: usize,
}

impl Collector {
    fn take(&mut self, table: &mut Table, now: u64) {
        let mut told = Vec::new();
        table.collect(Timestamp(now), |point| {
            let name = name_of(&point);
            told.extend(point.ended);
            let Some(value) = point.value else {
                self.ends.push(name);
                return;
            };
            let value = point.series.metric.in_units(value);
            let key = (name, point.since.0);
            assert!(self.values.get(&key).is_none_or(|&old| old <= value), "{key:?} went backwards");
            assert!(
                self.times.get(&key).is_none_or(|&old| old <= point.time.0),
                "{key:?}'s time went backwards"
            );
            assert!(point.since <= point.time);
            self.times.insert(key.clone(), point.time.0);
            self.values.insert(key, value);
            self.points += 1;
        });
        table.ended.delivered(&told);
    }

    fn value(&self, name: &str) -> Vec<(u64, f64)> {
        self.values.iter().filter(|((n, _), _)| n == name).map(|((_, since), &v)| (*since, v)).collect()
    }
}

/// `other`, or the process's pid and name; with the domain where there is one.
fn name_of(point: &Point<'_>) -> String {
    let of = |key: &str| point.attributes.iter().find(|a| a.key == key).map(|a| a.value.to_string());
    let who = of("process.pid").or_else(|| of("wattrace.consumer.type")).unwrap_or_default();
    let comm = of("process.executable.name").unwrap_or_default();
    let domain = of("wattrace.domain").unwrap_or_default();
    [who, comm, domain].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn process(pid: u64) -> Arc<Consumer> {
    let identity = Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid };
    Arc::new(Consumer::new(identity, None, vec![Attribute::new("process.pid", pid as i64)]))
}

fn domain(name: &str) -> Arc<Domain> {
    Arc::new(Domain {
        name: name.to_owned(),
        origin: Origin::Simulated,
        follows: Follows::Cpus,
        within: None,
        idle_microwatts: None,
    })
}

/// The series of a consumer's energy.
fn open(rig: &Rig, consumer: &Arc<Consumer>, domain: &Arc<Domain>, start: u64) -> SeriesId {
    let energy = rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap();
    let spec = SeriesSpec::new(energy, Resource::HOST, Timestamp(start));
    rig.registry.open(SeriesSpec { domain: Some(domain.clone()), consumer: Some(consumer.clone()), ..spec })
}

/// The series of a consumer's CPU time.
fn open_time(rig: &Rig, consumer: &Arc<Consumer>, start: u64) -> SeriesId {
    let time = rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
    let spec = SeriesSpec::new(time, Resource::HOST, Timestamp(start));
    rig.registry.open(SeriesSpec { consumer: Some(consumer.clone()), ..spec })
}

const J: u64 = 1_000_000;

struct Scene {
    rig: Rig,
    table: Table,
    seen: Collector,
    now: u64,
}

impl Scene {
    fn new(top: usize) -> Self {
        let rig = Rig::new();
        let table = Table::new(rig.registry.clone(), top, 1000);
        Self { rig, table, seen: Collector::default(), now: 100 }
    }

    fn write(&mut self, points: &[(SeriesId, u64)], ended: &[SeriesId]) {
        let end = self.now + 10;
        let mut batch = self.rig.batch(Window::new(Timestamp(self.now), Timestamp(end)), points);
        ended.iter().for_each(|&id| batch.end(id));
        self.now = end;
        self.table.write(&batch);
        self.rig.registry.release(ended);
    }

    fn collect(&mut self) {
        self.seen.take(&mut self.table, self.now);
    }
}

#[test]
fn who_comes_into_the_top_at_once_reports_from_the_true_start() {
    let mut s = Scene::new(1);
    let package = domain("package-0");
    let (a, b) = (open(&s.rig, &process(1), &package, 7), open(&s.rig, &process(2), &package, 9));
    s.write(&[(a, 5 * J), (b, J)], &[]);
    s.collect();
    assert_eq!(s.seen.value("1 package-0"), [(7, 5.0)]);
    assert_eq!(s.seen.value("2 package-0"), []);
    assert_eq!(s.seen.value("other package-0"), [(7, 1.0)]);
}

#[test]
fn who_comes_into_the_top_later_reports_what_other_has_not() {
    let mut s = Scene::new(1);
    let package = domain("package-0");
    let (a, b) = (open(&s.rig, &process(1), &package, 7), open(&s.rig, &process(2), &package, 9));
    s.write(&[(a, 5 * J), (b, J)], &[]);
    s.collect();
    s.write(&[(b, 20 * J)], &[]);
    s.collect();
    assert_eq!(s.seen.value("2 package-0"), [(110, 19.0)], "from the last point that `other` had told");
    assert_eq!(s.seen.value("other package-0"), [(7, 1.0)]);
    s.write(&[(a, 6 * J)], &[]);
    s.collect();
    assert_eq!(s.seen.ends, ["1 package-0"], "displaced");
    assert_eq!(s.seen.value("1 package-0"), [(7, 5.0)]);
    assert_eq!(s.seen.value("other package-0"), [(7, 2.0)]);
}

#[test]
fn the_place_of_one_that_ended_goes_to_the_next() {
    let mut s = Scene::new(1);
    let package = domain("d");
    let (a, b) = (open(&s.rig, &process(1), &package, 7), open(&s.rig, &process(2), &package, 9));
    s.write(&[(a, 5 * J), (b, J)], &[]);
    s.collect();
    s.write(&[(b, 2 * J)], &[a]);
    s.collect();
    assert_eq!(s.seen.value("2 d"), [(110, 1.0)]);
    assert_eq!(s.table.top.as_ref().unwrap().len(), 1, "who ended is forgotten");
}

#[test]
fn a_process_that_ends_before_it_was_ranked_keeps_its_series_together() {
    let mut s = Scene::new(1);
    let d = domain("d");
    let short = process(1);
    let (energy, time) = (open(&s.rig, &short, &d, 7), open_time(&s.rig, &short, 7));
    s.write(&[(time, 400_000_000)], &[time]);
    s.write(&[(energy, 5 * J)], &[]);
    s.collect();
    s.write(&[(energy, 6 * J)], &[energy]);
    s.collect();
    s.collect();
    assert_eq!(s.seen.value("1"), [(7, 0.4)], "its CPU time");
    assert_eq!(s.seen.value("1 d"), [(7, 6.0)]);
    assert_eq!(s.seen.value("other"), []);
    assert_eq!(
        (s.seen.ends, s.table.top.as_ref().unwrap().len()),
        (vec!["1".to_owned(), "1 d".to_owned()], 0)
    );
}

#[test]
fn who_lives_between_two_collections_gets_a_place_if_it_is_heavy_enough() {
    let mut s = Scene::new(2);
    let d = domain("d");
    let long = open(&s.rig, &process(1), &d, 7);
    s.write(&[(long, 20 * J)], &[]);
    s.collect();
    let [heavy, light] = [2, 3].map(|pid| open(&s.rig, &process(pid), &d, 110));
    s.write(&[(heavy, 9 * J), (light, J)], &[heavy, light]);
    s.collect();
    s.collect();
    assert_eq!(s.seen.value("2 d"), [(110, 9.0)]);
    assert_eq!(s.seen.value("other d"), [(7, 1.0)]);
    assert_eq!((&*s.seen.ends, s.table.top.as_ref().unwrap().len()), (&["2 d".to_owned()][..], 1));
}

#[test]
fn a_storm_of_short_processes_is_ranked_before_it_fills_the_memory() {
    let mut s = Scene::new(1);
    let d = domain("d");
    let heavy = open(&s.rig, &process(1), &d, 7);
    s.write(&[(heavy, 9 * J)], &[heavy]);
    for pid in 2..30_002 {
        let short = open(&s.rig, &process(pid), &d, s.now);
        s.write(&[(short, J)], &[short]);
        assert!(s.table.leaving.len() < MOST_LEAVING);
    }
    while s.table.is_pending() {
        s.collect();
    }
    assert_eq!(s.seen.value("1 d"), [(7, 9.0)]);
    assert_eq!(s.seen.values.values().sum::<f64>(), 30_009.0);
}

#[test]
fn who_left_joins_other_where_its_stream_would_push_one_out_that_nobody_has_heard() {
    let mut s = Scene::new(5);
    s.table = Table::new(s.rig.registry.clone(), 5, 2);
    let d = domain("d");
    for pid in 1..=5 {
        let short = open(&s.rig, &process(pid), &d, 7);
        s.write(&[(short, pid * J)], &[short]);
    }
    while s.table.is_pending() {
        s.collect();
    }
    assert_eq!((s.seen.values.values().sum::<f64>(), s.table.ended.take_dropped()), (15.0, 0));
}

#[test]
fn the_sum_below_the_top_comes_again_if_it_did_not_arrive() {
    let mut s = Scene::new(1);
    let package = domain("d");
    let (a, b) = (open(&s.rig, &process(1), &package, 7), open(&s.rig, &process(2), &package, 9));
    s.write(&[(a, 5 * J), (b, J)], &[]);
    s.collect();
    assert!(!s.table.is_pending());
    s.table.unsent();
    s.write(&[], &[a, b]);
    s.collect();
    assert_eq!((s.seen.points, s.seen.value("other d")), (4, vec![(7, 1.0)]));
}

#[test]
fn an_exec_ends_the_stream_and_begins_another_at_the_value_before() {
    let mut s = Scene::new(0);
    let consumer = process(1);
    consumer.update(vec![Attribute::new("process.executable.name", "sh")]);
    let id = open(&s.rig, &consumer, &domain("d"), 7);
    consumer.update(vec![Attribute::new("process.executable.name", "bash")]);
    s.write(&[(id, J)], &[]);
    consumer.update(vec![Attribute::new("process.executable.name", "zsh")]);
    s.write(&[(id, 2 * J)], &[]);
    s.collect();
    assert_eq!(s.seen.value("1 zsh d"), [(7, 2.0)], "never told under another name");
    consumer.update(vec![Attribute::new("process.executable.name", "make")]);
    s.write(&[(id, 5 * J)], &[]);
    s.collect();
    s.collect();
    assert_eq!(s.seen.value("1 zsh d"), [(7, 2.0)]);
    assert_eq!(s.seen.value("1 make d"), [(120, 3.0)]);
    assert_eq!(s.seen.ends, ["1 zsh d"]);
}

#[test]
fn an_unchanged_consumer_is_sent_again_only_after_a_minute_and_hardware_always() {
    let mut s = Scene::new(0);
    let id = open(&s.rig, &process(1), &domain("d"), 7);
    let hardware = s.rig.series(&metric::HW_ENERGY, Resource::package(0));
    s.write(&[(id, J), (hardware, J)], &[]);
    let points = |s: &mut Scene, now: u64| {
        let before = s.seen.points;
        s.seen.take(&mut s.table, now);
        s.seen.points - before
    };
    assert_eq!(points(&mut s, 0), 2);
    assert_eq!(points(&mut s, REFRESH.as_nanos() as u64 - 1), 1);
    s.write(&[(hardware, J)], &[]);
    assert_eq!(points(&mut s, REFRESH.as_nanos() as u64), 2);
    assert_eq!(s.seen.times[&("1 d".to_owned(), 7)], 120, "still holds at the latest window's end");
    s.table.unsent();
    assert_eq!(points(&mut s, REFRESH.as_nanos() as u64), 2, "what did not arrive comes again");
}

#[test]
fn the_pipelines_own_other_and_the_sum_below_the_top_are_one_stream() {
    let mut s = Scene::new(1);
    let d = domain("d");
    let other = open(&s.rig, &Arc::new(Consumer::closing(ConsumerKind::Other)), &d, 3);
    let (a, b) = (open(&s.rig, &process(1), &d, 7), open(&s.rig, &process(2), &d, 7));
    s.write(&[(other, 10 * J), (a, 2 * J), (b, J)], &[]);
    s.collect();
    assert_eq!(s.seen.value("other d"), [(3, 11.0)]);
}

#[test]
fn threads_below_the_top_are_left_out_because_their_process_holds_them() {
    let mut s = Scene::new(1);
    let d = domain("d");
    let identity = Identity { kind: ConsumerKind::Thread, id: "9".into(), start_unix_nano: 9 };
    let thread = open(&s.rig, &Arc::new(Consumer::new(identity, None, Vec::new())), &d, 7);
    let a = open(&s.rig, &process(1), &d, 7);
    s.write(&[(a, 2 * J), (thread, J)], &[]);
    s.collect();
    assert_eq!(s.seen.values.values().sum::<f64>(), 2.0);
}

#[test]
fn points_of_unknown_series_are_counted() {
    let mut s = Scene::new(0);
    let id = open(&s.rig, &process(1), &domain("d"), 7);
    s.rig.registry.release(&[id]);
    s.write(&[(id, J)], &[]);
    assert_eq!((s.table.take_unknown(), s.table.take_unknown()), (1, 0));
}

/// A small linear congruential generator: the same run every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

#[test]
fn over_any_life_the_streams_sum_to_the_true_values_per_domain() {
    for seed in 0..40 {
        let mut chance = Chance(seed);
        let top = chance.below(6) as usize;
        let mut s = Scene::new(top);
        let domains = [domain("d0"), domain("d1")];
        let mut live: Vec<(Arc<Consumer>, [SeriesId; 2], [u64; 2])> = Vec::new();
        let mut truth = [0u64; 2];
        for pid in 0..300 {
            if live.len() < 12 {
                let consumer = process(pid);
                let ids = [0, 1].map(|d| open(&s.rig, &consumer, &domains[d], s.now));
                live.push((consumer, ids, [0; 2]));
            }
            let mut points = Vec::new();
            for (consumer, ids, values) in &mut live {
                let d = chance.below(3) as usize;
                if d < 2 {
                    let used = 1 << chance.below(30);
                    values[d] += used;
                    truth[d] += used;
                    points.push((ids[d], values[d]));
                }
                if chance.below(20) == 0 {
                    let name = format!("exec{pid}");
                    consumer.update(vec![Attribute::new("process.executable.name", name)]);
                }
            }
            let mut ended = Vec::new();
            if chance.below(3) == 0 {
                let at = chance.below(live.len() as u64) as usize;
                ended.extend(live.swap_remove(at).1);
            }
            s.write(&points, &ended);
            if chance.below(4) == 0 {
                s.collect();
            }
        }
        while s.table.is_pending() {
            s.collect();
        }
        for (d, truth) in truth.iter().enumerate() {
            let of_domain = s.seen.values.iter().filter(|((name, _), _)| name.ends_with(&format!("d{d}")));
            let steps: u64 = of_domain.map(|(_, joules)| (joules * 1e6).round() as u64).sum();
            assert_eq!(steps, *truth, "seed {seed}, domain {d}");
        }
        let own = s.table.slots.iter().filter(|(_, slot)| slot.stream.is_some()).count();
        assert!(top == 0 || own <= 2 * top, "at most `top` processes have streams, one per domain");
    }
}
