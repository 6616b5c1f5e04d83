//! When to try again: after the shared backoff, and not before the collector allows it, within reason.

use std::time::Duration;

use wattrace_api::{Clock, Timestamp};

/// The longest wait between two attempts, and the longest that a collector may ask for. A request a minute
/// does no harm, while a wait of an hour would keep the values from a collector that has long been well.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// The state of a series of failures.
#[derive(Debug)]
pub(crate) struct Backoff {
    waits: wattrace_backoff::Backoff,
    /// The collector asked for no request before this.
    not_before: Timestamp,
}

impl Default for Backoff {
    fn default() -> Self {
        let waits = wattrace_backoff::Backoff::new(Duration::from_secs(1), LONGEST);
        Self { waits, not_before: Timestamp(0) }
    }
}

impl Backoff {
    /// Another attempt failed, and the collector asked to wait `after`. Returns the time of the next attempt:
    /// at most [`LONGEST`] from now.
    pub(crate) fn failed(&mut self, clock: &Clock, after: Option<Duration>) -> Timestamp {
        let now = clock.now();
        self.not_before = after.map_or(Timestamp(0), |after| now + after.min(LONGEST));
        (now + self.waits.next_wait()).max(self.not_before)
    }

    /// An attempt succeeded.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// How much longer the collector wants no request.
    pub(crate) fn quiet(&self, clock: &Clock) -> Duration {
        self.not_before.since(clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_start_over_after_success() {
        let clock = Clock::manual(Timestamp(0));
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.failed(&clock, None).since(clock.now())).collect();
        assert!(waits[0] <= Duration::from_secs(1) && waits[8] >= Duration::from_secs(30), "{waits:?}");
        backoff.succeeded();
        assert!(backoff.failed(&clock, None).since(clock.now()) <= Duration::from_secs(1));
    }

    #[test]
    fn the_collectors_retry_after_is_a_lower_bound() {
        let clock = Clock::manual(Timestamp(0));
        let mut backoff = Backoff::default();
        let asked = Duration::from_secs(30);
        assert_eq!(backoff.failed(&clock, Some(asked)).since(clock.now()), asked);
        assert_eq!(backoff.quiet(&clock), asked);
        clock.set(Timestamp(0) + asked);
        assert_eq!(backoff.quiet(&clock), Duration::ZERO);
        assert!(backoff.failed(&clock, Some(Duration::ZERO)).since(clock.now()) >= Duration::from_secs(1));
    }

    #[test]
    fn no_collector_is_left_alone_for_longer_than_a_minute() {
        let clock = Clock::manual(Timestamp(0));
        let mut backoff = Backoff::default();
        for asked in [61, 3600, 1 << 40, u64::MAX].map(Duration::from_secs) {
            assert_eq!(backoff.failed(&clock, Some(asked)).since(clock.now()), LONGEST, "{asked:?}");
        }
    }
}
