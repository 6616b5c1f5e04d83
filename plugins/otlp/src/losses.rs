//! The points that were lost, by reason, until the runner takes the counts.

use tracing::warn;
use wattrace_api::Timestamp;

use crate::backoff::LONGEST;

/// Reasons: `refused` (the collector refuses the request for good), `rejected` (points of a request that it
/// accepted), `too_large` (a point that it does not even take alone), `unsent` (left at a flush), `overflow`
/// (too many ended streams), `unknown_series`, and those of the spool (`wattrace-spool`).
#[derive(Debug, Default)]
pub(crate) struct Losses {
    by_reason: Vec<(&'static str, u64)>,
    /// Last values that were dropped, and the joules in them, since that was reported; and when to do so
    /// next.
    dropped: (u64, f64),
    report_dropped_at: Timestamp,
}

impl Losses {
    /// Counts lost points.
    pub(crate) fn add(&mut self, reason: &'static str, points: u64) {
        if points == 0 {
            return;
        }
        match self.by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += points,
            None => self.by_reason.push((reason, points)),
        }
    }

    /// Logs last values that were dropped, at most once a minute.
    pub(crate) fn report_dropped(&mut self, values: u64, joules: f64, endpoint: &str, now: Timestamp) {
        self.dropped = (self.dropped.0 + values, self.dropped.1 + joules);
        if self.dropped.0 == 0 || now < self.report_dropped_at {
            return;
        }
        self.report_dropped_at = now + LONGEST;
        let (values, joules) = std::mem::take(&mut self.dropped);
        warn!(
            "{endpoint} has taken nothing for too long: the last values of {values} ended streams, with up \
             to {joules:.3} J, are dropped (overflow)"
        );
    }

    /// The counts since the last call.
    pub(crate) fn take(&mut self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut self.by_reason)
    }
}
