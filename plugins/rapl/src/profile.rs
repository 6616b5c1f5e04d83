//! How readings of RAPL counters are judged. The counters, and what follows from a judgement, are in
//! `wattrace-meter`.

use std::time::Duration;

use wattrace_api::{Metric, ResourceKind, Unit};
use wattrace_meter::{Anomaly, Counter, CounterProfile, Period, Scale, Subject};

/// No package draws this much over a window: a counter that grows faster has been reset, or has jumped.
const MAX_WATTS: u64 = 10_000;
/// A part that always draws power cannot use less than one step of its counter in this time.
const STALL: Duration = Duration::from_secs(5);

/// Irregular readings.
pub(crate) const ANOMALIES: Metric = Metric::counter(
    "wattrace.rapl.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "Irregular readings of a RAPL counter, by kind",
);

static ALWAYS_DRAWS_POWER: CounterProfile =
    CounterProfile { anomalies: ANOMALIES, jump: Anomaly::Jump, stall: Some((Anomaly::Still, STALL)) };
static MAY_REST: CounterProfile = CounterProfile { anomalies: ANOMALIES, jump: Anomaly::Jump, stall: None };

/// A counter of units of `scale`.
pub(crate) fn counter(scale: Scale, period: Period) -> Counter {
    Counter::new(scale, period, MAX_WATTS)
}

/// Whether the hardware draws power at all times: if its counter stands still, nothing feeds the counter.
pub(crate) fn always_draws_power(subject: &Subject) -> bool {
    matches!(subject.resource.kind, ResourceKind::Package | ResourceKind::Psys)
}

/// How the counter of `subject` is judged.
pub(crate) fn of(subject: &Subject) -> &'static CounterProfile {
    if always_draws_power(subject) { &ALWAYS_DRAWS_POWER } else { &MAY_REST }
}
