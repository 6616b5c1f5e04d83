//! Converts the driver's timestamps, microseconds of the wall clock, to the agent's clock. Both clocks are
//! read together at every reading, so that a wall clock that is set disturbs one window only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wattrace_api::{Clock, Timestamp};

/// Both clocks, read at the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DriverTime {
    /// The agent's clock.
    pub(crate) now: Timestamp,
    /// The wall clock in the driver's unit.
    pub(crate) stamp: u64,
}

/// The system's wall clock and a manual clock are further apart than this.
const SAME_ERA: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl DriverTime {
    /// Reads both.
    pub(crate) fn read(clock: &Clock) -> Self {
        let now = clock.now();
        let of_clock = clock.unix_nanos(now);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        // A manual clock (in tests) has a wall clock of its own.
        let unix = if u128::from(of_clock.abs_diff(wall)) < SAME_ERA.as_nanos() { wall } else { of_clock };
        Self { now, stamp: unix / 1_000 }
    }

    /// The agent's time of the driver's `stamp`.
    pub(crate) fn at(&self, stamp: u64) -> Timestamp {
        let nanos = |micros: u64| micros.saturating_mul(1_000);
        match self.stamp.checked_sub(stamp) {
            Some(ago) => Timestamp(self.now.0.saturating_sub(nanos(ago))),
            None => Timestamp(self.now.0.saturating_add(nanos(stamp - self.stamp))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_equally_long_ago_on_both_clocks() {
        let time = DriverTime { now: Timestamp(5_000_000_000), stamp: 1_700_000_000_000_000 };
        assert_eq!(time.at(1_700_000_000_000_000 - 250_000), Timestamp(4_750_000_000));
        assert_eq!(time.at(1_700_000_000_000_001), Timestamp(5_000_001_000));
        assert_eq!(time.at(0), Timestamp(0));
        let manual = DriverTime::read(&Clock::manual(Timestamp(7_000_000)));
        assert_eq!((manual.now, manual.stamp), (Timestamp(7_000_000), 7_000));
        let system = DriverTime::read(&Clock::system());
        assert!(system.stamp > 1_600_000_000_000_000);
    }
}
