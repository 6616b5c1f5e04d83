//! Interpolates a counter over time, so that its increase can be read over another series' window: linear
//! within each of its own windows, constant between them. Over contiguous windows the increases add up to the
//! whole.

use std::collections::VecDeque;

use wattrace_api::{Value, Window};

/// Most points of a counter that are kept. Beyond that the oldest are merged, which makes the interpolation
/// coarser there, but keeps the total exact.
const MAX_EDGES: usize = 64;

/// The history of one input series.
#[derive(Debug)]
pub(crate) struct Track {
    /// A counter's increase so far, in steps, at times in nanoseconds, in order.
    edges: VecDeque<(u64, u64)>,
    /// A gauge's last value.
    latest: f64,
    /// Leading series that read it.
    pub(crate) readers: usize,
    /// The series has ended.
    pub(crate) ended: bool,
    /// It can still be found by its subject.
    pub(crate) listed: bool,
}

impl Track {
    /// A track without points.
    pub(crate) fn new() -> Self {
        let edges = VecDeque::from([(0, 0)]);
        Self { edges, latest: f64::NAN, readers: 0, ended: false, listed: true }
    }

    /// Adds a counter's increment.
    pub(crate) fn add_increment(&mut self, window: Window, increment: u64) {
        let (at, steps) = self.edges.back().copied().unwrap_or_default();
        if window.start.0 > at {
            self.edges.push_back((window.start.0, steps));
        }
        self.edges.push_back((window.end.0.max(at), steps.saturating_add(increment)));
        while self.edges.len() > MAX_EDGES {
            self.edges.remove(1);
        }
    }

    /// Sets a gauge's value.
    pub(crate) fn set(&mut self, value: Value) {
        self.latest = value.gauge();
    }

    /// A gauge's last value; NaN before the first.
    pub(crate) fn latest(&self) -> f64 {
        self.latest
    }

    /// A counter's increase over `window`, in steps.
    pub(crate) fn increase(&self, window: Window) -> f64 {
        let ((from, part_from), (to, part_to)) = (self.at(window.start.0), self.at(window.end.0));
        // Whole steps first: there may be more than a float represents exactly.
        to.saturating_sub(from) as f64 + (part_to - part_from)
    }

    /// The increase up to a time: whole steps, and the fraction of one.
    fn at(&self, time: u64) -> (u64, f64) {
        let after = self.edges.partition_point(|&(at, _)| at <= time);
        let Some(&(t0, v0)) = after.checked_sub(1).and_then(|before| self.edges.get(before)) else {
            return (self.edges.front().map_or(0, |edge| edge.1), 0.0);
        };
        let Some(&(t1, v1)) = self.edges.get(after) else { return (v0, 0.0) };
        let part = (v1 - v0) as f64 * ((time - t0) as f64 / (t1 - t0) as f64);
        (v0 + part as u64, part.fract())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wattrace_api::Timestamp;

    use super::*;

    fn window(start: u64, end: u64) -> Window {
        Window::new(Timestamp(start), Timestamp(end))
    }

    #[test]
    fn the_increase_is_linear_within_windows_and_zero_between_them() {
        let mut track = Track::new();
        track.add_increment(window(100, 200), 10);
        track.add_increment(window(300, 400), 40);
        for (start, end, increase) in [
            (0, 100, 0.0),
            (100, 200, 10.0),
            (150, 200, 5.0),
            (200, 300, 0.0),
            (150, 350, 25.0),
            (400, 900, 0.0),
        ] {
            assert_eq!(track.increase(window(start, end)), increase, "{start}..{end}");
        }
    }

    proptest! {
        #[test]
        fn increases_over_contiguous_windows_add_up(
            points in prop::collection::vec((0..50_u64, 1..100_u64, 0..1_000_000_u64), 1..200),
            cuts in prop::collection::vec(1..20_000_u64, 0..20),
        ) {
            let (mut track, mut now, mut steps) = (Track::new(), 1, 0);
            for (gap, length, increment) in points {
                let start = now + gap;
                (now, steps) = (start + length, steps + increment);
                track.add_increment(window(start, now), increment);
            }
            let mut edges: Vec<_> = cuts.into_iter().filter(|cut| *cut < now).chain([0, now]).collect();
            edges.sort_unstable();
            let sum: f64 = edges.windows(2).map(|pair| track.increase(window(pair[0], pair[1]))).sum();
            prop_assert!((sum - steps as f64).abs() < 1e-6 * steps as f64 + 1e-6, "{sum}, not {steps}");
        }
    }
}
