//! Converts the kernel's clocks to Unix time, and follows the wall clock when it is set. `time.rs` reads the
//! clocks.
//!
//! NTP slews `CLOCK_MONOTONIC` and `CLOCK_REALTIME` alike, so their difference changes only if the wall clock
//! is set or the machine sleeps. Each change begins a new piece of the conversion: earlier times keep the
//! Unix time that they had.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

/// A smaller difference is no step, ns: the clocks are read one after the other.
pub(super) const MIN_STEP: u64 = 2_000_000;

/// Readings of the clocks that took longer are repeated, ns.
const MAX_SPREAD: u64 = 100_000;

/// After a step back, Unix time advances by one part in so many until the wall clock has caught up. Ticks
/// keep distinct times, and an hour's step costs four seconds.
const CREEP: u64 = 1024;

/// More steps are not remembered: the oldest is dropped.
const MAX_PIECES: usize = 1000;

/// The clocks at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) monotonic: u64,
    pub(super) unix: u64,
    pub(super) boot: u64,
}

impl Reading {
    /// Reads the clocks, again if something came in between.
    pub(super) fn take(monotonic: impl Fn() -> u64, unix: impl Fn() -> u64, boot: impl Fn() -> u64) -> Self {
        let mut last = Reading { monotonic: 0, unix: 0, boot: 0 };
        for _ in 0..4 {
            let before = monotonic();
            let (unix, boot) = (unix(), boot());
            let spread = monotonic().saturating_sub(before);
            last = Reading { monotonic: before + spread / 2, unix, boot };
            if spread <= MAX_SPREAD {
                break;
            }
        }
        last
    }

    fn unix_minus_monotonic(&self) -> i64 {
        difference(self.unix, self.monotonic)
    }

    fn unix_minus_boot(&self) -> i64 {
        difference(self.unix, self.boot)
    }
}

/// `a - b`. Both are below 2^63 until the year 2262.
fn difference(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(0)
}

/// Why the difference between wall clock and monotonic clock has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepCause {
    /// The wall clock was set.
    Set,
    /// The machine slept: the monotonic clock stood still.
    Sleep,
}

/// A step of the wall clock against the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallStep {
    /// Forward, or back if negative, in nanoseconds.
    pub by: i64,
    /// Why.
    pub cause: StepCause,
}

impl fmt::Display for WallStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = Duration::from_millis(self.by.unsigned_abs().saturating_add(500_000) / 1_000_000);
        match (self.cause, self.by < 0) {
            (StepCause::Sleep, _) => write!(f, "the machine slept for {by:?}; timestamps follow"),
            (StepCause::Set, false) => {
                write!(f, "the wall clock was set forward by {by:?}; timestamps follow")
            }
            (StepCause::Set, true) => write!(
                f,
                "the wall clock was set back by {by:?}; timestamps of a series must not go back, so they \
                 nearly stand still until the wall clock has caught up; restart the agent to use the new \
                 time at once"
            ),
        }
    }
}

/// From the monotonic clock and the boot clock to Unix time.
#[derive(Debug)]
pub(super) struct WallClock {
    monotonic: Conversion,
    boot: Conversion,
}

impl WallClock {
    pub(super) fn new(reading: Reading) -> Self {
        Self {
            monotonic: Conversion::new(reading.unix_minus_monotonic()),
            boot: Conversion::new(reading.unix_minus_boot()),
        }
    }

    /// By how much the wall clock differs from what is known of it.
    pub(super) fn difference(&self, reading: &Reading) -> i64 {
        reading.unix_minus_monotonic().saturating_sub(self.monotonic.offset())
    }

    /// Follows the wall clock. `None`: another thread has done it.
    pub(super) fn follow(&self, read: impl Fn() -> Reading) -> Option<WallStep> {
        let mut pieces = self.monotonic.pieces.write().unwrap_or_else(PoisonError::into_inner);
        // With the lock held, so that no time after the step has been converted as one before it.
        let reading = read();
        let by = reading.unix_minus_monotonic().saturating_sub(self.monotonic.last_offset(&pieces));
        if by.unsigned_abs() < MIN_STEP {
            return None;
        }
        self.monotonic.add(&mut pieces, reading.monotonic, reading.unix_minus_monotonic());
        drop(pieces);
        let mut pieces = self.boot.pieces.write().unwrap_or_else(PoisonError::into_inner);
        let of_boot = reading.unix_minus_boot().saturating_sub(self.boot.last_offset(&pieces));
        if of_boot.unsigned_abs() < MIN_STEP {
            return Some(WallStep { by, cause: StepCause::Sleep });
        }
        self.boot.add(&mut pieces, reading.boot, reading.unix_minus_boot());
        Some(WallStep { by, cause: StepCause::Set })
    }

    pub(super) fn unix_of_monotonic(&self, at: u64) -> u64 {
        self.monotonic.unix(at)
    }

    pub(super) fn unix_of_boottime(&self, at: u64) -> u64 {
        self.boot.unix(at)
    }

    /// As the wall clock is set now. A time before the boot becomes the boot.
    pub(super) fn monotonic_of_unix(&self, unix: u64) -> u64 {
        unix.saturating_add_signed(self.monotonic.offset().saturating_neg())
    }
}

/// From a clock of the kernel to Unix time: a function that never decreases.
#[derive(Debug)]
struct Conversion {
    /// Unix time minus the clock, before the first step.
    first_offset: i64,
    /// How many pieces there are: without one, no lock is taken.
    count: AtomicUsize,
    pieces: RwLock<Vec<Piece>>,
}

/// From a step on.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// When it begins, by the clock.
    from: u64,
    /// Unix time minus the clock.
    offset: i64,
    /// The Unix time that was reached before.
    floor: u64,
}

impl Piece {
    fn unix(&self, at: u64) -> u64 {
        let creeping = self.floor.saturating_add(at.saturating_sub(self.from) / CREEP);
        at.saturating_add_signed(self.offset).max(creeping)
    }
}

impl Conversion {
    fn new(first_offset: i64) -> Self {
        Self { first_offset, count: AtomicUsize::new(0), pieces: RwLock::default() }
    }

    /// As it is now.
    fn offset(&self) -> i64 {
        if self.count.load(Ordering::Acquire) == 0 {
            return self.first_offset;
        }
        self.last_offset(&self.pieces.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn last_offset(&self, pieces: &[Piece]) -> i64 {
        pieces.last().map_or(self.first_offset, |piece| piece.offset)
    }

    fn unix(&self, at: u64) -> u64 {
        if self.count.load(Ordering::Acquire) == 0 {
            return at.saturating_add_signed(self.first_offset);
        }
        self.unix_in(&self.pieces.read().unwrap_or_else(PoisonError::into_inner), at)
    }

    fn unix_in(&self, pieces: &[Piece], at: u64) -> u64 {
        let piece = pieces.partition_point(|piece| piece.from <= at).checked_sub(1).map(|last| pieces[last]);
        piece.map_or(at.saturating_add_signed(self.first_offset), |piece| piece.unix(at))
    }

    fn add(&self, pieces: &mut Vec<Piece>, from: u64, offset: i64) {
        if pieces.len() == MAX_PIECES {
            pieces.remove(0);
        }
        let floor = self.unix_in(pieces, from);
        pieces.push(Piece { from, offset, floor });
        self.count.store(pieces.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, Timestamp};

    const SECOND: i64 = 1_000_000_000;

    fn at(second: u64) -> Timestamp {
        Timestamp(second * SECOND as u64)
    }

    fn unix(clock: &Clock, second: u64) -> f64 {
        clock.unix_nanos(at(second)) as f64 / SECOND as f64
    }

    #[test]
    fn after_a_step_forward_later_times_follow_and_earlier_ones_stay() {
        let clock = Clock::manual(at(100));
        let copy = clock.clone();
        clock.step_wall_clock(3600 * SECOND);
        assert_eq!(unix(&clock, 100), 100.0, "nobody has looked yet");
        let step = clock.follow_wall_clock().unwrap();
        assert_eq!(step, WallStep { by: 3600 * SECOND, cause: StepCause::Set });
        assert_eq!(copy.follow_wall_clock(), None, "it is reported once, over all copies");
        assert_eq!([unix(&copy, 99), unix(&copy, 100), unix(&copy, 101)], [99.0, 3700.0, 3701.0]);
        let boot = |second: u64| copy.unix_nanos_of_boottime(at(second).0) / SECOND as u64;
        assert_eq!([boot(99), boot(100)], [99, 3700], "a process keeps the start time that it had");
        assert_eq!(copy.at_unix_nanos(at(3705).0), at(105));
    }

    #[test]
    fn after_a_step_back_no_time_goes_back_and_no_two_ticks_have_the_same() {
        let clock = Clock::manual(at(100));
        clock.step_wall_clock(-10 * SECOND);
        assert_eq!(clock.follow_wall_clock().unwrap().by, -10 * SECOND);
        let times: Vec<u64> = (99..130).map(|second| clock.unix_nanos(at(second))).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        assert_eq!([unix(&clock, 99), unix(&clock, 100), unix(&clock, 120)], [99.0, 100.0, 110.0]);
        assert!(unix(&clock, 105) < 100.01, "{}", unix(&clock, 105));
    }

    #[test]
    fn every_step_of_several_is_followed() {
        let clock = Clock::manual(at(100));
        let mut last = 0;
        for (second, by) in [(110, -3), (111, 50), (200, -1), (300, -1), (301, 1000)] {
            clock.set(at(second));
            clock.step_wall_clock(by * SECOND);
            assert_eq!(clock.follow_wall_clock().map(|step| step.by), Some(by * SECOND));
            assert!(clock.unix_nanos(at(second)) > last);
            last = clock.unix_nanos(at(second));
        }
        assert_eq!([unix(&clock, 150), unix(&clock, 302)], [197.0, 1347.0]);
    }

    #[test]
    fn what_differs_by_less_than_a_step_is_not_followed() {
        let clock = Clock::manual(at(100));
        clock.step_wall_clock(1_900_000);
        assert_eq!(clock.follow_wall_clock(), None);
        clock.step_wall_clock(1_900_000);
        assert_eq!(clock.follow_wall_clock().map(|step| step.by), Some(3_800_000), "small ones add up");
    }

    #[test]
    fn sleep_is_distinguished_from_a_clock_that_was_set() {
        let awake = Reading { monotonic: 50, unix: 1_000_000_000_050, boot: 50 };
        let wall = WallClock::new(awake);
        let slept = Reading {
            monotonic: 60,
            unix: 1_000_000_000_060 + 8 * SECOND as u64,
            boot: 60 + 8 * SECOND as u64,
        };
        let step = wall.follow(|| slept).unwrap();
        assert_eq!(step, WallStep { by: 8 * SECOND, cause: StepCause::Sleep });
        assert_eq!((wall.unix_of_monotonic(60), wall.unix_of_boottime(slept.boot)), (slept.unix, slept.unix));
    }

    #[test]
    fn the_systems_clock_does_not_step_by_itself() {
        let clock = Clock::system();
        assert_eq!(clock.follow_wall_clock(), None);
        let now = clock.now();
        let difference = clock.unix_nanos(clock.at_unix_nanos(clock.unix_nanos(now))) as i64;
        assert_eq!(difference, clock.unix_nanos(now) as i64);
    }

    #[test]
    fn the_oldest_of_very_many_steps_are_dropped() {
        let clock = Clock::manual(at(100));
        for _ in 0..2 * MAX_PIECES {
            clock.step_wall_clock(SECOND);
            clock.follow_wall_clock().unwrap();
        }
        assert_eq!(clock.wall.monotonic.pieces.read().unwrap().len(), MAX_PIECES);
        assert_eq!(unix(&clock, 101), 2101.0);
    }
}
