//! One series, or one group of them, with what is known of the windows that are open.
//!
//! At most two windows are open at a time, one that waits for late points and the next: so a cell has two
//! sides, and a window's number tells by its last bit which is its own.

use wattrace_api::{Batch, SeriesId, Value};

use crate::function::Function;
use crate::group::Key;

/// A series or a group.
#[derive(Debug)]
pub(crate) struct Cell {
    /// The rule that made it.
    pub(crate) rule: usize,
    /// `None`: it is of one series.
    pub(crate) key: Option<Key>,
    /// Series that are open and go into it.
    pub(crate) holders: usize,
    /// Where each function's results go.
    pub(crate) results: Vec<SeriesId>,
    keeps_samples: bool,
    sides: [Side; 2],
    /// All increases of a counter, in steps.
    total: u64,
}

/// What is known of one window.
#[derive(Debug)]
struct Side {
    points: u64,
    /// Of a counter: steps, and over how long.
    increase: u64,
    nanos: u64,
    /// Of all rates or values.
    sum: f64,
    min: f64,
    max: f64,
    /// Rates or values, if a function needs them all. Keeps its memory from window to window.
    samples: Vec<f64>,
    sampled: u64,
}

impl Default for Side {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { points: 0, increase: 0, nanos: 0, sum: 0.0, min, max, samples: Vec::new(), sampled: 0 }
    }
}

impl Side {
    fn sample(&mut self, value: f64, keep: bool) {
        self.sampled += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if keep {
            self.samples.push(value);
        }
    }

    fn reset(&mut self) {
        let mut samples = std::mem::take(&mut self.samples);
        samples.clear();
        *self = Self { samples, ..Self::default() };
    }

    /// `samples` must be sorted. The nearest rank: always a value that occurred.
    fn percentile(&self, percent: f64) -> Option<f64> {
        let rank = (percent / 100.0 * self.samples.len() as f64).ceil() as usize;
        self.samples.get(rank.max(1) - 1).copied()
    }
}

impl Cell {
    /// An empty one.
    pub(crate) fn new(rule: usize, key: Option<Key>, functions: &[Function], results: Vec<SeriesId>) -> Self {
        let keeps_samples = functions.iter().any(|function| function.needs_samples());
        Self { rule, key, holders: 0, results, keeps_samples, sides: Default::default(), total: 0 }
    }

    /// Takes a counter's increase of `steps`, of `step` units each, over `nanos`.
    pub(crate) fn increase(&mut self, window: u64, steps: u64, step: f64, nanos: u64) {
        let side = &mut self.sides[(window & 1) as usize];
        side.points += 1;
        side.increase = side.increase.saturating_add(steps);
        side.nanos = side.nanos.saturating_add(nanos);
        if nanos > 0 {
            side.sample(steps as f64 * step / (nanos as f64 * 1e-9), self.keeps_samples);
        }
    }

    /// Takes a gauge's value.
    pub(crate) fn value(&mut self, window: u64, value: f64) {
        let side = &mut self.sides[(window & 1) as usize];
        side.points += 1;
        if value.is_finite() {
            side.sample(value, self.keeps_samples);
        }
    }

    /// Tells what `window` came to, if there was anything in it, and empties it. `step` is a counter's;
    /// `None`: a gauge.
    pub(crate) fn close(&mut self, window: u64, functions: &[Function], step: Option<f64>, out: &mut Batch) {
        let side = &mut self.sides[(window & 1) as usize];
        if side.points == 0 {
            return;
        }
        self.total = self.total.saturating_add(side.increase);
        side.samples.sort_unstable_by(f64::total_cmp);
        for (function, &result) in functions.iter().zip(&self.results) {
            let sampled = side.sampled > 0;
            let gauge = match (function, step) {
                (Function::Sum, Some(_)) => {
                    out.push(result, Value::of_steps(self.total));
                    continue;
                }
                (Function::Sum, None) => sampled.then_some(side.sum),
                (Function::Mean, Some(step)) => {
                    (side.nanos > 0).then(|| side.increase as f64 * step / (side.nanos as f64 * 1e-9))
                }
                (Function::Mean, None) => sampled.then(|| side.sum / side.sampled as f64),
                (Function::Min, _) => sampled.then_some(side.min),
                (Function::Max, _) => sampled.then_some(side.max),
                (Function::Percentile(percent), _) => side.percentile(*percent),
            };
            if let Some(gauge) = gauge {
                out.push(result, Value::of_gauge(gauge));
            }
        }
        side.reset();
    }

    /// Whether nothing goes into it any more, and all has been told.
    pub(crate) fn is_over(&self) -> bool {
        self.holders == 0 && self.sides.iter().all(|side| side.points == 0)
    }
}
