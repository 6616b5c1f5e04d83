//! Exponential backoff with jitter: how long to wait before trying again what failed.
//!
//! It reads no clock. The caller adds the wait to the time of its own clock, so tests can turn that.
//!
//! ```
//! use std::time::Duration;
//! use wattrace_backoff::Backoff;
//!
//! let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
//! let wait = backoff.next_wait();
//! assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_secs(1));
//! backoff.reset();
//! ```

use std::time::Duration;

/// Waits that double from one failure to the next, up to a longest one.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits from `first`, at least 1 ms, to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let first = first.max(Duration::from_millis(1)).min(longest);
        Self { first, longest, next: first }
    }

    /// Another try failed: how long to wait until the next one. By chance it is up to half shorter than the
    /// full wait, so that agents that lost the same server do not come back at the same moment.
    pub fn next_wait(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.longest);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// A try succeeded: the next failure waits for the shortest time again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_with_jitter_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for full in [1, 2, 4, 8, 16, 32, 60, 60, 60].map(Duration::from_secs) {
            let wait = backoff.next_wait();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_secs(1));
    }

    #[test]
    fn waits_differ_by_chance() {
        let mut backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(60));
        let waits: Vec<_> = (0..10).map(|_| backoff.next_wait()).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    }

    #[test]
    fn no_wait_is_zero() {
        assert!(!Backoff::new(Duration::ZERO, Duration::from_secs(60)).next_wait().is_zero());
    }
}
