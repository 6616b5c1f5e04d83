//! What went differently than a meter that simply goes on, counted per domain, and published when it changes.

use std::sync::Arc;

use wattrace_api::{
    Attribute, Batch, Error, Metric, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Timestamp, Unit, Value,
};

/// Irregular readings of meters. One metric for all plugins that are made with this crate; the domain tells
/// them apart.
const ANOMALIES: Metric = Metric::counter(
    "wattrace.meter.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "Readings of a meter that did not simply go on: wraps (nothing lost), resets, gaps, bad readings and the like",
);

/// A way for a reading to be irregular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// The counter passed its end. Nothing is lost.
    Wrap,
    /// The counter ran backwards or jumped: the joules of that window are unknown, and nobody's.
    Reset,
    /// Nobody looked for too long: the joules of that window are unknown, and nobody's.
    Gap,
    /// There was no number, or none that can be. The next good reading covers this window too.
    BadReading,
    /// More power than the hardware could draw; taken for no reading.
    Implausible,
    /// Less than no power, as sensors near zero give it; counted as none.
    Negative,
    /// The meter has not moved for a minute.
    Stalled,
}

const KINDS: usize = 7;

impl Anomaly {
    fn as_str(self) -> &'static str {
        match self {
            Anomaly::Wrap => "wrap",
            Anomaly::Reset => "reset",
            Anomaly::Gap => "gap",
            Anomaly::BadReading => "bad_reading",
            Anomaly::Implausible => "implausible",
            Anomaly::Negative => "negative",
            Anomaly::Stalled => "stalled",
        }
    }
}

/// How often each has happened to one meter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anomalies {
    counts: [u64; KINDS],
    series: [Option<SeriesId>; KINDS],
}

impl Anomalies {
    /// Counts one, and pushes the new count into the segment of `out` begun last. The series opens with its
    /// first point, so that a healthy meter has none.
    pub fn count(
        &mut self,
        anomaly: Anomaly,
        resource: &Resource,
        domain: &str,
        opener: &Opener,
        out: &mut Batch,
    ) {
        let at = anomaly as usize;
        self.counts[at] += 1;
        let series = *self.series[at].get_or_insert_with(|| opener.open(anomaly, resource, domain));
        out.push(series, Value::of_steps(self.counts[at]));
    }

    /// Ends the series that are open.
    pub fn end(&mut self, out: &mut Batch) {
        self.series.iter_mut().filter_map(Option::take).for_each(|series| out.end(series));
    }
}

/// Opens the series of anomalies.
#[derive(Debug)]
pub struct Opener {
    registry: Arc<Registry>,
    metric: MetricId,
    start: Timestamp,
}

impl Opener {
    /// Declares the metric; its counters start at `start`.
    ///
    /// # Errors
    /// Fatal if another plugin has declared that name otherwise.
    pub fn new(registry: Arc<Registry>, start: Timestamp) -> Result<Self, Error> {
        let metric = registry.metric(&ANOMALIES).or_fatal()?;
        Ok(Self { registry, metric, start })
    }

    /// Where series are opened.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    fn open(&self, anomaly: Anomaly, resource: &Resource, domain: &str) -> SeriesId {
        // The domain is told as an attribute: these are no joules, and must not pass for a meter of the
        // domain.
        let attributes = vec![
            Attribute::new("wattrace.domain", domain),
            Attribute::new("wattrace.anomaly", anomaly.as_str()),
        ];
        self.registry
            .open(SeriesSpec { attributes, ..SeriesSpec::new(self.metric, resource.clone(), self.start) })
    }
}
