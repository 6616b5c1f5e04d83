//! How long to wait before trying again: longer each time, by chance a little more or less, and never less
//! than the collector asked for.

use std::time::Duration;

use wattrace_api::{Clock, Timestamp};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The state of a series of failures.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// Before this the collector does not want to hear anything.
    asked: Timestamp,
}

impl Backoff {
    /// Another try failed, and the collector asked to wait `after`. When to try again.
    pub(crate) fn failed(&mut self, clock: &Clock, after: Option<Duration>) -> Timestamp {
        let now = clock.now();
        let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        // A crowd of agents that lost the same collector must not come back as a crowd.
        let own = now + full.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.asked = after.map_or(Timestamp(0), |after| now + after);
        own.max(self.asked)
    }

    /// A try succeeded.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// How long from now the collector wants to hear nothing.
    pub(crate) fn quiet(&self, clock: &Clock) -> Duration {
        self.asked.since(clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_with_jitter_and_start_over_after_success() {
        let clock = Clock::manual(Timestamp(0));
        let mut backoff = Backoff::default();
        for expected in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = backoff.failed(&clock, None).since(clock.now());
            let full = Duration::from_secs(expected);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.succeeded();
        assert!(backoff.failed(&clock, None).since(clock.now()) <= FIRST);
    }

    #[test]
    fn the_collectors_wish_is_a_lower_bound() {
        let clock = Clock::manual(Timestamp(0));
        let mut backoff = Backoff::default();
        let wish = Duration::from_secs(30);
        assert_eq!(backoff.failed(&clock, Some(wish)).since(clock.now()), wish);
        assert_eq!(backoff.quiet(&clock), wish);
        clock.set(Timestamp(0) + wish);
        assert_eq!(backoff.quiet(&clock), Duration::ZERO);
        assert!(backoff.failed(&clock, Some(Duration::ZERO)).since(clock.now()) >= FIRST);
    }
}
