//! What went differently than a steadily growing counter, counted per domain, and published when it changes.

use std::sync::Arc;

use wattrace_api::{
    Attribute, Batch, Error, Metric, MetricId, Registry, ResultExt, SeriesId, SeriesSpec, Timestamp, Unit,
    Value,
};

use crate::domain::Subject;

/// Irregular readings of a meter.
const ANOMALIES: Metric = Metric::counter(
    "wattrace.rapl.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "Readings of a RAPL counter that did not simply grow, by what they did instead",
);

/// A way for a reading to be irregular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anomaly {
    /// The counter passed its end. Nothing is lost.
    Wrap,
    /// The counter ran backwards: the joules of that window are unknown, and nobody's.
    Reset,
    /// There was no number. The next good reading covers this window too.
    BadReading,
    /// The counter grew by more than any hardware uses: the joules of that window are unknown, and nobody's.
    Jump,
    /// The counter of a part that always draws power has stood still for seconds. Counted once, until it
    /// moves.
    Still,
    /// What was read had ended (its CPU went offline) and was opened anew: the joules in between are unknown.
    Reopened,
    /// Another interface says something else about the same domain. Looked for at the start.
    Disagreement,
}

const KINDS: usize = 7;

impl Anomaly {
    fn as_str(self) -> &'static str {
        match self {
            Anomaly::Wrap => "wrap",
            Anomaly::Reset => "reset",
            Anomaly::BadReading => "bad_reading",
            Anomaly::Jump => "jump",
            Anomaly::Still => "still",
            Anomaly::Reopened => "reopened",
            Anomaly::Disagreement => "disagreement",
        }
    }
}

/// How often each has happened to one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Anomalies {
    counts: [u64; KINDS],
    series: [Option<SeriesId>; KINDS],
}

impl Anomalies {
    /// Counts one, and pushes the new count into the segment of `out` begun last. The series opens with its
    /// first point, so that a healthy meter has none.
    pub(crate) fn count(&mut self, anomaly: Anomaly, subject: &Subject, opener: &Opener, out: &mut Batch) {
        let at = anomaly as usize;
        self.counts[at] += 1;
        let series = *self.series[at].get_or_insert_with(|| opener.open(subject, anomaly));
        out.push(series, Value::of_steps(self.counts[at]));
    }

    /// Ends the series that are open.
    pub(crate) fn end(&mut self, out: &mut Batch) {
        for series in &mut self.series {
            if let Some(series) = series.take() {
                out.end(series);
            }
        }
    }
}

/// Opens the series of anomalies.
pub(crate) struct Opener {
    registry: Arc<Registry>,
    metric: MetricId,
    start: Timestamp,
}

impl Opener {
    /// Declares the metric; its counters start at `start`.
    pub(crate) fn new(registry: Arc<Registry>, start: Timestamp) -> Result<Self, Error> {
        let metric = registry.metric(&ANOMALIES).or_fatal()?;
        Ok(Self { registry, metric, start })
    }

    fn open(&self, subject: &Subject, anomaly: Anomaly) -> SeriesId {
        // The domain is told as an attribute: these are no joules, and must not pass for a meter of the
        // domain.
        self.registry.open(SeriesSpec {
            metric: self.metric,
            resource: subject.resource.clone(),
            domain: None,
            consumer: None,
            attributes: vec![
                Attribute::new("wattrace.domain", &*subject.domain.name),
                Attribute::new("wattrace.anomaly", anomaly.as_str()),
            ],
            start: self.start,
        })
    }
}
