//! What everybody has sent and the pipeline has not taken yet. It is bounded: while it is full, requests are
//! sent away with "later", and nothing of them is kept. Whatever is acknowledged lies here and goes with the
//! next poll.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest,
};
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use tracing::warn;
use wattrace_api::{Attribute, Batch, Clock, Error, Registry, Timestamp};
use wattrace_ingest::{MetricDeclaration, MetricTable, PointError, RateLimit, SegmentWriter, UnixTime};

use crate::config::{Limits, Settings};
use crate::convert;
use crate::counts::{Anomalies, Counts, Fate};
use crate::sender::{Desk, Sender};
use crate::sequence::{Place, Sequence, Tracker};

/// Most metrics that senders may declare, all together: they stay for as long as the agent runs.
const MOST_METRICS: usize = 10_000;
/// How often the gateway's own metrics are published.
const PUBLISH: Duration = Duration::from_secs(10);
/// In an idle timeout, so many looks for what is idle.
const LOOKS: u32 = 10;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It was taken, but for what is told.
    Taken(Option<ExportMetricsPartialSuccess>),
    /// It may come again later.
    Busy,
}

/// See the module.
pub(crate) struct Gateway {
    inner: Mutex<Inner>,
}

struct Inner {
    limits: Limits,
    drop: Vec<String>,
    desk: Desk,
    metrics: MetricTable,
    senders: HashMap<Box<[u8]>, Sender>,
    epochs: HashMap<String, Epoch>,
    pending: Batch,
    closed: bool,
    looked: Timestamp,
    counts: Counts,
    complaints: RateLimit,
}

/// One start of a sender's output.
struct Epoch {
    tracker: Tracker,
    anomalies: Anomalies,
    label: Vec<Attribute>,
    touched: Timestamp,
}

/// Points that were refused, by reason, and one of the reasons in words.
#[derive(Default)]
struct Refused {
    reasons: BTreeMap<&'static str, u64>,
    example: Option<String>,
}

impl Gateway {
    /// Nothing yet.
    ///
    /// # Errors
    /// Fatal, if another plugin has metrics of the gateway's names.
    pub(crate) fn new(settings: &Settings, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        Ok(Self {
            inner: Mutex::new(Inner {
                limits: settings.limits,
                drop: settings.drop.clone(),
                metrics: MetricTable::new(registry.clone(), MOST_METRICS),
                senders: HashMap::new(),
                epochs: HashMap::new(),
                pending: Batch::default(),
                closed: false,
                looked: clock.now(),
                counts: Counts::new(registry.clone(), clock.clone())?,
                complaints: RateLimit::default(),
                desk: Desk { registry, unix: UnixTime::of(&clock), clock, key: Vec::new() },
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that never got so far.
    pub(crate) fn turned_away(&self, fate: Fate) {
        self.lock().counts.request(fate);
    }

    /// Takes a request in, or not.
    pub(crate) fn take(&self, request: ExportMetricsServiceRequest, sequence: Option<&Sequence>) -> Verdict {
        self.lock().take(request, sequence)
    }

    /// Hands over what has come, and ends what is idle. With `last`, nothing more is taken from here on.
    pub(crate) fn hand_over(&self, last: bool, out: &mut Batch) {
        self.lock().hand_over(last, out);
    }
}

impl Inner {
    fn take(&mut self, request: ExportMetricsServiceRequest, sequence: Option<&Sequence>) -> Verdict {
        let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
        let points: usize = metrics.map(convert::len).sum();
        // A request that is larger than all there may ever be is taken when there is nothing else.
        let full = self.pending.len() + points > self.limits.pending && !self.pending.is_empty();
        if full || self.closed {
            self.counts.request(Fate::Busy);
            if let Some(sequence) = sequence
                && let Some(epoch) = self.epochs.get_mut(&sequence.epoch)
            {
                epoch.place(sequence.number);
                epoch.tracker.refuse(sequence.number);
            }
            return Verdict::Busy;
        }
        if sequence.is_some_and(|sequence| !self.is_new(sequence, &request)) {
            self.counts.request(Fate::Duplicate);
            return Verdict::Taken(None);
        }
        let (mut pending, mut refused) = (std::mem::take(&mut self.pending), Refused::default());
        let mut writer = SegmentWriter::new(&mut pending);
        for from in request.resource_metrics {
            self.take_from(from, &mut writer, &mut refused);
        }
        self.pending = pending;
        self.counts.request(Fate::Taken);
        Verdict::Taken(self.told(refused))
    }

    /// Notes a request's number. Returns whether it has not been here before.
    fn is_new(&mut self, sequence: &Sequence, request: &ExportMetricsServiceRequest) -> bool {
        let now = self.desk.clock.now();
        if !self.epochs.contains_key(&sequence.epoch) {
            // Each sender has one epoch at a time, and the old ones go when they are idle.
            if self.epochs.len() >= self.limits.senders.saturating_mul(2) {
                return true;
            }
            let resource = request.resource_metrics.first().and_then(|r| r.resource.as_ref());
            let attributes = resource.map(|r| r.attributes.as_slice()).unwrap_or_default();
            let label = Sender::new(attributes, self.desk.registry.clone(), 0).label();
            let (tracker, anomalies) = (Tracker::default(), Anomalies::default());
            self.epochs.insert(sequence.epoch.clone(), Epoch { tracker, anomalies, label, touched: now });
        }
        let Some(epoch) = self.epochs.get_mut(&sequence.epoch) else { return true };
        epoch.touched = now;
        if epoch.place(sequence.number) == Place::Duplicate {
            return false;
        }
        epoch.tracker.take(sequence.number);
        true
    }

    fn take_from(&mut self, from: ResourceMetrics, writer: &mut SegmentWriter<'_>, refused: &mut Refused) {
        let mut attributes = from.resource.map(|r| r.attributes).unwrap_or_default();
        attributes.retain(|attribute| !self.drop.contains(&attribute.key));
        let mut key = std::mem::take(&mut self.desk.key);
        key.clear();
        convert::key(&mut attributes, &mut key);
        let known = self.senders.contains_key(key.as_slice());
        if !known && self.senders.len() < self.limits.senders {
            let sender = Sender::new(&attributes, self.desk.registry.clone(), self.limits.series);
            self.senders.insert(key.as_slice().into(), sender);
        }
        let sender = self.senders.get_mut(key.as_slice());
        self.desk.key = key;
        let metrics = from.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
        let Some(sender) = sender else {
            let error = PointError::Conflict(format!(
                "there are {} senders already: max_senders",
                self.limits.senders
            ));
            return metrics.for_each(|mut metric| {
                let points = convert::points(&mut metric).map_or_else(|(n, _)| n, |(_, points)| points.len());
                refused.add(points, &metric.name, &error, "too_many_senders");
            });
        };
        let mut taken = 0;
        for mut metric in metrics {
            let (name, unit) = (std::mem::take(&mut metric.name), std::mem::take(&mut metric.unit));
            let description = std::mem::take(&mut metric.description);
            let (flow, points) = match convert::points(&mut metric) {
                Ok(found) => found,
                Err((points, error)) => {
                    refused.add(points, &name, &error, error.reason());
                    continue;
                }
            };
            let new =
                MetricDeclaration { name: &name, unit: &unit, kind: flow.kind(), description: &description };
            match self.metrics.declare(new) {
                Ok(declared) => {
                    for point in points {
                        match sender.take((&name, declared, flow), point, &mut self.desk, writer) {
                            Ok(_) => taken += 1,
                            // Overtaken by a newer one, which says all that it would have said.
                            Err(PointError::Late) => self.counts.points("late", 1),
                            Err(error) => refused.add(1, &name, &error, error.reason()),
                        }
                    }
                }
                Err(error) => refused.add(points.len(), &name, &error, error.reason()),
            }
        }
        self.counts.points("taken", taken);
    }

    /// What is told to the sender, and in the log.
    fn told(&mut self, refused: Refused) -> Option<ExportMetricsPartialSuccess> {
        let example = refused.example?;
        let mut all = 0;
        for (reason, count) in refused.reasons {
            self.counts.points(reason, count);
            all += count;
        }
        let error_message = format!("{all} points refused, among them: {example}");
        if let Some(unsaid) = self.complaints.allow(Instant::now()) {
            warn!("{error_message} ({unsaid} requests with refused points before were not told of)");
        }
        let rejected_data_points = i64::try_from(all).unwrap_or(i64::MAX);
        Some(ExportMetricsPartialSuccess { rejected_data_points, error_message })
    }

    fn hand_over(&mut self, last: bool, out: &mut Batch) {
        self.closed |= last;
        let now = self.desk.clock.now();
        if now.since(self.looked) >= self.limits.idle / LOOKS {
            self.looked = now;
            self.end_idle(Timestamp(now.0.saturating_sub(self.limits.idle.as_nanos() as u64)));
        }
        if last || now.since(self.counts.published()) >= PUBLISH {
            let epochs = self.epochs.iter().map(|(name, e)| (name.as_str(), e.label.as_slice(), e.anomalies));
            let series = self.senders.values().map(Sender::series).sum();
            self.counts.publish(self.senders.len(), series, epochs, &mut self.pending);
        }
        if out.is_empty() {
            std::mem::swap(out, &mut self.pending);
        } else {
            out.append(&self.pending);
            self.pending.clear();
        }
    }

    fn end_idle(&mut self, since: Timestamp) {
        let mut writer = SegmentWriter::new(&mut self.pending);
        self.senders.retain(|_, sender| !sender.end_idle(since, &mut writer));
        let (counts, pending) = (&mut self.counts, &mut self.pending);
        self.epochs.retain(|name, epoch| {
            let alive = epoch.touched >= since;
            if !alive {
                counts.end(name, pending);
            }
            alive
        });
    }
}

impl Epoch {
    /// Where `number` stands, counted.
    fn place(&mut self, number: u64) -> Place {
        let place = self.tracker.place(number);
        match place {
            Place::Next { missing } => self.anomalies.missing += missing,
            Place::Late => self.anomalies.late += 1,
            Place::Duplicate => self.anomalies.duplicate += 1,
        }
        place
    }
}

impl Refused {
    fn add(&mut self, points: usize, metric: &str, error: &PointError, reason: &'static str) {
        if points > 0 {
            *self.reasons.entry(reason).or_default() += points as u64;
            self.example.get_or_insert_with(|| format!("{metric}: {error}"));
        }
    }
}
