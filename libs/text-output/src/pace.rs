//! When something that is to happen about every so often is due, for those who are only ever called with a
//! batch.

use std::time::Duration;

use wattrace_api::Timestamp;

/// Due in the first call after each whole multiple of an interval. Sources tick on whole multiples too, so a
/// batch a second and a flush a second are one flush per batch, whatever the jitter.
#[derive(Clone, Debug)]
pub struct Pace {
    interval: u64,
    multiple: u64,
}

impl Pace {
    /// First due after the next multiple of `interval` since `now`. With an interval of zero it is always
    /// due.
    pub fn new(interval: Duration, now: Timestamp) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Self { interval, multiple: now.0.checked_div(interval).unwrap_or(0) }
    }

    /// Whether it is due at `now`; then it is not until the next multiple.
    pub fn is_due(&mut self, now: Timestamp) -> bool {
        let multiple = now.0.checked_div(self.interval);
        multiple.is_none_or(|n| std::mem::replace(&mut self.multiple, n) != n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_intervals_of_equal_length_meet_once_each_however_late_the_tick() {
        let mut pace = Pace::new(Duration::from_nanos(100), Timestamp(350));
        let due = [360, 399, 401, 499, 500, 599, 600, 930, 999].map(|t| pace.is_due(Timestamp(t)));
        assert_eq!(due, [false, false, true, false, true, false, true, true, false]);
        let mut always = Pace::new(Duration::ZERO, Timestamp(0));
        assert_eq!([always.is_due(Timestamp(0)), always.is_due(Timestamp(0))], [true, true]);
    }
}
