//! Time as the kernel programs count it: nanoseconds of `CLOCK_MONOTONIC`. Wall-clock time appears only at
//! the outputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, d: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, d: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The half-open span `[start, end)` of monotonic time that a delta covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// First nanosecond covered.
    pub start: Timestamp,
    /// First nanosecond no longer covered.
    pub end: Timestamp,
}

impl Window {
    /// The window `[start, end)`.
    pub fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    /// Nanoseconds covered.
    pub fn nanos(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
}

/// The agent's clock: the system's, or one that a test turns.
#[derive(Clone, Debug)]
pub struct Clock {
    source: ClockSource,
    unix_minus_monotonic: i128,
    unix_minus_boot: i128,
}

#[derive(Clone, Debug)]
enum ClockSource {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clock. The offset to wall-clock time is taken once, so that start times stay put
    /// when the wall clock is stepped.
    pub fn system() -> Self {
        let unix = read_clock(libc::CLOCK_REALTIME) as i128;
        Self {
            source: ClockSource::System,
            unix_minus_monotonic: unix - read_clock(libc::CLOCK_MONOTONIC) as i128,
            unix_minus_boot: unix - read_clock(libc::CLOCK_BOOTTIME) as i128,
        }
    }

    /// A clock that stands at `start` until [`Clock::set`] turns it, with monotonic time equal to Unix time.
    pub fn manual(start: Timestamp) -> Self {
        Self {
            source: ClockSource::Manual(Arc::new(AtomicU64::new(start.0))),
            unix_minus_monotonic: 0,
            unix_minus_boot: 0,
        }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match &self.source {
            ClockSource::System => Timestamp(read_clock(libc::CLOCK_MONOTONIC)),
            ClockSource::Manual(now) => Timestamp(now.load(Relaxed)),
        }
    }

    /// Turns a manual clock to `now`; the system's clock is left alone.
    pub fn set(&self, now: Timestamp) {
        if let ClockSource::Manual(t) = &self.source {
            t.store(now.0, Relaxed);
        }
    }

    /// Nanoseconds since the Unix epoch at `at`.
    pub fn unix_nanos(&self, at: Timestamp) -> u64 {
        u64::try_from(at.0 as i128 + self.unix_minus_monotonic).unwrap_or(0)
    }

    /// Nanoseconds since the Unix epoch of a `CLOCK_BOOTTIME` reading, the clock of a process's start time.
    pub fn unix_nanos_of_boottime(&self, nanos: u64) -> u64 {
        u64::try_from(nanos as i128 + self.unix_minus_boot).unwrap_or(0)
    }
}

fn read_clock(id: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the call to write to; these clocks always exist, so it cannot fail.
    unsafe { libc::clock_gettime(id, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}
