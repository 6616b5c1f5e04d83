//! Irregular readings of meters, counted per domain and published when the count changes.

use std::sync::Arc;

use wattrace_api::{
    Attribute, Batch, Error, Metric, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Timestamp, Unit, Value,
};

/// Irregular readings of all meters but RAPL's, which has a metric of its own.
pub const METER_ANOMALIES: Metric = Metric::counter(
    "wattrace.meter.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "Irregular readings of a meter, by kind: wraps (nothing is lost), resets, gaps, bad readings and others",
);

/// The kinds of irregular readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// The counter passed its end. Nothing is lost.
    Wrap,
    /// The counter ran backwards (or jumped, on meters without [`Anomaly::Jump`]). The energy of that window
    /// is unknown, and attributed to nobody.
    Reset,
    /// The counter grew by more than the hardware can use. The energy of that window is unknown.
    Jump,
    /// There was no reading for too long. The energy of that window is unknown.
    Gap,
    /// The counter's CPU went offline, and it was opened again elsewhere. The energy in between is unknown.
    Reopened,
    /// There was no number, or an impossible one. The next good reading covers this window too.
    BadReading,
    /// More power than the hardware can draw. Treated as no reading.
    Implausible,
    /// Negative power, as sensors near zero report it. Counted as zero.
    Negative,
    /// The meter has not moved for a minute. Counted once, until it moves.
    Stalled,
    /// The counter of a part that always draws power has not moved for seconds. Counted once, until it moves.
    Still,
    /// Another interface to the same counter gives another result.
    Disagreement,
}

const KINDS: usize = 11;

impl Anomaly {
    fn as_str(self) -> &'static str {
        match self {
            Anomaly::Wrap => "wrap",
            Anomaly::Reset => "reset",
            Anomaly::Jump => "jump",
            Anomaly::Gap => "gap",
            Anomaly::Reopened => "reopened",
            Anomaly::BadReading => "bad_reading",
            Anomaly::Implausible => "implausible",
            Anomaly::Negative => "negative",
            Anomaly::Stalled => "stalled",
            Anomaly::Still => "still",
            Anomaly::Disagreement => "disagreement",
        }
    }
}

/// How often each kind has happened to one meter. A kind's series opens with its first point, so that a
/// healthy meter has none.
#[derive(Debug)]
pub struct Anomalies {
    registry: Arc<Registry>,
    metric: MetricId,
    resource: Resource,
    domain: String,
    start: Timestamp,
    counts: [u64; KINDS],
    series: [Option<SeriesId>; KINDS],
}

impl Anomalies {
    /// Declares `metric`, whose counters for the meter of `domain` start at `start`.
    ///
    /// # Errors
    /// Fatal if another plugin has declared the name of `metric` differently.
    pub fn new(
        registry: Arc<Registry>,
        metric: &Metric,
        resource: Resource,
        domain: String,
        start: Timestamp,
    ) -> Result<Self, Error> {
        let metric = registry.metric(metric).or_fatal()?;
        let (counts, series) = ([0; KINDS], [None; KINDS]);
        Ok(Self { registry, metric, resource, domain, start, counts, series })
    }

    /// Counts one, and pushes the new count into the segment of `out` begun last.
    pub fn count(&mut self, anomaly: Anomaly, out: &mut Batch) {
        let kind = anomaly as usize;
        self.counts[kind] += 1;
        let series = match self.series[kind] {
            Some(series) => series,
            None => *self.series[kind].insert(self.open(anomaly)),
        };
        out.push(series, Value::of_steps(self.counts[kind]));
    }

    /// Ends the series that are open.
    pub fn end(&mut self, out: &mut Batch) {
        self.series.iter_mut().filter_map(Option::take).for_each(|series| out.end(series));
    }

    fn open(&self, anomaly: Anomaly) -> SeriesId {
        // The domain is an attribute here: a series that names a domain itself is that domain's energy.
        let attributes = vec![
            Attribute::new("wattrace.domain", &*self.domain),
            Attribute::new("wattrace.anomaly", anomaly.as_str()),
        ];
        let spec = SeriesSpec::new(self.metric, self.resource.clone(), self.start);
        self.registry.open(SeriesSpec { attributes, ..spec })
    }
}
