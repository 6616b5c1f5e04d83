//! When a periodic action is due, for code that runs only when a batch comes.

use std::time::Duration;

use wattrace_api::Timestamp;

/// Due in the first call after each whole multiple of an interval. Sources tick on whole multiples too, so
/// with a batch a second and a flush a second there is one flush per batch, whatever the jitter.
#[derive(Clone, Debug)]
pub struct IntervalTimer {
    interval: u64,
    multiple: u64,
}

impl IntervalTimer {
    /// First due after the next multiple of `interval` from `now`. With an interval of zero it is always due.
    pub fn new(interval: Duration, now: Timestamp) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Self { interval, multiple: now.0.checked_div(interval).unwrap_or(0) }
    }

    /// Whether it is due at `now`. If so, it is not due again before the next multiple.
    pub fn is_due(&mut self, now: Timestamp) -> bool {
        let multiple = now.0.checked_div(self.interval);
        multiple.is_none_or(|n| std::mem::replace(&mut self.multiple, n) != n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_once_per_interval_however_late_the_tick() {
        let mut timer = IntervalTimer::new(Duration::from_nanos(100), Timestamp(350));
        let due = [360, 399, 401, 499, 500, 599, 600, 930, 999].map(|t| timer.is_due(Timestamp(t)));
        assert_eq!(due, [false, false, true, false, true, false, true, true, false]);
        let mut always = IntervalTimer::new(Duration::ZERO, Timestamp(0));
        assert_eq!([always.is_due(Timestamp(0)), always.is_due(Timestamp(0))], [true, true]);
    }
}
