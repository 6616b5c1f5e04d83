//! Which processes have no span of their own: those that lived too short, and those beyond the limit of spans
//! a second. What they used is counted in the span of their parent, so that sums stay complete.

use std::time::Duration;

use rustc_hash::FxHashMap;

/// How many seconds are remembered: processes are not complete in the order in which they ended.
const SECONDS: usize = 128;

/// The configured limits, and how many spans each of the last seconds has.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    min_nanos: u64,
    /// 0: no limit.
    most_per_second: u32,
    /// Spans by the second in which they end.
    spans: FxHashMap<u64, u32>,
}

/// Why a process has no span of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// It lived too short.
    Duration,
    /// There are too many.
    Rate,
}

impl Limits {
    /// Limits with nothing counted.
    pub(crate) fn new(min_duration: Duration, most_per_second: u32) -> Self {
        let min_nanos = u64::try_from(min_duration.as_nanos()).unwrap_or(u64::MAX);
        Self { min_nanos, most_per_second, spans: FxHashMap::default() }
    }

    /// Which limit a process is beyond that lived from `start` to `end`, in nanoseconds since the Unix epoch.
    pub(crate) fn check(&self, start: u64, end: u64) -> Option<Limit> {
        if end.saturating_sub(start) < self.min_nanos {
            return Some(Limit::Duration);
        }
        let spans = self.spans.get(&second(end)).copied().unwrap_or(0);
        (self.most_per_second > 0 && spans >= self.most_per_second).then_some(Limit::Rate)
    }

    /// Counts a span that ends at `end`.
    pub(crate) fn count(&mut self, end: u64) {
        if self.most_per_second == 0 {
            return;
        }
        *self.spans.entry(second(end)).or_default() += 1;
        if self.spans.len() > SECONDS
            && let Some(&oldest) = self.spans.keys().min()
        {
            self.spans.remove(&oldest);
        }
    }
}

fn second(unix_nano: u64) -> u64 {
    unix_nano / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_limited_by_its_life_and_by_the_others_that_ended_in_its_second() {
        let mut limits = Limits::new(Duration::from_nanos(10), 2);
        assert_eq!((limits.check(90, 99), limits.check(90, 100)), (Some(Limit::Duration), None));
        limits.count(100);
        assert_eq!(limits.check(0, 200), None);
        limits.count(200);
        assert_eq!(limits.check(0, 999_999_999), Some(Limit::Rate));
        assert_eq!(limits.check(0, 1_000_000_000), None, "the next second");
    }

    #[test]
    fn without_limits_there_are_none_and_few_seconds_are_remembered() {
        let mut limits = Limits::new(Duration::ZERO, 0);
        (0..9).for_each(|_| limits.count(5));
        assert_eq!(limits.check(5, 5), None);
        let mut limits = Limits::new(Duration::ZERO, 1);
        (0..1000).for_each(|second| limits.count(second * 1_000_000_000));
        assert_eq!(limits.spans.len(), SECONDS);
        assert_eq!(limits.check(0, 999_000_000_000), Some(Limit::Rate));
    }
}
