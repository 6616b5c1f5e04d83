//! By how much a counter grew from one point to the next. Everybody who adds up parts of counters uses this,
//! so that the first point, a value that goes back and the end of a series mean the same everywhere.

use crate::metric::Value;
use crate::series::Series;
use crate::time::{Timestamp, Window};

/// The increments of one counter. Keep one per series in a [`crate::SeriesMap`], and remove it when the
/// series ends: its id may be given to another series then.
///
/// - **First point**: counts in full if the series began after the observer (`since`) or within the point's
///   own window. Otherwise part of it was counted before the observer was there (a reload, a queue that lost
///   points), so it only sets the reference: the increment is zero.
/// - **A value below the last one** (a counter that was reset against the contract) sets a new reference: the
///   increment is zero, so that energy is never counted twice.
/// - **Everything else**: the difference.
#[derive(Clone, Copy, Debug)]
pub struct Increments {
    last: Option<u64>,
    /// When the series began; zero time if it began after the observer, which makes its first point count.
    began: Option<Timestamp>,
}

impl Increments {
    /// The increments of `series`, seen by an observer that is there since `since`.
    pub fn new(series: &Series, since: Timestamp) -> Self {
        Self { last: None, began: (series.start < since).then_some(series.start) }
    }

    /// The increments of `series`, for an observer that counts only what falls into the windows it sees: the
    /// first point counts if the series began within its window, whenever the observer came.
    pub fn within_windows(series: &Series) -> Self {
        Self { last: None, began: Some(series.start) }
    }

    /// By how many steps the counter grew since the last call, given its next point; `None` if the point only
    /// sets the first reference, so that it says nothing about its window.
    pub fn checked_next(&mut self, window: Window, value: Value) -> Option<u64> {
        let steps = value.steps();
        match self.last.replace(steps) {
            Some(last) => Some(steps.saturating_sub(last)),
            None => self.began.is_none_or(|began| began >= window.start).then_some(steps),
        }
    }

    /// The same, with zero for a first reference: for sums.
    pub fn next(&mut self, window: Window, value: Value) -> u64 {
        self.checked_next(window, value).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, Resource, SeriesSpec, metric};

    fn increments(start: u64, since: u64) -> Increments {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let id = registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(start)));
        Increments::new(&registry.get(id).unwrap(), Timestamp(since))
    }

    fn window(start: u64, end: u64) -> Window {
        Window::new(Timestamp(start), Timestamp(end))
    }

    fn steps(increments: &mut Increments, start: u64, end: u64, value: u64) -> u64 {
        increments.next(window(start, end), Value::of_steps(value))
    }

    #[test]
    fn a_series_that_began_after_the_observer_counts_from_its_first_point() {
        let mut late = increments(50, 10);
        assert_eq!(steps(&mut late, 60, 70, 5), 5, "its window begins after it: an earlier point was lost");
        assert_eq!(steps(&mut late, 70, 80, 12), 7);
    }

    #[test]
    fn a_series_that_began_in_the_window_of_its_first_point_counts_from_it() {
        assert_eq!(steps(&mut increments(5, 10), 5, 20, 8), 8);
    }

    #[test]
    fn what_was_counted_before_the_observer_was_there_is_no_increment() {
        let mut old = increments(5, 10);
        assert_eq!(steps(&mut old, 20, 30, 1_000_000), 0);
        assert_eq!(steps(&mut old, 30, 40, 1_000_003), 3);
    }

    #[test]
    fn a_first_reference_differs_from_a_window_without_increment() {
        let mut old = increments(5, 10);
        let mut next = |start, end, value| old.checked_next(window(start, end), Value::of_steps(value));
        assert_eq!([next(20, 30, 7), next(30, 40, 7)], [None, Some(0)]);
    }

    #[test]
    fn within_windows_a_first_point_counts_if_the_series_began_in_its_window() {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let id = registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(50)));
        let series = registry.get(id).unwrap();
        assert_eq!(steps(&mut Increments::within_windows(&series), 50, 60, 5), 5);
        assert_eq!(steps(&mut Increments::within_windows(&series), 60, 70, 5), 0);
    }

    #[test]
    fn a_counter_that_goes_back_adds_nothing_and_goes_on_from_there() {
        let mut counter = increments(0, 0);
        assert_eq!(steps(&mut counter, 0, 1, 100), 100);
        assert_eq!(steps(&mut counter, 1, 2, 40), 0);
        assert_eq!(steps(&mut counter, 2, 3, 45), 5);
    }
}
