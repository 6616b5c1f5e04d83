//! Increments against cumulative values, over a random history of processes that work, exec and end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use prost::Message;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Identity, Resource, SeriesId, SeriesSpec, Timestamp, Window, metric,
};

use super::*;
use crate::encode::tests::shown;
use crate::signal::METRICS;
use crate::stream::Point;
use crate::table::Table;

/// What a collector has received, by attributes: points of (start, end, microjoules), and ends.
#[derive(Default)]
struct Received {
    points: BTreeMap<Vec<u8>, Vec<(u64, u64, u64)>>,
    ends: BTreeSet<Vec<u8>>,
}

impl Received {
    fn collect(&mut self, table: &mut Table, now: Timestamp) {
        let mut acknowledged = Vec::new();
        table.collect(now, false, |point: Point<'_>| {
            acknowledged.extend(point.ended.map(|number| number.get()));
            let stream = point.attributes.to_vec();
            match point.value {
                // As the receiver gets it: joules in a double.
                Some(value) => {
                    let microjoules = (point.metric.in_units(value) * 1e6).round() as u64;
                    let points = self.points.entry(stream).or_default();
                    points.push((point.start.0, point.time.0, microjoules));
                }
                None => _ = self.ends.insert(stream),
            }
            true
        });
        table.ended.delivered(acknowledged.into_iter());
    }

    /// The microjoules of each process, by the sum of its increments. Under which name an increment is that
    /// came before a name was seen may differ.
    fn by_increments(&self) -> BTreeMap<String, u64> {
        self.by_process(|points| points.iter().map(|(_, _, value)| value).sum())
    }

    /// The microjoules of each process, by the last cumulative value since each start.
    fn by_totals(&self) -> BTreeMap<String, u64> {
        self.by_process(|points| {
            let last: BTreeMap<_, _> = points.iter().map(|(start, _, value)| (*start, *value)).collect();
            last.values().sum()
        })
    }

    fn by_process(&self, sum: impl Fn(&[(u64, u64, u64)]) -> u64) -> BTreeMap<String, u64> {
        let mut processes = BTreeMap::new();
        for (stream, points) in &self.points {
            let attributes = NumberDataPoint::decode(&**stream).unwrap().attributes;
            let pid = attributes.iter().find(|attribute| attribute.key == "process.pid").map(shown);
            *processes.entry(pid.unwrap()).or_default() += sum(points);
        }
        processes
    }
}

struct Worker {
    series: SeriesId,
    consumer: Arc<Consumer>,
    value: u64,
}

fn worker(rig: &Rig, pid: i64) -> Worker {
    let identity =
        Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid as u64 };
    let names = vec![Attribute::new("process.pid", pid), Attribute::new("process.executable.name", "a")];
    let consumer = Arc::new(Consumer::new(identity, None, names));
    let metric = rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap();
    let spec = SeriesSpec::new(metric, Resource::HOST, rig.clock.now());
    let series = rig.registry.open(SeriesSpec { consumer: Some(consumer.clone()), ..spec });
    Worker { series, consumer, value: 0 }
}

#[test]
fn increments_sum_to_the_cumulative_value_to_the_microjoule_and_follow_each_other_without_a_gap() {
    let rig = Rig::new();
    rig.clock.set(Timestamp(1_000_000_000));
    let mut random = fastrand::Rng::with_seed(7);
    let mut tables = [Temporality::Cumulative, Temporality::Delta]
        .map(|t| Table::new(rig.registry.clone(), 1 << 24).reporting(t, None));
    let mut received = [Received::default(), Received::default()];
    let mut workers: Vec<_> = (0..20).map(|pid| worker(&rig, pid)).collect();
    for step in 0..2000 {
        let start = rig.clock.now();
        let mut points = Vec::new();
        for worker in &mut workers {
            if random.u8(..4) > 0 {
                // Zero too, and amounts that no double of joules holds exactly.
                worker.value += [0, 1, 333_333, 12_345_678_901][random.usize(..4)];
                points.push((worker.series, worker.value));
            }
        }
        let end = start + Duration::from_millis(100);
        let mut batch = rig.batch(Window::new(start, end), &points);
        let gone = (random.u8(..5) == 0).then(|| workers.swap_remove(random.usize(..workers.len())));
        gone.iter().for_each(|gone| batch.end(gone.series));
        rig.clock.set(end);
        tables.iter_mut().for_each(|table| table.write(&batch));
        if let Some(gone) = gone {
            rig.registry.release(&[gone.series]);
            workers.push(worker(&rig, 1000 + step));
        }
        if random.u8(..3) == 0 {
            let name = Attribute::new("process.executable.name", format!("b{step}"));
            workers[0].consumer.update(vec![name]);
        }
        if random.u8(..3) == 0 {
            received.iter_mut().zip(&mut tables).for_each(|(received, table)| received.collect(table, end));
        }
    }
    let end = rig.clock.now();
    received.iter_mut().zip(&mut tables).for_each(|(received, table)| received.collect(table, end));

    let [cumulative, delta] = received;
    let (totals, mut sums) = (cumulative.by_totals(), delta.by_increments());
    // A process that used nothing has no increments.
    totals.keys().for_each(|process| _ = sums.entry(process.clone()).or_default());
    assert!(totals.len() > 300 && totals.values().sum::<u64>() > 1 << 40, "{}", totals.len());
    assert_eq!(sums, totals);
    assert!(delta.points.len() > totals.len() + 100, "they exec: {}", delta.points.len());
    for points in delta.points.values() {
        assert!(points.iter().all(|(start, end, value)| start <= end && *value > 0), "{points:?}");
        assert!(points.is_sorted_by(|(_, end, _), (start, _, _)| end <= start), "{points:?}");
    }
    assert!(!cumulative.ends.is_empty() && delta.ends.is_empty());
}

#[test]
fn the_preference_is_configured_or_of_the_environment() {
    use Temporality::{Cumulative, Delta};
    let of = |configured: &str, value: &str| {
        let lookup = |name: &str| (name == VARIABLE).then(|| value.to_owned());
        let found = Temporalities::resolve(configured, &Env::new(METRICS, &lookup));
        found.map(|t| (t.counters, t.histograms)).map_err(|e| e.to_string())
    };
    assert_eq!(of("", ""), Ok((Cumulative, Cumulative)));
    assert_eq!(of("", "DELTA"), Ok((Delta, Delta)));
    assert_eq!(of("", "LowMemory"), Ok((Cumulative, Delta)));
    assert_eq!(of("", "sometimes"), Ok((Cumulative, Cumulative)));
    assert_eq!(of("cumulative", "delta"), Ok((Cumulative, Cumulative)));
    assert!(of("sometimes", "").unwrap_err().starts_with("plugins.otlp.temporality: `sometimes`"));
}
