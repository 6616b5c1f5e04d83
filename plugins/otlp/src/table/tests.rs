//! What the table reports over time, behind the limit and without it, against the true values.

use std::collections::{BTreeMap, HashMap};

use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use prost::Message;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Domain, Follows, Identity, Origin, Resource, SeriesSpec, Transform,
    Window, metric,
};
use wattrace_ranking::Top;

use super::*;
use crate::encode::tests::shown;
use crate::stream::REFRESH;

/// What a collector has received: the last value per stream and start, and which streams have ended.
#[derive(Default)]
struct Collector {
    values: BTreeMap<(String, u64), f64>,
    times: HashMap<(String, u64), u64>,
    ends: Vec<String>,
    points: usize,
}

impl Collector {
    fn take(&mut self, table: &mut Table, now: u64) {
        let mut acknowledged = Vec::new();
        table.collect(Timestamp(now), false, |point| {
            let name = name_of(&point);
            acknowledged.extend(point.ended);
            let Some(value) = point.value else {
                self.ends.push(name);
                return true;
            };
            let value = point.metric.in_units(value);
            let key = (name, point.start.0);
            assert!(self.values.get(&key).is_none_or(|&old| old <= value), "{key:?} went backwards");
            assert!(
                self.times.get(&key).is_none_or(|&old| old <= point.time.0),
                "{key:?}'s time went backwards"
            );
            assert!(point.start <= point.time);
            self.times.insert(key.clone(), point.time.0);
            self.values.insert(key, value);
            self.points += 1;
            true
        });
        table.ended.delivered(acknowledged.into_iter().map(NonZeroU64::get));
    }

    fn value(&self, name: &str) -> Vec<(u64, f64)> {
        self.values.iter().filter(|((n, _), _)| n == name).map(|((_, start), &v)| (*start, v)).collect()
    }
}

/// `other`, or the process's pid and name; with the domain where there is one.
fn name_of(point: &Point<'_>) -> String {
    let attributes = NumberDataPoint::decode(point.attributes).unwrap().attributes;
    let of = |key: &str| attributes.iter().find(|a| a.key == key).map(shown);
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

struct Fixture {
    rig: Rig,
    top: Option<Top>,
    table: Table,
    seen: Collector,
    now: u64,
}

impl Fixture {
    /// With streams for `count` processes; 0: for all.
    fn new(count: usize) -> Self {
        let rig = Rig::new();
        let table = Table::new(rig.registry.clone(), 1 << 20);
        let settings = wattrace_ranking::Settings {
            count,
            kind: ConsumerKind::Process,
            threads: true,
            by: metric::CONSUMER_ENERGY.name.into_owned(),
            fallback: metric::CONSUMER_CPU_TIME.name.into_owned(),
            interval: std::time::Duration::from_nanos(10),
        };
        let top = (count > 0).then(|| Top::new(settings, rig.registry.clone()));
        Self { rig, top, table, seen: Collector::default(), now: 100 }
    }

    fn write(&mut self, points: &[(SeriesId, u64)], ended: &[SeriesId]) {
        let end = self.now + 10;
        let mut batch = self.rig.batch(Window::new(Timestamp(self.now), Timestamp(end)), points);
        ended.iter().for_each(|&id| batch.end(id));
        self.now = end;
        if let Some(top) = &mut self.top {
            top.apply(&mut batch).unwrap();
        }
        self.table.write(&batch);
        self.rig.registry.release(batch.ended());
    }

    fn collect(&mut self) {
        self.seen.take(&mut self.table, self.now);
    }
}

#[test]
fn below_the_limit_the_sum_is_one_stream_and_comes_again_if_it_did_not_arrive() {
    let mut s = Fixture::new(1);
    let package = domain("d");
    let (a, b) = (open(&s.rig, &process(1), &package, 7), open(&s.rig, &process(2), &package, 9));
    s.write(&[(a, 5 * J), (b, J)], &[]);
    s.collect();
    assert!(!s.table.is_pending());
    s.table.mark_unsent();
    s.collect();
    assert_eq!((s.seen.points, s.seen.value("other d")), (4, vec![(9, 1.0)]));
    assert_eq!(s.seen.value("1 d"), [(7, 5.0)]);
}

#[test]
fn a_process_that_loses_its_place_ends_its_stream_and_goes_on_in_the_sum() {
    let mut s = Fixture::new(1);
    let package = domain("package-0");
    let (a, b) = (open(&s.rig, &process(1), &package, 7), open(&s.rig, &process(2), &package, 9));
    s.write(&[(a, 5 * J), (b, J)], &[]);
    s.collect();
    s.write(&[(b, 20 * J)], &[]);
    s.collect();
    assert_eq!(s.seen.value("2 package-0"), [(110, 19.0)], "from the last point that is in `other`");
    assert_eq!(s.seen.value("other package-0"), [(9, 1.0)]);
    s.write(&[(a, 6 * J)], &[]);
    s.collect();
    assert_eq!(s.seen.ends, ["1 package-0"], "displaced");
    assert_eq!(s.seen.value("1 package-0"), [(7, 5.0)]);
    assert_eq!(s.seen.value("other package-0"), [(9, 2.0)]);
}

#[test]
fn the_place_of_a_process_that_ended_goes_to_the_next() {
    let mut s = Fixture::new(1);
    let package = domain("d");
    let (a, b) = (open(&s.rig, &process(1), &package, 7), open(&s.rig, &process(2), &package, 9));
    s.write(&[(a, 5 * J), (b, J)], &[]);
    s.collect();
    s.write(&[], &[a]);
    s.write(&[(b, 2 * J)], &[]);
    s.collect();
    assert_eq!(s.seen.value("2 d"), [(110, 1.0)]);
    assert_eq!(s.seen.value("1 d"), [(7, 5.0)]);
    assert_eq!(s.table.entries.iter().count(), 2, "the process that ended is forgotten");
}

#[test]
fn the_last_values_of_a_process_arrive_under_its_name_before_their_ends() {
    let mut s = Fixture::new(1);
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
    assert_eq!((s.seen.ends, s.table.entries.iter().count()), (vec!["1".to_owned(), "1 d".to_owned()], 0));
}

#[test]
fn an_exec_ends_the_stream_and_begins_another_at_the_value_before() {
    let mut s = Fixture::new(0);
    let consumer = process(1);
    consumer.update(vec![Attribute::new("process.executable.name", "sh")]);
    let id = open(&s.rig, &consumer, &domain("d"), 7);
    consumer.update(vec![Attribute::new("process.executable.name", "bash")]);
    s.write(&[(id, J)], &[]);
    consumer.update(vec![Attribute::new("process.executable.name", "zsh")]);
    s.write(&[(id, 2 * J)], &[]);
    s.collect();
    assert_eq!(s.seen.value("1 zsh d"), [(7, 2.0)], "never sent under another name");
    consumer.update(vec![Attribute::new("process.executable.name", "make")]);
    s.write(&[(id, 5 * J)], &[]);
    s.collect();
    s.collect();
    assert_eq!(s.seen.value("1 zsh d"), [(7, 2.0)]);
    assert_eq!(s.seen.value("1 make d"), [(120, 3.0)]);
    assert_eq!(s.seen.ends, ["1 zsh d"]);
}

#[test]
fn an_unchanged_consumer_is_sent_again_after_a_minute_and_hardware_always() {
    let mut s = Fixture::new(0);
    let [id, other] = [1, 2].map(|pid| open(&s.rig, &process(pid), &domain("d"), 7));
    let hardware = s.rig.series(&metric::HW_ENERGY, Resource::package(0));
    s.write(&[(id, J), (hardware, J)], &[]);
    let points = |s: &mut Fixture, now: u64| {
        let before = s.seen.points;
        s.seen.take(&mut s.table, now);
        s.seen.points - before
    };
    assert_eq!(points(&mut s, 0), 2);
    assert_eq!(points(&mut s, REFRESH.as_nanos() as u64 - 1), 1);
    s.write(&[(hardware, J), (other, J)], &[]);
    assert_eq!(points(&mut s, REFRESH.as_nanos() as u64), 3);
    assert_eq!(s.seen.times[&("1 d".to_owned(), 7)], 120, "still holds at the latest window's end");
    s.table.mark_unsent();
    assert_eq!(points(&mut s, REFRESH.as_nanos() as u64), 3, "what did not arrive comes again");
}

#[test]
fn a_value_that_is_sent_again_has_no_later_time_than_its_joules_are_known_for() {
    let mut s = Fixture::new(0);
    let consumer = process(1);
    let id = open(&s.rig, &consumer, &domain("d"), 7);
    let elsewhere = open(&s.rig, &process(2), &domain("e"), 7);
    let cpu_time = open_time(&s.rig, &consumer, 7);
    s.write(&[(id, J)], &[]);
    s.seen.take(&mut s.table, 0);
    // Of the next window the CPU time is known, and the joules of another domain.
    s.write(&[(cpu_time, J), (elsewhere, J)], &[]);
    s.seen.take(&mut s.table, REFRESH.as_nanos() as u64);
    let key = ("1 d".to_owned(), 7);
    assert_eq!((s.seen.times[&key], s.seen.values[&key]), (110, 1.0));
    s.now = 110;
    s.write(&[(id, 3 * J)], &[]);
    s.seen.take(&mut s.table, REFRESH.as_nanos() as u64);
    assert_eq!((s.seen.times[&key], s.seen.values[&key]), (120, 3.0));
}

#[test]
fn points_of_unknown_series_are_counted() {
    let mut s = Fixture::new(0);
    let id = open(&s.rig, &process(1), &domain("d"), 7);
    s.rig.registry.release(&[id]);
    s.write(&[(id, J)], &[]);
    assert_eq!((s.table.take_unknown(), s.table.take_unknown()), (1, 0));
}

/// A small linear congruential generator: the same run every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

#[test]
fn over_random_lives_the_streams_sum_to_the_true_values_per_domain() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let top = random.below(6) as usize;
        let mut s = Fixture::new(top);
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
                let d = random.below(3) as usize;
                if d < 2 {
                    let used = 1 << random.below(30);
                    values[d] += used;
                    truth[d] += used;
                    points.push((ids[d], values[d]));
                }
                if random.below(20) == 0 {
                    let name = format!("exec{pid}");
                    consumer.update(vec![Attribute::new("process.executable.name", name)]);
                }
            }
            let mut ended = Vec::new();
            if random.below(3) == 0 {
                let at = random.below(live.len() as u64) as usize;
                ended.extend(live.swap_remove(at).1);
            }
            s.write(&points, &ended);
            if random.below(4) == 0 {
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
        let streams = s.table.entries.iter().count();
        assert!(
            top == 0 || streams <= 2 * top + 2,
            "at most `top` processes and `other`, each for two domains"
        );
    }
}
