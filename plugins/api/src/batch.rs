//! The columns that flow through the pipeline: series ids and values, cut into segments that share a window,
//! and the series that end. Batches are recycled, so in steady state a point costs twelve bytes of a column
//! and no allocation.

use crate::metric::Value;
use crate::series::SeriesId;
use crate::time::Window;

/// Points on their way from a source to the outputs.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    series: Vec<SeriesId>,
    values: Vec<Value>,
    /// Each with its first point's number; it reaches to the next one.
    segments: Vec<(Window, usize)>,
    ended: Vec<SeriesId>,
    /// How many of the first points were there at the last [`Batch::mark`] since it was empty.
    marked: Option<usize>,
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

/// The points of a batch that share a window, with values that can be changed in place.
#[derive(Debug)]
pub struct SegmentMut<'a> {
    /// The span that the deltas since each series' previous point cover.
    pub window: Window,
    /// Column of series.
    pub series: &'a [SeriesId],
    /// Column of values, as long as `series`.
    pub values: &'a mut [Value],
}

impl Batch {
    /// Begins a segment: the points added from here on cover `window`.
    pub fn begin(&mut self, window: Window) {
        self.segments.push((window, self.series.len()));
    }

    /// Adds a point to the segment begun last. Before the first [`Batch::begin`] it covers an empty window at
    /// zero.
    pub fn push(&mut self, series: SeriesId, value: Value) {
        if self.segments.is_empty() {
            self.begin(Window::default());
        }
        self.series.push(series);
        self.values.push(value);
    }

    /// Adds whole columns to the segment begun last: for a source whose series stay the same, many times
    /// faster than [`Batch::push`]. What is longer in one column than in the other is left out.
    pub fn extend(&mut self, series: &[SeriesId], values: &[Value]) {
        if self.segments.is_empty() {
            self.begin(Window::default());
        }
        let points = series.len().min(values.len());
        self.series.extend_from_slice(&series[..points]);
        self.values.extend_from_slice(&values[..points]);
    }

    /// Ends `series`: it gets no more points after those in this batch.
    pub fn end(&mut self, series: SeriesId) {
        self.ended.push(series);
    }

    /// The segments, in the order in which they were begun.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let ends = self.segments.iter().skip(1).map(|(_, start)| *start).chain([self.series.len()]);
        self.segments.iter().zip(ends).map(|(&(window, start), end)| Segment {
            window,
            series: &self.series[start..end],
            values: &self.values[start..end],
        })
    }

    /// The segments, to change values in place.
    pub fn segments_mut(&mut self) -> impl Iterator<Item = SegmentMut<'_>> {
        let ends = self.segments.iter().skip(1).map(|(_, start)| *start).chain([self.series.len()]);
        let (mut series, mut values) = (&self.series[..], &mut self.values[..]);
        self.segments.iter().zip(ends).map(move |(&(window, start), end)| {
            let (these, others) = series.split_at(end - start);
            series = others;
            let (here, beyond) = std::mem::take(&mut values).split_at_mut(end - start);
            values = beyond;
            SegmentMut { window, series: these, values: here }
        })
    }

    /// The column of series over all segments, for readers that do not need the windows.
    pub fn series(&self) -> &[SeriesId] {
        &self.series
    }

    /// The series whose last points have now been seen.
    pub fn ended(&self) -> &[SeriesId] {
        &self.ended
    }

    /// Points in all segments.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Points for which it has memory, filled or not.
    pub fn capacity(&self) -> usize {
        self.series.capacity()
    }

    /// Whether it has neither points nor ends.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty() && self.ended.is_empty()
    }

    /// Marks the points that are there, to tell them from those to come. For the runner.
    pub fn mark(&mut self) {
        self.marked = Some(self.series.len());
    }

    /// The series of the points that were added since [`Batch::mark`], whatever was taken out; `None` if
    /// there is no mark: this is another batch than that one, which somebody has put in its place. For the
    /// runner.
    pub fn added(&self) -> Option<&[SeriesId]> {
        self.series.get(self.marked?..)
    }

    /// Empties it; its memory stays.
    pub fn clear(&mut self) {
        self.marked = None;
        self.series.clear();
        self.values.clear();
        self.segments.clear();
        self.ended.clear();
    }

    /// Keeps only the points that `keep` wants, and all ends. Returns how many went.
    pub fn retain(&mut self, mut keep: impl FnMut(SeriesId, Value) -> bool) -> usize {
        let before = self.series.len();
        let (mut from, mut to) = (0, 0);
        // Closes the ranks of the points before number `until`. Returns how many are left of them.
        let mut compact = |until: usize| {
            while from < until {
                let (series, value) = (self.series[from], self.values[from]);
                // Written whether kept or not: no branch to mispredict.
                self.series[to] = series;
                self.values[to] = value;
                to += usize::from(keep(series, value));
                from += 1;
            }
            to
        };
        let mut mark = self.marked;
        for (_, start) in &mut self.segments {
            if let Some(mark) = mark.take_if(|mark| *mark < *start) {
                self.marked = Some(compact(mark));
            }
            *start = compact(*start);
        }
        if let Some(mark) = mark {
            self.marked = Some(compact(mark));
        }
        let after = compact(before);
        self.series.truncate(after);
        self.values.truncate(after);
        before - after
    }

    /// Appends all points and ends of `other`.
    pub fn append(&mut self, other: &Batch) {
        for segment in other.segments() {
            self.begin(segment.window);
            self.extend(segment.series, segment.values);
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

    #[test]
    fn what_was_added_since_the_mark_is_known_whatever_was_taken_out() {
        let s = some_series(7);
        for mark in 0..=6 {
            let mut batch = Batch::default();
            for (number, &id) in s[..6].iter().enumerate() {
                if number == mark {
                    batch.mark();
                }
                if number % 2 == 0 {
                    batch.begin(Window::default());
                }
                batch.push(id, Value::of_steps(1));
            }
            if mark == 6 {
                batch.mark();
            }
            batch.retain(|id, _| id != s[1] && id != s[2] && id != s[5]);
            batch.push(s[6], Value::of_steps(1));
            let expected: Vec<_> =
                [0, 3, 4, 6].into_iter().filter(|&n| n >= mark).map(|n: usize| s[n]).collect();
            assert_eq!(batch.added(), Some(&expected[..]), "mark {mark}");
            batch.clear();
            batch.push(s[0], Value::of_steps(1));
            assert_eq!(batch.added(), None);
        }
    }

    #[test]
    fn columns_and_points_mix_and_values_change_in_place() {
        let s = some_series(3);
        let (mut batch, mut other) = (Batch::default(), Batch::default());
        other.push(s[2], Value::of_steps(9));
        batch.extend(&s, &[Value::of_steps(1), Value::of_steps(2)]);
        batch.append(&other);
        let mut factor = 10;
        for segment in batch.segments_mut() {
            assert_eq!(segment.series.len(), segment.values.len());
            segment.values.iter_mut().for_each(|v| *v = Value::of_steps(v.steps() * factor));
            factor *= 10;
        }
        let seen: Vec<_> =
            batch.segments().map(|g| g.points().map(|(id, v)| (id, v.steps())).collect::<Vec<_>>()).collect();
        assert_eq!(seen, [vec![(s[0], 10), (s[1], 20)], vec![(s[2], 900)]]);
    }
}
