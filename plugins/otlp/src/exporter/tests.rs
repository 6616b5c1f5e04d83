//! When values are sent and what happens to them, with a collector whose answers are scripted.

use std::collections::VecDeque;
use std::sync::Mutex;

use hyper::body::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric::Data, number_data_point};
use prost::Message;
use tokio::sync::Semaphore;
use wattrace_api::testing::Rig;
use wattrace_api::{Attribute, Consumer, ConsumerKind, Identity, SeriesId, SeriesSpec, Window, metric};
use wattrace_otlp_client::Env;
use wattrace_otlp_client::transport::Sending;

use super::*;
use crate::config::OtlpConfig;
use crate::signal::METRICS;

/// Answers as in `script`, then with success; each answer waits for a permit.
struct FakeCollector {
    script: Mutex<VecDeque<Outcome>>,
    seen: Mutex<Vec<ExportMetricsServiceRequest>>,
    permits: Semaphore,
}

impl Transport for FakeCollector {
    fn send(&self, request: Bytes) -> Sending<'_> {
        Box::pin(async move {
            self.permits.acquire().await.unwrap().forget();
            self.seen.lock().unwrap().push(ExportMetricsServiceRequest::decode(request).unwrap());
            self.script.lock().unwrap().pop_front().unwrap_or_else(accepted)
        })
    }
}

fn accepted() -> Outcome {
    Outcome::Accepted { rejected: 0, message: String::new() }
}

fn later(after: Option<Duration>) -> Outcome {
    Outcome::Later { cause: "busy".to_owned(), after }
}

const SECOND: Duration = Duration::from_secs(1);

struct Fixture {
    rig: Rig,
    fake: Arc<FakeCollector>,
    exporter: Exporter,
    _runtime: tokio::runtime::Runtime,
}

impl Fixture {
    /// With an interval of 10 s.
    fn new(script: impl IntoIterator<Item = Outcome>) -> Self {
        let rig = Rig::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let fake = Arc::new(FakeCollector {
            script: Mutex::new(script.into_iter().collect()),
            seen: Mutex::default(),
            permits: Semaphore::new(1000),
        });
        let config = OtlpConfig { timeout: SECOND, ..OtlpConfig::default() };
        let settings = Settings::resolve(config, &Env::new(METRICS, &|_| None)).unwrap();
        let (registry, clock) = (rig.registry.clone(), rig.clock.clone());
        let exporter =
            Exporter::new(&settings, fake.clone(), Arc::default(), registry, clock, runtime.handle().clone());
        Self { rig, fake, exporter, _runtime: runtime }
    }

    fn process(&self, pid: i64, more: Vec<Attribute>) -> SeriesId {
        let identity =
            Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid as u64 };
        let consumer = Consumer::new(identity, None, vec![Attribute::new("process.pid", pid)]);
        self.rig.registry.open(SeriesSpec {
            metric: self.rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap(),
            resource: wattrace_api::Resource::HOST,
            domain: None,
            consumer: Some(Arc::new(consumer)),
            attributes: more,
            start: Timestamp(1),
        })
    }

    /// Sets the clock to `seconds` and writes, without waiting for an answer.
    fn write(&mut self, seconds: u64, points: &[(SeriesId, u64)], ended: &[SeriesId]) {
        let now = Timestamp(0) + SECOND * seconds as u32;
        let mut batch = self.rig.batch(Window::new(self.rig.clock.now(), now), points);
        ended.iter().for_each(|&id| batch.end(id));
        self.rig.clock.set(now);
        self.exporter.write(&batch).unwrap();
    }

    /// Waits for the answers in flight.
    fn settle(&mut self) {
        if let Some(in_flight) = self.exporter.in_flight.take() {
            let report = in_flight.report.recv().unwrap();
            self.exporter.settle(Some(report), in_flight.requests);
        }
    }

    /// Points seen by the collector since the last call.
    fn seen(&mut self) -> Vec<Option<f64>> {
        self.settle();
        let seen = std::mem::take(&mut *self.fake.seen.lock().unwrap());
        seen.iter().flat_map(points_of).map(value_of).collect()
    }
}

fn points_of(request: &ExportMetricsServiceRequest) -> Vec<NumberDataPoint> {
    let scopes = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics);
    let metrics = scopes.flat_map(|s| &s.metrics);
    let points = metrics.flat_map(|m| match &m.data {
        Some(Data::Sum(sum)) => sum.data_points.clone(),
        _ => Vec::new(),
    });
    points.collect()
}

fn value_of(point: NumberDataPoint) -> Option<f64> {
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => Some(value),
        _ => None,
    }
}

const J: u64 = 1_000_000;

#[test]
fn it_sends_the_latest_values_once_an_interval() {
    let mut s = Fixture::new([]);
    let a = s.process(1, Vec::new());
    s.write(9, &[(a, J)], &[]);
    assert_eq!(s.seen(), []);
    s.write(10, &[(a, 2 * J)], &[]);
    assert_eq!(s.seen(), [Some(2.0)]);
    s.write(19, &[(a, 3 * J)], &[]);
    assert_eq!(s.seen(), []);
    s.write(21, &[(a, 4 * J)], &[]);
    assert_eq!(s.seen(), [Some(4.0)]);
}

#[test]
fn while_a_set_is_in_flight_no_other_is_sent() {
    let mut s = Fixture::new([]);
    s.fake.permits.forget_permits(1000);
    let a = s.process(1, Vec::new());
    for t in 1..10 {
        s.write(10 * t, &[(a, t * J)], &[]);
    }
    s.fake.permits.add_permits(1000);
    assert_eq!(s.seen(), [Some(1.0)]);
    s.write(100, &[], &[]);
    assert_eq!(s.seen(), [Some(9.0)]);
}

#[test]
fn the_last_value_of_an_ended_stream_is_sent_until_acknowledged_then_its_end_once() {
    let mut s = Fixture::new([accepted(), later(None), later(None)]);
    let a = s.process(1, Vec::new());
    s.write(10, &[(a, J)], &[]);
    assert_eq!(s.seen(), [Some(1.0)]);
    s.write(20, &[(a, 5 * J)], &[a]);
    for t in [30, 50] {
        assert_eq!(s.seen(), [Some(5.0)]);
        s.write(t, &[], &[]);
    }
    assert_eq!(s.seen(), [Some(5.0)]);
    s.write(60, &[], &[]);
    assert_eq!(s.seen(), [None]);
    s.write(90, &[], &[]);
    assert_eq!(s.seen(), []);
    assert_eq!(s.exporter.take_losses(), []);
}

#[test]
fn refused_and_rejected_values_are_counted_and_not_sent_again() {
    let partly = Outcome::Accepted { rejected: 1, message: "old".to_owned() };
    let mut s = Fixture::new([Outcome::Refused { cause: "no".to_owned() }, partly]);
    let (a, b) = (s.process(1, Vec::new()), s.process(2, Vec::new()));
    s.write(10, &[(a, J)], &[]);
    s.settle();
    assert_eq!(s.exporter.take_losses(), [("refused", 1)]);
    s.seen();
    s.write(20, &[(a, 2 * J), (b, 3 * J)], &[a]);
    s.settle();
    assert_eq!(s.exporter.take_losses(), [("rejected", 1)]);
    assert_eq!(s.seen(), [Some(3.0), Some(2.0)]);
    s.write(30, &[], &[]);
    assert_eq!(s.seen(), [None], "only the end is left to send");
}

#[test]
fn an_ended_stream_that_is_refused_is_counted_and_forgotten() {
    let mut s = Fixture::new([accepted(), Outcome::Refused { cause: "no".to_owned() }]);
    let a = s.process(1, Vec::new());
    s.write(10, &[(a, J)], &[]);
    s.settle();
    s.write(20, &[(a, J)], &[a]);
    s.settle();
    assert_eq!(s.exporter.take_losses(), [("refused", 1)]);
    s.seen();
    s.write(30, &[], &[]);
    assert_eq!(s.seen(), []);
}

#[test]
fn it_waits_as_long_as_the_collector_asks_or_else_for_its_backoff() {
    let mut s = Fixture::new([later(Some(SECOND * 45)), later(None)]);
    let a = s.process(1, Vec::new());
    s.write(10, &[(a, J)], &[]);
    s.settle();
    s.write(54, &[(a, 2 * J)], &[]);
    assert_eq!(s.seen().len(), 1);
    s.write(55, &[(a, 3 * J)], &[]);
    assert_eq!(s.seen(), [Some(3.0)]);
    // The second failure in a row: two seconds at most, not the interval's ten.
    s.write(57, &[(a, 4 * J)], &[]);
    assert_eq!(s.seen(), [Some(4.0)]);
}

#[test]
fn of_a_set_only_requests_that_were_not_accepted_are_sent_again() {
    let mut s = Fixture::new([accepted(), accepted(), accepted(), later(None)]);
    let large = || vec![Attribute::new("large", "x".repeat(1_100_000))];
    let (a, b) = (s.process(1, large()), s.process(2, large()));
    s.write(10, &[(a, J), (b, 2 * J)], &[]);
    assert_eq!(s.seen(), [Some(1.0), Some(2.0)]);
    s.write(20, &[(a, 3 * J), (b, 4 * J)], &[a, b]);
    assert_eq!(s.seen(), [Some(3.0), Some(4.0)]);
    s.write(30, &[], &[]);
    assert_eq!(s.seen(), [Some(4.0), None]);
}

#[test]
fn the_rest_of_a_set_is_not_sent_to_a_busy_collector() {
    let mut s = Fixture::new([later(None)]);
    let large = || vec![Attribute::new("large", "x".repeat(3_000_000))];
    let (a, b) = (s.process(1, large()), s.process(2, large()));
    s.write(10, &[(a, J), (b, 2 * J)], &[]);
    assert_eq!(s.seen(), [Some(1.0)]);
    s.write(20, &[], &[]);
    assert_eq!(s.seen(), [Some(1.0), Some(2.0)]);
}

#[test]
fn ended_streams_that_do_not_fit_into_a_set_follow_at_once_values_first() {
    let mut s = Fixture::new([]);
    let large = || vec![Attribute::new("large", "x".repeat(900_000))];
    let all: Vec<_> = (1..=8).map(|pid| s.process(pid, large())).collect();
    let points: Vec<_> = all.iter().zip(1..).map(|(&id, joules)| (id, joules * J)).collect();
    s.write(1, &points, &all);
    let mut seen = Vec::new();
    for step in 0..6 {
        s.write(10 + step / 6, &[], &[]);
        seen.push(s.seen());
    }
    let first: Vec<_> = (1..=8).map(|joules| Some(f64::from(joules))).collect();
    let flat: Vec<_> = seen.iter().flatten().copied().collect();
    assert_eq!(flat[..8], first, "all values before the first end, at one moment");
    assert!(seen[0].len() < 8 && flat[8..].iter().all(Option::is_none), "{seen:?}");
    assert_eq!(s.exporter.take_losses(), []);
}

#[test]
fn a_long_outage_drops_the_oldest_ended_streams_beyond_a_number_of_bytes_and_counts_them() {
    let mut s = Fixture::new(std::iter::repeat_n(later(None), 100));
    let large = || vec![Attribute::new("large", "x".repeat(1_000_000))];
    for pid in 1..=20 {
        let id = s.process(pid, large());
        s.write(pid as u64, &[(id, J)], &[id]);
        assert_eq!(s.exporter.crowded.load(Ordering::Relaxed), pid > 8, "{pid}");
    }
    assert_eq!(s.exporter.take_losses(), [("overflow", 4)]);
    assert_eq!(s.exporter.table.ended.len(), 16);
}

#[test]
fn more_rejected_points_than_were_sent_count_as_all_of_them() {
    let absurd = || Outcome::Accepted { rejected: u64::MAX, message: String::new() };
    // The live stream, the ended one, and its end.
    let mut s = Fixture::new([absurd(), absurd(), absurd()]);
    let (a, b) = (s.process(1, Vec::new()), s.process(2, Vec::new()));
    s.write(10, &[(a, J), (b, J)], &[a]);
    s.settle();
    assert_eq!(s.exporter.take_losses(), [("rejected", 2)]);
    let message = s.exporter.flush().unwrap_err().to_string();
    assert!(message.contains("rejects all points"), "nothing is left, and nothing has arrived: {message}");
}

#[test]
fn a_collector_that_asks_for_an_hour_is_tried_again_after_a_minute() {
    for asked in [SECOND * 3600, Duration::MAX] {
        let mut s = Fixture::new([later(Some(asked))]);
        let a = s.process(1, Vec::new());
        s.write(10, &[(a, J)], &[]);
        s.settle();
        s.write(69, &[(a, 2 * J)], &[]);
        assert_eq!(s.seen().len(), 1);
        s.write(70, &[(a, 3 * J)], &[]);
        assert_eq!(s.seen(), [Some(3.0)]);
    }
}

#[test]
fn a_flush_sends_all_values_and_ends() {
    let mut s = Fixture::new([later(None)]);
    let (a, b) = (s.process(1, Vec::new()), s.process(2, Vec::new()));
    s.write(10, &[(a, J), (b, J)], &[]);
    s.write(11, &[(a, 2 * J), (b, 3 * J)], &[b]);
    s.exporter.flush().unwrap();
    let seen = s.seen();
    assert_eq!(&seen[seen.len() - 3..], [Some(2.0), Some(3.0), None]);
    assert_eq!(s.exporter.take_losses(), []);
}

#[test]
fn values_that_a_flush_cannot_deliver_are_reported_counted_once_and_kept() {
    let mut s = Fixture::new(std::iter::repeat_n(later(Some(SECOND * 30)), 2));
    let (a, b) = (s.process(1, Vec::new()), s.process(2, Vec::new()));
    s.write(10, &[(a, J), (b, 3 * J)], &[]);
    s.write(11, &[(a, 2 * J)], &[a]);
    let message = s.exporter.flush().unwrap_err().to_string();
    assert!(message.contains("http://localhost:4317/") && message.contains("2 values"), "{message}");
    assert_eq!(s.exporter.take_losses(), [("unsent", 2)]);
    assert!(s.exporter.flush().is_err());
    assert_eq!(s.exporter.take_losses(), []);
    s.seen();
    s.write(41, &[], &[]);
    s.seen();
    s.write(80, &[], &[]);
    assert_eq!(s.seen(), [Some(3.0), Some(2.0)]);
}

#[test]
fn a_flush_gives_up_on_a_collector_that_never_answers() {
    let mut s = Fixture::new([]);
    s.fake.permits.forget_permits(1000);
    let a = s.process(1, Vec::new());
    s.write(10, &[(a, J)], &[]);
    let begun = Instant::now();
    assert!(s.exporter.flush().is_err());
    assert!(begun.elapsed() < FLUSH_LIMIT * 2);
    assert_eq!(s.exporter.take_losses(), [("unsent", 1)]);
}
