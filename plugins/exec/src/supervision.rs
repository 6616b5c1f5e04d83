//! What went wrong with the children: counted across their restarts, said in the log now and then, published
//! as `wattrace.exec.anomalies`.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tracing::warn;
use wattrace_api::{
    Attribute, Batch, Clock, Error, Metric, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Source, Tick, Timestamp, Unit, Value, Window,
};
use wattrace_ingest::Limit;

const ANOMALIES: Metric = Metric::counter(
    "wattrace.exec.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "What went wrong with the programs of the exec plugin, by element",
);

/// Something that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anomaly {
    /// It was started anew.
    Restart,
    /// It ended, though it was still wanted.
    Death,
    /// It did not do in time what it was asked to, and was killed.
    Timeout,
    /// A line that makes no sense.
    BadLine,
    /// A point that is refused.
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
pub(crate) struct Tally {
    element: String,
    counts: [AtomicU64; ALL.len()],
    starts: AtomicU64,
}

impl Tally {
    /// None yet of the `kind` of element `name`.
    pub(crate) fn new(kind: &str, name: &str) -> Self {
        let element = format!("{kind}/exec/{name}");
        Self { element, counts: Default::default(), starts: AtomicU64::new(0) }
    }

    /// The element's name.
    pub(crate) fn element(&self) -> &str {
        &self.element
    }

    /// One more.
    pub(crate) fn count(&self, anomaly: Anomaly) {
        self.counts[anomaly as usize].fetch_add(1, Relaxed);
    }

    /// How many so far.
    #[cfg(test)]
    pub(crate) fn get(&self, anomaly: Anomaly) -> u64 {
        self.counts[anomaly as usize].load(Relaxed)
    }

    /// How many so far, of all kinds.
    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        ALL.into_iter().map(|anomaly| self.get(anomaly)).sum()
    }

    /// It is started; all starts but the first are restarts.
    pub(crate) fn started(&self) {
        if self.starts.fetch_add(1, Relaxed) > 0 {
            self.count(Anomaly::Restart);
        }
    }
}

/// Tells what is wrong with a child's lines.
#[derive(Debug)]
pub(crate) struct Complaints {
    tally: Arc<Tally>,
    limit: Limit,
}

impl Complaints {
    /// Counted in `tally`.
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self { tally, limit: Limit::default() }
    }

    /// One about line number `line`.
    pub(crate) fn about(&mut self, anomaly: Anomaly, line: u64, what: impl Display) {
        self.tally.count(anomaly);
        let Some(unsaid) = self.limit.may_say(Instant::now()) else { return };
        let element = &self.tally.element;
        if unsaid > 0 {
            warn!("{element}: {unsaid} more complaints were left out, and counted");
        }
        warn!("{element}, line {line}: {what}");
    }
}

/// The source of `wattrace.exec.anomalies`.
pub(crate) struct Supervision {
    registry: Arc<Registry>,
    clock: Clock,
    metric: MetricId,
    start: Timestamp,
    window: Window,
    counts: Vec<(Arc<Tally>, Anomaly, Option<SeriesId>)>,
}

impl Supervision {
    /// Watches `tallies`, which began to count at `start`.
    ///
    /// # Errors
    /// Fatal, if another plugin has a metric of that name.
    pub(crate) fn open(
        tallies: &[Arc<Tally>],
        registry: Arc<Registry>,
        clock: Clock,
        start: Timestamp,
    ) -> Result<Self, Error> {
        let metric = registry.metric(&ANOMALIES).or_fatal()?;
        let counts = tallies.iter().flat_map(|tally| ALL.map(|anomaly| (tally.clone(), anomaly, None)));
        let (counts, window) = (counts.collect(), Window::new(start, start));
        Ok(Self { registry, clock, metric, start, window, counts })
    }
}

impl Source for Supervision {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        self.window = Window::new(self.window.end, self.clock.now());
        out.begin(self.window);
        for (tally, anomaly, series) in &mut self.counts {
            let count = tally.counts[*anomaly as usize].load(Relaxed);
            // A series appears with its first anomaly.
            if count > 0 {
                let id = *series.get_or_insert_with(|| {
                    let attributes = vec![
                        Attribute::new("wattrace.element", &*tally.element),
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
