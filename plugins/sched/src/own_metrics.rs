//! Metrics about accounting itself: context switches, and what was lost or did not fit.

use wattrace_api::{
    Attribute, Batch, Error, Metric, Registry, Resource, ResultExt, SeriesId, SeriesSpec, Timestamp, Unit,
    Value,
};

/// Context switches.
const SWITCHES: Metric = Metric::counter(
    "wattrace.sched.switches",
    Unit::Count("{switch}"),
    1.0,
    "Context switches accounted for",
);
/// What accounting had to repair.
const ANOMALIES: Metric = Metric::counter(
    "wattrace.sched.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "Events that were overwritten before they were read, charges that went to the overflow entry of a full \
     ledger page, and charges of processes that were not followed in a fork storm",
);

/// The series, and the last value of those that have no other home.
pub(crate) struct OwnMetrics {
    switches: SeriesId,
    event_lost: SeriesId,
    ledger_overflow: SeriesId,
    process_overflow: SeriesId,
    /// Events that were overwritten before they were read.
    pub(crate) lost_events: u64,
    /// Charges that went to the overflow entry of a full page.
    pub(crate) overflows: u64,
    /// Charges of processes that were not followed: too many had exited.
    pub(crate) unfollowed: u64,
}

impl OwnMetrics {
    pub(crate) fn open(registry: &Registry, start: Timestamp) -> Result<Self, Error> {
        let open = |metric: &Metric, attributes| {
            let metric = registry.metric(metric).or_fatal()?;
            let spec = SeriesSpec { attributes, ..SeriesSpec::new(metric, Resource::HOST, start) };
            Ok::<_, Error>(registry.open(spec))
        };
        let anomaly = |kind: &str| open(&ANOMALIES, vec![Attribute::new("wattrace.anomaly", kind)]);
        Ok(Self {
            event_lost: anomaly("event_lost")?,
            ledger_overflow: anomaly("ledger_overflow")?,
            process_overflow: anomaly("process_overflow")?,
            switches: open(&SWITCHES, Vec::new())?,
            lost_events: 0,
            overflows: 0,
            unfollowed: 0,
        })
    }

    pub(crate) fn emit(&self, switches: u64, out: &mut Batch) {
        let points = [
            (self.switches, switches),
            (self.event_lost, self.lost_events),
            (self.ledger_overflow, self.overflows),
            (self.process_overflow, self.unfollowed),
        ];
        points.into_iter().for_each(|(series, count)| out.push(series, Value::of_steps(count)));
    }
}
