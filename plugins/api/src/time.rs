//! Time as the kernel programs count it: nanoseconds of `CLOCK_MONOTONIC`. Wall-clock time appears only at
//! the outputs, and `wall.rs` converts to it.

mod wall;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use self::wall::{MIN_STEP, Reading, WallClock};
pub use self::wall::{StepCause, WallStep};

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

/// The agent's clock: the system's, or one that a test turns. Its copies share what they know of the wall
/// clock.
#[derive(Clone, Debug)]
pub struct Clock {
    source: ClockSource,
    wall: Arc<WallClock>,
}

#[derive(Clone, Debug)]
enum ClockSource {
    System,
    Manual(Arc<ManualTime>),
}

#[derive(Debug)]
struct ManualTime {
    now: AtomicU64,
    unix_minus_now: AtomicI64,
}

impl Clock {
    /// The system's clock. It knows the wall clock of this moment until [`Clock::follow_wall_clock`] is
    /// called.
    pub fn system() -> Self {
        let source = ClockSource::System;
        let wall = Arc::new(WallClock::new(source.read()));
        Self { source, wall }
    }

    /// A clock that stands at `start` until [`Clock::set`] turns it, with monotonic time equal to Unix time.
    pub fn manual(start: Timestamp) -> Self {
        let (now, unix_minus_now) = (AtomicU64::new(start.0), AtomicI64::new(0));
        let source = ClockSource::Manual(Arc::new(ManualTime { now, unix_minus_now }));
        let wall = Arc::new(WallClock::new(source.read()));
        Self { source, wall }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match &self.source {
            ClockSource::System => Timestamp(read_clock(libc::CLOCK_MONOTONIC)),
            ClockSource::Manual(time) => Timestamp(time.now.load(Relaxed)),
        }
    }

    /// Turns a manual clock to `now`; the system's clock is left alone.
    pub fn set(&self, now: Timestamp) {
        if let ClockSource::Manual(time) = &self.source {
            time.now.store(now.0, Relaxed);
        }
    }

    /// Sets the wall clock of a manual clock forward or back by nanoseconds; the system's is left alone.
    pub fn step_wall_clock(&self, by: i64) {
        if let ClockSource::Manual(time) = &self.source {
            time.unix_minus_now.fetch_add(by, Relaxed);
        }
    }

    /// Compares the wall clock with what is known of it, and follows it if it was set, or if the machine
    /// slept. Times from before keep their Unix time, so the start of a series stays put, and Unix time never
    /// goes back: after a step back it nearly stands still until the wall clock has caught up. Each step is
    /// returned once, to one of the callers. The runner calls this at every tick.
    pub fn follow_wall_clock(&self) -> Option<WallStep> {
        let reading = self.source.read();
        if self.wall.difference(&reading).unsigned_abs() < MIN_STEP {
            return None;
        }
        self.wall.follow(|| self.source.read())
    }

    /// Nanoseconds since the Unix epoch at `at`.
    pub fn unix_nanos(&self, at: Timestamp) -> u64 {
        self.wall.unix_of_monotonic(at.0)
    }

    /// The time at which the Unix time is `unix` nanoseconds, as the wall clock is set now.
    pub fn at_unix_nanos(&self, unix: u64) -> Timestamp {
        Timestamp(self.wall.monotonic_of_unix(unix))
    }

    /// Nanoseconds since the Unix epoch of a `CLOCK_BOOTTIME` reading, the clock of a process's start time.
    pub fn unix_nanos_of_boottime(&self, nanos: u64) -> u64 {
        self.wall.unix_of_boottime(nanos)
    }
}

impl ClockSource {
    /// All clocks at one moment.
    fn read(&self) -> Reading {
        match self {
            ClockSource::System => Reading::take(
                || read_clock(libc::CLOCK_MONOTONIC),
                || read_clock(libc::CLOCK_REALTIME),
                || read_clock(libc::CLOCK_BOOTTIME),
            ),
            ClockSource::Manual(time) => {
                let now = time.now.load(Relaxed);
                let unix = now.saturating_add_signed(time.unix_minus_now.load(Relaxed));
                Reading { monotonic: now, unix, boot: now }
            }
        }
    }
}

/// Through libc, so that a test can shift the clocks by preloading a library.
fn read_clock(id: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the call to write to; these clocks always exist, so it cannot fail.
    unsafe { libc::clock_gettime(id, &mut ts) };
    // A wall clock before 1970 counts as 1970.
    u64::try_from(ts.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(ts.tv_nsec).unwrap_or(0)
}
