//! A counter of energy that the hardware refreshes in steps, slower than it may be read: a GPU's. Pure:
//! readings and the times at which they were taken go in, cumulative microjoules and windows come out.

use std::time::Duration;

use wattrace_api::{Timestamp, Window};

/// A counter that stands still for longer than any meter takes to refresh really says that nothing was used.
const LONGEST_REFRESH: Duration = Duration::from_secs(1);

/// Energy since the first reading.
#[derive(Clone, Debug)]
pub struct SteppedCounter {
    microjoules_per_count: u64,
    last: Option<u64>,
    /// Counts since the first reading, resets left out.
    counts: u64,
    /// When the value that `last` holds was first seen.
    edge: Timestamp,
}

/// What a reading did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The first one: energy is counted from here.
    Based,
    /// It has not been refreshed since: the window stays open.
    Standing,
    /// The energy of this window, from the last change to this one, was added.
    Advanced(Window),
    /// It ran backwards: the driver was loaded anew. The energy of this window is unknown, nobody's, and left
    /// out.
    Reset(Window),
}

impl SteppedCounter {
    /// Nothing counted yet.
    pub fn new(microjoules_per_count: u64) -> Self {
        Self { microjoules_per_count, last: None, counts: 0, edge: Timestamp(0) }
    }

    /// Microjoules counted. Never decreases.
    pub fn microjoules(&self) -> u64 {
        self.counts.saturating_mul(self.microjoules_per_count)
    }

    /// Takes a reading that was taken at `now`.
    ///
    /// A window reaches from the reading in which a change was first seen to the next such reading, so that
    /// its edges are off by one refresh at most, and the errors of neighbouring windows cancel.
    pub fn take(&mut self, reading: u64, now: Timestamp) -> Progress {
        let Some(last) = self.last else {
            (self.last, self.edge) = (Some(reading), now);
            return Progress::Based;
        };
        let window = Window::new(self.edge, now);
        if window.nanos() == 0 || (reading == last && now.since(self.edge) < LONGEST_REFRESH) {
            return Progress::Standing;
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
    fn windows_reach_from_change_to_change_and_tile() {
        let mut counter = SteppedCounter::new(1_000);
        assert_eq!(counter.take(7_000, ms(0)), Progress::Based);
        assert_eq!(counter.take(7_000, ms(10)), Progress::Standing);
        assert_eq!(counter.take(7_003, ms(20)), Progress::Advanced(window(0, 20)));
        assert_eq!(counter.take(7_003, ms(30)), Progress::Standing);
        assert_eq!(counter.take(7_005, ms(40)), Progress::Advanced(window(20, 40)));
        assert_eq!(counter.microjoules(), 5_000);
    }

    #[test]
    fn standing_still_for_a_second_is_using_nothing() {
        let mut counter = SteppedCounter::new(1);
        counter.take(5, ms(0));
        assert_eq!(counter.take(5, ms(999)), Progress::Standing);
        assert_eq!(counter.take(5, ms(1_000)), Progress::Advanced(window(0, 1_000)));
        assert_eq!(counter.microjoules(), 0);
    }

    #[test]
    fn a_reset_adds_nothing_and_counting_goes_on_from_there() {
        let mut counter = SteppedCounter::new(1);
        counter.take(1_000, ms(0));
        counter.take(1_500, ms(10));
        assert_eq!(counter.take(3, ms(20)), Progress::Reset(window(10, 20)));
        assert_eq!(counter.take(4, ms(30)), Progress::Advanced(window(20, 30)));
        assert_eq!(counter.microjoules(), 501);
    }

    #[test]
    fn no_time_has_no_window() {
        let mut counter = SteppedCounter::new(1);
        counter.take(1, ms(5));
        assert_eq!(counter.take(9, ms(5)), Progress::Standing);
        assert_eq!(counter.take(9, ms(6)), Progress::Advanced(window(5, 6)));
        assert_eq!(counter.microjoules(), 8);
    }
}
