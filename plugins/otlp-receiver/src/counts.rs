//! The gateway's own metrics: requests and points by what became of them, and missing requests.

use std::collections::HashMap;
use std::sync::Arc;

use wattrace_api::{
    Attribute, Batch, Clock, Error, Metric, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Timestamp, Unit, Value, Window,
};

const REQUESTS: Metric = Metric::counter(
    "wattrace.gateway.requests",
    Unit::Count("{request}"),
    1.0,
    "Requests that a gateway received, by what became of them",
);
const POINTS: Metric = Metric::counter(
    "wattrace.gateway.points",
    Unit::Count("{point}"),
    1.0,
    "Points that a gateway received, by what became of them",
);
const SEQUENCE: Metric = Metric::counter(
    "wattrace.gateway.sequence",
    Unit::Count("{request}"),
    1.0,
    "Lost, duplicate and reordered requests to a gateway, by sender",
);
const SENDERS: Metric = Metric::gauge(
    "wattrace.gateway.senders",
    Unit::Count("{sender}"),
    "Senders that have series at a gateway",
);
const SERIES: Metric = Metric::gauge(
    "wattrace.gateway.series",
    Unit::Count("{series}"),
    "Series that senders have open at a gateway",
);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    Taken,
    Busy,
    Duplicate,
    Unauthenticated,
    Malformed,
    TooLarge,
    Slow,
}

impl Fate {
    fn as_str(self) -> &'static str {
        match self {
            Fate::Taken => "taken",
            Fate::Busy => "busy",
            Fate::Duplicate => "duplicate",
            Fate::Unauthenticated => "unauthenticated",
            Fate::Malformed => "malformed",
            Fate::TooLarge => "too_large",
            Fate::Slow => "slow",
        }
    }
}

/// The counts of one sender's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Anomalies {
    pub(crate) missing: u64,
    pub(crate) late: u64,
    pub(crate) duplicate: u64,
}

/// Identifies a series by what it counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Request(Fate),
    Point(&'static str),
    Sequence(String, &'static str),
    Senders,
    Series,
}

/// Counters, and the series that publish them. A series is opened when its counter is no longer zero.
#[derive(Debug)]
pub(crate) struct Counts {
    registry: Arc<Registry>,
    clock: Clock,
    start: Timestamp,
    window: Window,
    metrics: [MetricId; 5],
    requests: HashMap<Fate, u64>,
    /// By `taken`, or the reason for the refusal.
    points: HashMap<&'static str, u64>,
    series: HashMap<Key, SeriesId>,
}

impl Counts {
    /// All zero.
    ///
    /// # Errors
    /// Fatal, if another plugin has metrics of these names.
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let id = |metric| registry.metric(metric).or_fatal();
        let metrics = [id(&REQUESTS)?, id(&POINTS)?, id(&SEQUENCE)?, id(&SENDERS)?, id(&SERIES)?];
        let start = clock.now();
        let (requests, points, series) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self {
            registry,
            clock,
            start,
            window: Window::new(start, start),
            metrics,
            requests,
            points,
            series,
        })
    }

    /// One more request.
    pub(crate) fn request(&mut self, fate: Fate) {
        *self.requests.entry(fate).or_default() += 1;
    }

    /// So many more points.
    pub(crate) fn points(&mut self, fate: &'static str, count: u64) {
        if count > 0 {
            *self.points.entry(fate).or_default() += count;
        }
    }

    /// When the counts were last published.
    pub(crate) fn published(&self) -> Timestamp {
        self.window.end
    }

    /// Pushes everything into `out`: the counts, and those of the senders' epochs.
    pub(crate) fn publish<'a>(
        &mut self,
        senders: usize,
        series: usize,
        epochs: impl Iterator<Item = (&'a str, &'a [Attribute], Anomalies)>,
        out: &mut Batch,
    ) {
        self.window = Window::new(self.window.end, self.clock.now());
        out.begin(self.window);
        let [request, point, sequence, sender, open] = self.metrics;
        for (fate, count) in self.requests.clone() {
            let attributes = || vec![Attribute::new("wattrace.fate", fate.as_str())];
            self.push(Key::Request(fate), request, attributes, Value::of_steps(count), out);
        }
        for (fate, count) in self.points.clone() {
            let attributes = || vec![Attribute::new("wattrace.fate", fate)];
            self.push(Key::Point(fate), point, attributes, Value::of_steps(count), out);
        }
        for (epoch, label, anomalies) in epochs {
            let Anomalies { missing, late, duplicate } = anomalies;
            for (name, count) in [("missing", missing), ("late", late), ("duplicate", duplicate)] {
                if count > 0 {
                    let own = Attribute::new("wattrace.anomaly", name);
                    let attributes = || label.iter().cloned().chain([own]).collect();
                    let key = Key::Sequence(epoch.to_owned(), name);
                    self.push(key, sequence, attributes, Value::of_steps(count), out);
                }
            }
        }
        self.push(Key::Senders, sender, Vec::new, Value::of_gauge(senders as f64), out);
        self.push(Key::Series, open, Vec::new, Value::of_gauge(series as f64), out);
    }

    fn push(
        &mut self,
        key: Key,
        metric: MetricId,
        attributes: impl FnOnce() -> Vec<Attribute>,
        value: Value,
        out: &mut Batch,
    ) {
        let id = *self.series.entry(key).or_insert_with(|| {
            let spec = SeriesSpec::new(metric, Resource::HOST, self.start);
            self.registry.open(SeriesSpec { attributes: attributes(), ..spec })
        });
        out.push(id, value);
    }

    /// Ends the series about `epoch`.
    pub(crate) fn end(&mut self, epoch: &str, out: &mut Batch) {
        for name in ["missing", "late", "duplicate"] {
            if let Some(id) = self.series.remove(&Key::Sequence(epoch.to_owned(), name)) {
                out.end(id);
            }
        }
    }
}
