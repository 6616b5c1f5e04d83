//! Into which buckets the time is divided. A bucket holds whole windows of the slowest meter, so that power
//! is never spread over less time than it was measured over, and it begins and ends where one of them does.
//! Increments are in the bucket in which their window ends, so the books of every bucket are closed, as those
//! of every window are.

use crate::increments::{Increments, Window};

/// Adjacent buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Where they begin, and where the last one ends, in nanoseconds since the Unix epoch. At least two, or
    /// none.
    pub(crate) edges: Vec<u64>,
    /// Buckets that no window covers.
    pub(crate) gaps: Vec<usize>,
    /// By how much a window may end after its bucket does: meters are read one after the other.
    slack: u64,
}

impl Axis {
    /// The axis of meters, with at most about so many buckets. With each meter stands whether a total counts
    /// it.
    pub(crate) fn new(meters: &[(bool, &Increments)], buckets: usize) -> Self {
        let mut axis = Self { edges: Vec::new(), gaps: Vec::new(), slack: 0 };
        // One that no total counts is better than none.
        let is_any_counted =
            meters.iter().any(|(is_counted, measured)| *is_counted && !measured.0.is_empty());
        let candidates = meters.iter().filter(|(is_counted, _)| *is_counted || !is_any_counted);
        let slowest = candidates
            .filter_map(|(_, measured)| Some((median_length(measured)?, *measured)))
            .reduce(|slowest, other| if other.0 > slowest.0 { other } else { slowest });
        let Some((length, slowest)) = slowest else { return axis };
        let mut windows: Vec<Window> = slowest.0.iter().map(|(window, _)| *window).collect();
        windows.sort_unstable_by_key(|window| window.end);
        axis.divide(&windows, length, buckets);
        let all = meters.iter().flat_map(|(_, measured)| &measured.0);
        let last = all.map(|(window, _)| window.end).max().unwrap_or(0);
        if axis.edges.last().is_some_and(|&edge| last > edge + axis.slack) {
            axis.edges.push(last);
        }
        axis
    }

    /// Divides the time of `windows`, most of which have this length.
    fn divide(&mut self, windows: &[Window], length: u64, buckets: usize) {
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return };
        let share = (last.end - first.begin.min(last.end)) / u64::try_from(buckets.max(1)).unwrap_or(1);
        let width = length.max(share);
        self.slack = length / 10;
        self.edges.push(first.begin.min(first.end.saturating_sub(1)));
        let mut covered = first.begin;
        for window in windows {
            let edge = self.edges.last().copied().unwrap_or(0);
            if window.begin > covered + self.slack && covered > edge {
                self.edges.push(covered);
            }
            if window.begin > covered + self.slack {
                self.gaps.push(self.edges.len() - 1);
                self.edges.push(window.begin);
            }
            covered = covered.max(window.end);
            let edge = self.edges.last().copied().unwrap_or(0);
            if covered - edge.min(covered) + self.slack >= width && covered > edge {
                self.edges.push(covered);
            }
        }
        if self.edges.last().is_some_and(|&edge| covered > edge) {
            self.edges.push(covered);
        }
    }

    /// The bucket of windows that end at `end`: the first or the last one if it is outside.
    pub(crate) fn bucket(&self, end: u64) -> usize {
        let ends = self.edges.get(1..).unwrap_or_default();
        ends.partition_point(|&edge| edge + self.slack < end).min(ends.len().saturating_sub(1))
    }
}

/// The length of a meter's windows, in nanoseconds: the median, since the first and the last may be short.
fn median_length(measured: &Increments) -> Option<u64> {
    let mut lengths: Vec<u64> =
        measured.0.iter().map(|(window, _)| window.end.saturating_sub(window.begin)).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied()
}
