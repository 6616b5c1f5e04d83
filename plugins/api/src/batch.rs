//! The columns that flow through the pipeline: series ids and values, cut into segments that share a window, and the
//! series that end. Batches are recycled, so in steady state a point costs twelve bytes of a column and no allocation.

use std::ops::Range;

use crate::metric::Value;
use crate::series::SeriesId;
use crate::time::Window;

/// Points on their way from a source to the outputs.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    series: Vec<SeriesId>,
    values: Vec<Value>,
    segments: Vec<(Window, Range<usize>)>,
    ended: Vec<SeriesId>,
}

/// The points of a batch that share a window.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The span that the deltas since each series' previous point cover.
    pub window: Window,
    /// Column of series.
    pub series: &'a [SeriesId],
    /// Column of values, as long as `series`. A counter's value is cumulative since its series' start.
    pub values: &'a [Value],
}

impl Segment<'_> {
    /// The points, one by one.
    pub fn points(&self) -> impl Iterator<Item = (SeriesId, Value)> {
        self.series.iter().copied().zip(self.values.iter().copied())
    }
}

impl Batch {
    /// Begins a segment: the points pushed from here on cover `window`.
    pub fn begin(&mut self, window: Window) {
        let at = self.series.len();
        self.segments.push((window, at..at));
    }

    /// Adds a point to the segment begun last. Before the first [`Batch::begin`] it covers an empty window at zero.
    pub fn push(&mut self, series: SeriesId, value: Value) {
        if self.segments.is_empty() {
            self.begin(Window::default());
        }
        self.series.push(series);
        self.values.push(value);
        let len = self.series.len();
        if let Some((_, range)) = self.segments.last_mut() {
            range.end = len;
        }
    }

    /// Says that `series` gets no more points after those in this batch.
    pub fn end(&mut self, series: SeriesId) {
        self.ended.push(series);
    }

    /// The segments, in the order in which they were begun.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.segments.iter().map(|(window, range)| Segment {
            window: *window,
            series: &self.series[range.clone()],
            values: &self.values[range.clone()],
        })
    }

    /// The series whose last points have now been seen.
    pub fn ended(&self) -> &[SeriesId] {
        &self.ended
    }

    /// Points in all segments.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether it says nothing: no point, no end.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty() && self.ended.is_empty()
    }

    /// Empties it; its memory stays.
    pub fn clear(&mut self) {
        self.series.clear();
        self.values.clear();
        self.segments.clear();
        self.ended.clear();
    }

    /// Keeps only the points that `keep` wants, and all ends. Returns how many went.
    pub fn retain(&mut self, mut keep: impl FnMut(SeriesId, Value) -> bool) -> usize {
        let before = self.series.len();
        let mut to = 0;
        for (_, range) in &mut self.segments {
            let start = to;
            for from in range.clone() {
                if keep(self.series[from], self.values[from]) {
                    self.series[to] = self.series[from];
                    self.values[to] = self.values[from];
                    to += 1;
                }
            }
            *range = start..to;
        }
        self.series.truncate(to);
        self.values.truncate(to);
        before - to
    }

    /// Adds all that `other` says after what is here.
    pub fn append(&mut self, other: &Batch) {
        for segment in other.segments() {
            self.begin(segment.window);
            for (series, value) in segment.points() {
                self.push(series, value);
            }
        }
        self.ended.extend_from_slice(&other.ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use crate::{Registry, Resource, SeriesSpec, metric};

    fn some_series(n: usize) -> Vec<SeriesId> {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let spec = SeriesSpec::new(metric, Resource::HOST, Timestamp(0));
        (0..n).map(|_| registry.open(spec.clone())).collect()
    }

    #[test]
    fn retain_keeps_segments_apart_and_ends_in_place() {
        let s = some_series(4);
        let mut batch = Batch::default();
        for (w, pair) in s.chunks(2).enumerate() {
            batch.begin(Window::new(Timestamp(w as u64), Timestamp(w as u64 + 1)));
            for &id in pair {
                batch.push(id, Value::of_steps(id.index() as u64));
            }
        }
        batch.end(s[0]);
        assert_eq!(batch.retain(|id, _| id != s[1] && id != s[2]), 2);
        let seen: Vec<_> = batch
            .segments()
            .map(|g| (g.window.start.0, g.points().map(|p| p.0).collect::<Vec<_>>()))
            .collect();
        assert_eq!(seen, [(0, vec![s[0]]), (1, vec![s[3]])]);
        assert_eq!(batch.ended(), &[s[0]]);
    }
}
