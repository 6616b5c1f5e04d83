//! Converts a sender's wall-clock time to the pipeline's monotonic time.

use wattrace_api::{Clock, Timestamp};

/// The difference between Unix time and a clock's monotonic time. It is constant while the agent runs.
#[derive(Clone, Copy, Debug)]
pub struct UnixTime {
    unix_minus_monotonic: i128,
}

impl UnixTime {
    /// The difference for `clock`.
    pub fn of(clock: &Clock) -> Self {
        let now = clock.now();
        Self { unix_minus_monotonic: i128::from(clock.unix_nanos(now)) - i128::from(now.0) }
    }

    /// The monotonic time at `unix` nanoseconds since 1970. A time before this machine's boot becomes the
    /// boot, where monotonic time begins.
    pub fn timestamp(self, unix: u64) -> Timestamp {
        let monotonic = i128::from(unix) - self.unix_minus_monotonic;
        Timestamp(u64::try_from(monotonic.max(0)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_time_and_monotonic_time_convert_back_and_forth() {
        let clock = Clock::system();
        let (time, now) = (UnixTime::of(&clock), clock.now());
        assert_eq!(time.timestamp(clock.unix_nanos(now)), now);
        assert_eq!(time.timestamp(0), Timestamp(0));
    }
}
