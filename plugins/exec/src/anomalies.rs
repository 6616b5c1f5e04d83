//! What goes wrong with the programs: counted over their restarts, logged with a rate limit, and published as
//! the metric `wattrace.exec.anomalies`.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tracing::warn;
use wattrace_api::{
    Attribute, Batch, Clock, Error, Metric, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Source, Tick, Timestamp, Unit, Value, Window,
};
use wattrace_ingest::RateLimit;

const ANOMALIES: Metric = Metric::counter(
    "wattrace.exec.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "What went wrong with the programs of the exec plugin, by element",
);

/// Something that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anomaly {
    /// It was started again.
    Restart,
    /// It ended by itself.
    Death,
    /// It did not answer or read in time, and was killed.
    Timeout,
    /// A malformed line.
    BadLine,
    /// A refused point.
    BadPoint,
    /// A counter was restarted.
    Reset,
}

const ALL: [Anomaly; 6] =
    [Anomaly::Restart, Anomaly::Death, Anomaly::Timeout, Anomaly::BadLine, Anomaly::BadPoint, Anomaly::Reset];

impl Anomaly {
    fn as_str(self) -> &'static str {
        match self {
            Anomaly::Restart => "restart",
            Anomaly::Death => "death",
            Anomaly::Timeout => "timeout",
            Anomaly::BadLine => "bad_line",
            Anomaly::BadPoint => "bad_point",
            Anomaly::Reset => "reset",
        }
    }
}

/// The anomalies of an element.
#[derive(Debug)]
pub(crate) struct AnomalyCounts {
    element: String,
    counts: [AtomicU64; ALL.len()],
    starts: AtomicU64,
}

impl AnomalyCounts {
    /// Zero counts of the element `name` of the kind `kind`.
    pub(crate) fn new(kind: &str, name: &str) -> Self {
        let element = format!("{kind}/exec/{name}");
        Self { element, counts: Default::default(), starts: AtomicU64::new(0) }
    }

    /// The element's name.
    pub(crate) fn element(&self) -> &str {
        &self.element
    }

    /// Counts one.
    pub(crate) fn count(&self, anomaly: Anomaly) {
        self.counts[anomaly as usize].fetch_add(1, Relaxed);
    }

    /// The count of one kind.
    #[cfg(test)]
    pub(crate) fn get(&self, anomaly: Anomaly) -> u64 {
        self.counts[anomaly as usize].load(Relaxed)
    }

    /// The count of all kinds.
    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        ALL.into_iter().map(|anomaly| self.get(anomaly)).sum()
    }

    /// The program is started. All starts but the first count as restarts.
    pub(crate) fn started(&self) {
        if self.starts.fetch_add(1, Relaxed) > 0 {
            self.count(Anomaly::Restart);
        }
    }
}

/// Logs and counts problems with a program's lines.
#[derive(Debug)]
pub(crate) struct ProblemLog {
    counts: Arc<AnomalyCounts>,
    limit: RateLimit,
    /// Bounds that were exceeded, each logged once.
    exceeded: Vec<&'static str>,
}

impl ProblemLog {
    /// Counts in `counts`.
    pub(crate) fn new(counts: Arc<AnomalyCounts>) -> Self {
        Self { counts, limit: RateLimit::default(), exceeded: Vec::new() }
    }

    /// Counts that a bound was exceeded in line number `line`, and reports it the first time.
    pub(crate) fn report_limit(
        &mut self,
        anomaly: Anomaly,
        line: u64,
        bound: &'static str,
        what: impl Display,
    ) {
        self.counts.count(anomaly);
        if !self.exceeded.contains(&bound) {
            self.exceeded.push(bound);
            warn!("{}, line {line}: {what}; more of these are only counted", self.counts.element);
        }
    }

    /// Reports a problem with line number `line`.
    pub(crate) fn report(&mut self, anomaly: Anomaly, line: u64, what: impl Display) {
        self.counts.count(anomaly);
        let Some(suppressed) = self.limit.allow(Instant::now()) else { return };
        let element = &self.counts.element;
        if suppressed > 0 {
            warn!("{element}: {suppressed} more problems were not logged, but counted");
        }
        warn!("{element}, line {line}: {what}");
    }
}

/// The source of `wattrace.exec.anomalies`.
pub(crate) struct AnomalySource {
    registry: Arc<Registry>,
    clock: Clock,
    metric: MetricId,
    start: Timestamp,
    window: Window,
    counts: Vec<(Arc<AnomalyCounts>, Anomaly, Option<SeriesId>)>,
}

impl AnomalySource {
    /// Publishes `elements`, whose counts were zero at `start`.
    ///
    /// # Errors
    /// Fatal, if another plugin has a metric of that name.
    pub(crate) fn open(
        elements: &[Arc<AnomalyCounts>],
        registry: Arc<Registry>,
        clock: Clock,
        start: Timestamp,
    ) -> Result<Self, Error> {
        let metric = registry.metric(&ANOMALIES).or_fatal()?;
        let counts = elements.iter().flat_map(|counts| ALL.map(|anomaly| (counts.clone(), anomaly, None)));
        let (counts, window) = (counts.collect(), Window::new(start, start));
        Ok(Self { registry, clock, metric, start, window, counts })
    }
}

impl Source for AnomalySource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        self.window = Window::new(self.window.end, self.clock.now());
        out.begin(self.window);
        for (counts, anomaly, series) in &mut self.counts {
            let count = counts.counts[*anomaly as usize].load(Relaxed);
            // A series opens with its first anomaly.
            if count > 0 {
                let id = *series.get_or_insert_with(|| {
                    let attributes = vec![
                        Attribute::new("wattrace.element", &*counts.element),
                        Attribute::new("wattrace.anomaly", anomaly.as_str()),
                    ];
                    let spec = SeriesSpec::new(self.metric, Resource::HOST, self.start);
                    self.registry.open(SeriesSpec { attributes, ..spec })
                });
                out.push(id, Value::of_steps(count));
            }
        }
        Ok(())
    }
}
