//! An input as a function of time, so that its increase can be read over the window of another: linear within
//! each of its own windows, flat between them. Integrals are preserved: over windows that follow each other,
//! increases add up to the whole.

use std::collections::VecDeque;

use wattrace_api::{Value, Window};

/// Edges that are remembered. Beyond that the oldest are merged: far back it knows less finely how a counter
/// grew, but not less exactly by how much.
const MOST_EDGES: usize = 64;

/// One series of an input.
#[derive(Debug)]
pub(crate) struct Track {
    /// A counter's steps at moments in nanoseconds, in order.
    edges: VecDeque<(u64, u64)>,
    /// A gauge's value.
    latest: f64,
    /// Results that read it.
    pub(crate) readers: usize,
    /// The series has ended.
    pub(crate) ended: bool,
    /// It can still be found by what it is about.
    pub(crate) listed: bool,
}

impl Track {
    /// A track of a series that stands at `steps` before its first point.
    pub(crate) fn new(steps: u64) -> Self {
        let edges = VecDeque::from([(0, steps)]);
        Self { edges, latest: f64::NAN, readers: 0, ended: false, listed: true }
    }

    /// Takes a counter's point.
    pub(crate) fn count(&mut self, window: Window, value: Value) {
        let (at, steps) = self.edges.back().copied().unwrap_or_default();
        if window.start.0 > at {
            self.edges.push_back((window.start.0, steps));
        }
        self.edges.push_back((window.end.0.max(at), value.steps().max(steps)));
        while self.edges.len() > MOST_EDGES {
            self.edges.remove(1);
        }
    }

    /// Takes a gauge's point.
    pub(crate) fn hold(&mut self, value: Value) {
        self.latest = value.gauge();
    }

    /// A gauge's latest value.
    pub(crate) fn latest(&self) -> f64 {
        self.latest
    }

    /// A counter's increase over `window`, in steps.
    pub(crate) fn increase(&self, window: Window) -> f64 {
        let ((from, part_from), (to, part_to)) = (self.at(window.start.0), self.at(window.end.0));
        // Whole steps first: they may be more than a floating-point number can tell apart.
        to.saturating_sub(from) as f64 + (part_to - part_from)
    }

    /// Steps at a moment: whole ones, and the part of one.
    fn at(&self, moment: u64) -> (u64, f64) {
        let after = self.edges.partition_point(|&(at, _)| at <= moment);
        let Some(&(t0, v0)) = after.checked_sub(1).and_then(|before| self.edges.get(before)) else {
            return (self.edges.front().map_or(0, |edge| edge.1), 0.0);
        };
        let Some(&(t1, v1)) = self.edges.get(after) else { return (v0, 0.0) };
        let part = (v1 - v0) as f64 * ((moment - t0) as f64 / (t1 - t0) as f64);
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
    fn linear_within_windows_and_flat_between_them() {
        let mut track = Track::new(0);
        track.count(window(100, 200), Value::of_steps(10));
        track.count(window(300, 400), Value::of_steps(50));
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
        fn increases_over_windows_in_a_row_add_up(
            points in prop::collection::vec((0..50_u64, 1..100_u64, 0..1_000_000_u64), 1..200),
            cuts in prop::collection::vec(1..20_000_u64, 0..20),
        ) {
            let (mut track, mut now, mut steps) = (Track::new(0), 1, 0);
            for (gap, length, increase) in points {
                let start = now + gap;
                (now, steps) = (start + length, steps + increase);
                track.count(window(start, now), Value::of_steps(steps));
            }
            let mut edges: Vec<_> = cuts.into_iter().filter(|cut| *cut < now).chain([0, now]).collect();
            edges.sort_unstable();
            let sum: f64 = edges.windows(2).map(|pair| track.increase(window(pair[0], pair[1]))).sum();
            prop_assert!((sum - steps as f64).abs() < 1e-6 * steps as f64 + 1e-6, "{sum}, not {steps}");
        }
    }
}
