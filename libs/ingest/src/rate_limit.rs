//! Limits how many log lines a sender's errors may cause: a few in each interval, then only their number.

use std::time::{Duration, Instant};

/// Lines that may be logged in one interval.
const BURST: u32 = 10;
/// Length of an interval.
const INTERVAL: Duration = Duration::from_secs(10);

/// A rate limit for log lines.
#[derive(Debug, Default)]
pub struct RateLimit {
    interval_start: Option<Instant>,
    allowed: u32,
    suppressed: u64,
}

impl RateLimit {
    /// Whether a line may be logged at `now`; if so, how many lines were suppressed since the last one.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.interval_start.is_none_or(|start| now.saturating_duration_since(start) >= INTERVAL) {
            (self.interval_start, self.allowed) = (Some(now), 0);
        }
        if self.allowed == BURST {
            self.suppressed += 1;
            return None;
        }
        self.allowed += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_pass_per_interval_and_the_others_are_counted() {
        let (mut limit, start) = (RateLimit::default(), Instant::now());
        let allowed = (0..1000).filter(|_| limit.allow(start).is_some()).count();
        assert_eq!(allowed, 10);
        assert_eq!(limit.allow(start + INTERVAL), Some(990));
        assert_eq!(limit.allow(start + INTERVAL), Some(0));
    }
}
