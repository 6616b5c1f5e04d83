//! Wall-clock time, as others tell it, as the pipeline's monotonic time.

use wattrace_api::{Clock, Timestamp};

/// The way from Unix time to the clock's; it is constant while the agent runs.
#[derive(Clone, Copy, Debug)]
pub struct UnixTime {
    unix_minus_monotonic: i128,
}

impl UnixTime {
    /// That of `clock`.
    pub fn of(clock: &Clock) -> Self {
        let now = clock.now();
        Self { unix_minus_monotonic: i128::from(clock.unix_nanos(now)) - i128::from(now.0) }
    }

    /// The monotonic time at `unix` nanoseconds since 1970. What was before this machine's boot becomes its
    /// boot: monotonic time knows nothing earlier.
    pub fn timestamp(self, unix: u64) -> Timestamp {
        let monotonic = i128::from(unix) - self.unix_minus_monotonic;
        Timestamp(u64::try_from(monotonic.max(0)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let clock = Clock::system();
        let (time, now) = (UnixTime::of(&clock), clock.now());
        assert_eq!(time.timestamp(clock.unix_nanos(now)), now);
        assert_eq!(time.timestamp(0), Timestamp(0));
    }
}
