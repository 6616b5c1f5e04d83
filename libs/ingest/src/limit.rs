//! How often the log may hear of what others do wrong: a few lines in a while, and then how many were left
//! out.

use std::time::{Duration, Instant};

/// Lines that may be said in a row.
const BURST: u32 = 10;
/// After how long that many may be said again.
const WHILE: Duration = Duration::from_secs(10);

/// Counts what may be said.
#[derive(Debug, Default)]
pub struct Limit {
    since: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Limit {
    /// Whether something may be said at `now`; if so, how much was left unsaid before it.
    pub fn may_say(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WHILE) {
            (self.since, self.said) = (Some(now), 0);
        }
        if self.said == BURST {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_ten_times_and_then_counted() {
        let (mut limit, start) = (Limit::default(), Instant::now());
        let said = (0..1000).filter(|_| limit.may_say(start).is_some()).count();
        assert_eq!(said, 10);
        assert_eq!(limit.may_say(start + WHILE), Some(990));
        assert_eq!(limit.may_say(start + WHILE), Some(0));
    }
}
