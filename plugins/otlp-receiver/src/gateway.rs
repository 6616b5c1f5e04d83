//! The points that have arrived and wait for the pipeline. Their number is bounded: while there are too many,
//! requests are refused for now, and nothing of them is kept. What is acknowledged is here, and goes with the
//! next poll.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use tracing::warn;
use wattrace_api::text::is_unsafe;
use wattrace_api::{Attribute, Batch, Clock, Error, Registry, Timestamp};
use wattrace_ingest::{MetricDeclaration, MetricTable, PointError, RateLimit, SegmentWriter, UnixTime};

use crate::bounds;
use crate::config::{Limits, Settings};
use crate::convert;
use crate::counts::{Anomalies, Counts, Fate};
use crate::sender::{Context, Refusal, Sender};
use crate::sequence::{Position, Sequence, Tracker};
use crate::wake::Waker;

/// How many metrics all senders together may declare: they are kept as long as the agent runs.
const MOST_METRICS: usize = 10_000;
/// Most characters of an example of what is refused.
const MOST_SHOWN: usize = 300;
/// How often the gateway's own metrics are published.
const PUBLISH: Duration = Duration::from_secs(10);
/// How often in an idle timeout idle series are searched.
const SEARCHES: u32 = 10;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// It was accepted, perhaps without some of its points.
    Taken(Option<ExportMetricsPartialSuccess>),
    /// It may be sent again later.
    Busy,
}

/// See the module.
pub(crate) struct Gateway {
    inner: Mutex<Inner>,
}

struct Inner {
    limits: Limits,
    drop: Vec<String>,
    context: Context,
    waker: Option<Waker>,
    metrics: MetricTable,
    senders: HashMap<Box<[u8]>, Sender>,
    epochs: HashMap<String, Epoch>,
    pending: Batch,
    closed: bool,
    /// When idle series were last searched.
    searched: Timestamp,
    counts: Counts,
    log_limit: RateLimit,
}

/// One start of a sender's output.
struct Epoch {
    tracker: Tracker,
    anomalies: Anomalies,
    label: Vec<Attribute>,
    last_request: Timestamp,
}

/// Points that were refused, by reason, with one example in words.
#[derive(Default)]
struct Refused {
    reasons: BTreeMap<&'static str, u64>,
    example: Option<String>,
}

/// The interval of the source's ticks: often enough for idle series and for the gateway's own metrics. Points
/// do not wait for a tick.
pub(crate) fn tick_interval(settings: &Settings) -> Duration {
    PUBLISH.min(settings.limits.idle / SEARCHES)
}

/// Whether what happened at `last` is to happen again. It may be a little early, because ticks are not exact.
fn is_due(last: Timestamp, now: Timestamp, period: Duration) -> bool {
    now.since(last) >= period - period / 10
}

impl Gateway {
    /// An empty gateway.
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
                searched: clock.now(),
                counts: Counts::new(registry.clone(), clock.clone())?,
                log_limit: RateLimit::default(),
                waker: None,
                context: Context {
                    registry,
                    unix: UnixTime::of(&clock),
                    clock,
                    key: Vec::new(),
                    bytes: 0,
                    most_bytes: settings.limits.memory,
                },
            }),
        })
    }

    /// The same, which wakes the source when points have arrived.
    pub(crate) fn with_waker(self, waker: Waker) -> Self {
        self.lock().waker = Some(waker);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that was rejected before it got here.
    pub(crate) fn count_request(&self, fate: Fate) {
        self.lock().counts.request(fate);
    }

    /// Receives a request.
    pub(crate) fn receive(
        &self,
        request: ExportMetricsServiceRequest,
        sequence: Option<&Sequence>,
    ) -> Outcome {
        self.lock().receive(request, sequence)
    }

    /// Hands over the points that have arrived, and ends idle series. After `last` every request is refused.
    pub(crate) fn hand_over(&self, last: bool, out: &mut Batch) {
        self.lock().hand_over(last, out);
    }
}

impl Inner {
    fn receive(&mut self, request: ExportMetricsServiceRequest, sequence: Option<&Sequence>) -> Outcome {
        let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
        let points: usize = metrics.map(convert::len).sum();
        // A request that is larger than the limit is accepted when nothing else waits.
        let full = self.pending.len() + points > self.limits.pending && !self.pending.is_empty();
        if full || self.closed {
            self.counts.request(Fate::Busy);
            if let Some(sequence) = sequence
                && let Some(epoch) = self.epochs.get_mut(&sequence.epoch)
            {
                epoch.position(sequence.number);
                epoch.tracker.refuse(sequence.number);
            }
            return Outcome::Busy;
        }
        if sequence.is_some_and(|sequence| !self.is_new(sequence, &request)) {
            self.counts.request(Fate::Duplicate);
            return Outcome::Taken(None);
        }
        let (mut pending, mut refused) = (std::mem::take(&mut self.pending), Refused::default());
        let mut writer = SegmentWriter::new(&mut pending);
        for from in request.resource_metrics {
            self.record(from, &mut writer, &mut refused);
        }
        self.pending = pending;
        if !self.pending.is_empty() {
            self.waker.iter_mut().for_each(Waker::points_wait);
        }
        self.counts.request(Fate::Taken);
        Outcome::Taken(self.report(refused))
    }

    /// Records a request's number. Returns whether the request is new.
    fn is_new(&mut self, sequence: &Sequence, request: &ExportMetricsServiceRequest) -> bool {
        let now = self.context.clock.now();
        if !self.epochs.contains_key(&sequence.epoch) {
            // Each sender has one epoch at a time. Old ones are removed when they are idle.
            if self.epochs.len() >= self.limits.senders.saturating_mul(2) {
                return true;
            }
            let resource = request.resource_metrics.first().and_then(|r| r.resource.as_ref());
            let attributes = resource.map(|r| r.attributes.as_slice()).unwrap_or_default();
            let attributes = if bounds::attributes(attributes).is_ok() { attributes } else { &[] };
            let label = Sender::new(attributes, self.context.registry.clone(), 0).label();
            let (tracker, anomalies) = (Tracker::default(), Anomalies::default());
            self.epochs
                .insert(sequence.epoch.clone(), Epoch { tracker, anomalies, label, last_request: now });
        }
        let Some(epoch) = self.epochs.get_mut(&sequence.epoch) else { return true };
        epoch.last_request = now;
        if epoch.position(sequence.number) == Position::Duplicate {
            return false;
        }
        epoch.tracker.accept(sequence.number);
        true
    }

    /// Records the points of one sender.
    fn record(&mut self, from: ResourceMetrics, writer: &mut SegmentWriter<'_>, refused: &mut Refused) {
        let mut attributes = from.resource.map(|r| r.attributes).unwrap_or_default();
        attributes.retain(|attribute| !self.drop.contains(&attribute.key));
        let metrics = from.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
        let key = match self.sender(&mut attributes) {
            Ok(key) => key,
            Err((reason, problem)) => {
                return metrics.for_each(|mut metric| {
                    let points =
                        convert::points(&mut metric).map_or_else(|(n, _)| n, |(_, points)| points.len());
                    refused.add(points, &metric.name, &problem, reason);
                });
            }
        };
        let Some(sender) = self.senders.get_mut(&key) else { return };
        let mut taken = 0;
        for mut metric in metrics {
            let (name, unit) = (std::mem::take(&mut metric.name), std::mem::take(&mut metric.unit));
            let description = std::mem::take(&mut metric.description);
            let (aggregation, points) = match convert::points(&mut metric) {
                Ok(found) => found,
                Err((points, error)) => {
                    refused.add(points, &name, &error, error.reason());
                    continue;
                }
            };
            if let Err(problem) = bounds::metric(&name, &unit) {
                refused.add(points.len(), &name, &problem, "too_long");
                continue;
            }
            let (kind, description) =
                (aggregation.kind(), bounds::cut(&description, bounds::LONGEST_DESCRIPTION));
            let new = MetricDeclaration { name: &name, unit: &unit, kind, description };
            let declared = match self.metrics.declare(new) {
                Ok(declared) => (name.as_str(), declared, aggregation),
                Err(error) => {
                    refused.add(points.len(), &name, &error, error.reason());
                    continue;
                }
            };
            for point in points {
                match sender.record(declared, point, &mut self.context, writer) {
                    Ok(_) => taken += 1,
                    // A newer point of the series has arrived before, and includes this one.
                    Err(Refusal::Point(PointError::Late)) => self.counts.points("late", 1),
                    Err(error) => refused.add(1, &name, &error, error.reason()),
                }
            }
        }
        self.counts.points("taken", taken);
    }

    /// The key of the sender with these attributes, which is known afterwards.
    ///
    /// # Errors
    /// Why it cannot be: a reason to count by, and one in words.
    fn sender(&mut self, attributes: &mut [KeyValue]) -> Result<Box<[u8]>, (&'static str, String)> {
        bounds::attributes(attributes)
            .map_err(|problem| ("too_long", format!("its resource has {problem}")))?;
        let mut key = Vec::new();
        convert::key(attributes, &mut key);
        let key = key.into_boxed_slice();
        if !self.senders.contains_key(&key) {
            if self.senders.len() >= self.limits.senders {
                let problem = format!("there are {} senders already: max_senders", self.limits.senders);
                return Err(("too_many_senders", problem));
            }
            let sender = Sender::new(attributes, self.context.registry.clone(), self.limits.series);
            self.senders.insert(key.clone(), sender);
        }
        Ok(key)
    }

    /// Reports refused points: to the sender, and in the log.
    fn report(&mut self, refused: Refused) -> Option<ExportMetricsPartialSuccess> {
        let example = refused.example?;
        let mut all = 0;
        for (reason, count) in refused.reasons {
            self.counts.points(reason, count);
            all += count;
        }
        let error_message = format!("{all} points refused, among them: {example}");
        if let Some(suppressed) = self.log_limit.allow(Instant::now()) {
            warn!("{error_message} ({suppressed} earlier requests with refused points were not logged)");
        }
        let rejected_data_points = i64::try_from(all).unwrap_or(i64::MAX);
        Some(ExportMetricsPartialSuccess { rejected_data_points, error_message })
    }

    fn hand_over(&mut self, last: bool, out: &mut Batch) {
        self.closed |= last;
        let now = self.context.clock.now();
        if is_due(self.searched, now, self.limits.idle / SEARCHES) {
            self.searched = now;
            self.end_idle(Timestamp(now.0.saturating_sub(self.limits.idle.as_nanos() as u64)));
        }
        if last || is_due(self.counts.published(), now, PUBLISH) {
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
        self.waker.iter_mut().for_each(Waker::taken);
    }

    fn end_idle(&mut self, since: Timestamp) {
        let mut writer = SegmentWriter::new(&mut self.pending);
        let context = &mut self.context;
        self.senders.retain(|_, sender| !sender.end_idle(since, context, &mut writer));
        let (counts, pending) = (&mut self.counts, &mut self.pending);
        self.epochs.retain(|name, epoch| {
            let alive = epoch.last_request >= since;
            if !alive {
                counts.end(name, pending);
            }
            alive
        });
    }
}

impl Epoch {
    /// The position of `number`, which is also counted.
    fn position(&mut self, number: u64) -> Position {
        let position = self.tracker.position(number);
        match position {
            Position::Next { missing } => self.anomalies.missing += missing,
            Position::Late => self.anomalies.late += 1,
            Position::Duplicate => self.anomalies.duplicate += 1,
        }
        position
    }
}

impl Refused {
    fn add(&mut self, points: usize, metric: &str, error: &dyn Display, reason: &'static str) {
        if points > 0 {
            *self.reasons.entry(reason).or_default() += points as u64;
            self.example.get_or_insert_with(|| {
                let text = format!("{}: {error}", bounds::cut(metric, 64));
                let visible = |c| if is_unsafe(c) { ' ' } else { c };
                text.chars().take(MOST_SHOWN).map(visible).collect()
            });
        }
    }
}
