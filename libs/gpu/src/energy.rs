//! An energy counter that the hardware refreshes less often than it is read, as GPUs do. No I/O: readings and
//! their times go in, cumulative microjoules and windows come out.

use std::time::Duration;

use wattrace_api::{Timestamp, Window};

/// Longer than any meter takes to refresh: a counter that did not change for so long used no energy.
const LONGEST_REFRESH: Duration = Duration::from_secs(1);

/// Energy since the first reading.
#[derive(Clone, Debug)]
pub struct SteppedCounter {
    microjoules_per_count: u64,
    last: Option<u64>,
    /// Counts since the first reading, without those of windows with a reset.
    counts: u64,
    /// When the value in `last` was first seen.
    edge: Timestamp,
}

/// The result of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The first reading: energy is counted from here.
    First,
    /// The counter has not been refreshed: the window stays open.
    Unchanged,
    /// The energy of this window, from the previous change to this one, was added.
    Advanced(Window),
    /// The counter went back: the driver was reloaded. The energy of this window is unknown and left out.
    Reset(Window),
}

impl SteppedCounter {
    /// A counter without a reading yet.
    pub fn new(microjoules_per_count: u64) -> Self {
        Self { microjoules_per_count, last: None, counts: 0, edge: Timestamp(0) }
    }

    /// Microjoules counted so far. Never decreases.
    pub fn microjoules(&self) -> u64 {
        self.counts.saturating_mul(self.microjoules_per_count)
    }

    /// The hardware has slept since the last reading and cannot be read without waking it: it used nothing.
    /// Returns the window from the last change to `now`.
    pub fn sleep(&mut self, now: Timestamp) -> Option<Window> {
        self.last?;
        let window = Window::new(self.edge, now);
        self.edge = now;
        (window.nanos() > 0).then_some(window)
    }

    /// Takes a reading of `now`.
    ///
    /// A window starts and ends at readings in which a change was first seen. So each edge is off by one
    /// refresh at most, and the errors of neighbouring windows cancel.
    pub fn take(&mut self, reading: u64, now: Timestamp) -> Progress {
        let Some(last) = self.last else {
            (self.last, self.edge) = (Some(reading), now);
            return Progress::First;
        };
        let window = Window::new(self.edge, now);
        if window.nanos() == 0 || (reading == last && now.since(self.edge) < LONGEST_REFRESH) {
            return Progress::Unchanged;
        }
        (self.last, self.edge) = (Some(reading), now);
        match reading.checked_sub(last) {
            Some(delta) => {
                self.counts = self.counts.saturating_add(delta);
                Progress::Advanced(window)
            }
            None => Progress::Reset(window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Timestamp {
        Timestamp(n * 1_000_000)
    }

    fn window(from: u64, to: u64) -> Window {
        Window::new(ms(from), ms(to))
    }

    #[test]
    fn windows_start_and_end_at_changes_and_leave_no_gap() {
        let mut counter = SteppedCounter::new(1_000);
        assert_eq!(counter.take(7_000, ms(0)), Progress::First);
        assert_eq!(counter.take(7_000, ms(10)), Progress::Unchanged);
        assert_eq!(counter.take(7_003, ms(20)), Progress::Advanced(window(0, 20)));
        assert_eq!(counter.take(7_003, ms(30)), Progress::Unchanged);
        assert_eq!(counter.take(7_005, ms(40)), Progress::Advanced(window(20, 40)));
        assert_eq!(counter.microjoules(), 5_000);
    }

    #[test]
    fn a_counter_that_does_not_change_for_a_second_used_nothing() {
        let mut counter = SteppedCounter::new(1);
        counter.take(5, ms(0));
        assert_eq!(counter.take(5, ms(999)), Progress::Unchanged);
        assert_eq!(counter.take(5, ms(1_000)), Progress::Advanced(window(0, 1_000)));
        assert_eq!(counter.microjoules(), 0);
    }

    #[test]
    fn sleep_uses_nothing_and_what_was_counted_before_it_comes_with_the_next_reading() {
        let mut counter = SteppedCounter::new(1);
        assert_eq!(counter.sleep(ms(0)), None);
        counter.take(5, ms(0));
        counter.take(7, ms(10));
        assert_eq!(counter.sleep(ms(30)), Some(window(10, 30)));
        assert_eq!((counter.sleep(ms(30)), counter.sleep(ms(40))), (None, Some(window(30, 40))));
        assert_eq!(counter.microjoules(), 2);
        assert_eq!(counter.take(10, ms(50)), Progress::Advanced(window(40, 50)));
        assert_eq!(counter.microjoules(), 5);
    }

    #[test]
    fn a_reset_adds_nothing_and_later_readings_count_from_it() {
        let mut counter = SteppedCounter::new(1);
        counter.take(1_000, ms(0));
        counter.take(1_500, ms(10));
        assert_eq!(counter.take(3, ms(20)), Progress::Reset(window(10, 20)));
        assert_eq!(counter.take(4, ms(30)), Progress::Advanced(window(20, 30)));
        assert_eq!(counter.microjoules(), 501);
    }

    #[test]
    fn a_second_reading_at_the_same_time_waits_for_the_next() {
        let mut counter = SteppedCounter::new(1);
        counter.take(1, ms(5));
        assert_eq!(counter.take(9, ms(5)), Progress::Unchanged);
        assert_eq!(counter.take(9, ms(6)), Progress::Advanced(window(5, 6)));
        assert_eq!(counter.microjoules(), 8);
    }
}
