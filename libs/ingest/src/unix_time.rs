//! Converts a sender's wall-clock time to the pipeline's monotonic time.

use wattrace_api::{Clock, Timestamp};

/// Converts Unix time as this machine's wall clock is set now.
#[derive(Clone, Debug)]
pub struct UnixTime(Clock);

impl UnixTime {
    /// By the wall clock that `clock` follows.
    pub fn of(clock: &Clock) -> Self {
        Self(clock.clone())
    }

    /// The monotonic time at `unix` nanoseconds since 1970. A time before this machine's boot becomes the
    /// boot, where monotonic time begins.
    pub fn timestamp(&self, unix: u64) -> Timestamp {
        self.0.at_unix_nanos(unix)
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

    #[test]
    fn what_comes_after_the_wall_clock_was_set_is_converted_by_the_new_time() {
        let clock = Clock::manual(Timestamp(1_000_000_000));
        let time = UnixTime::of(&clock);
        clock.step_wall_clock(3_600_000_000_000);
        clock.follow_wall_clock();
        assert_eq!(time.timestamp(3_602_000_000_000), Timestamp(2_000_000_000));
    }
}
