//! Accumulates the points of one series, or of one group of series, over the open windows.
//!
//! At most two windows are open at a time: the one that waits for late points, and the next. An accumulator
//! keeps a state for each; the last bit of a window's number is the index of its state.

use wattrace_api::{Batch, SeriesId, Value};

use crate::function::Function;
use crate::group::GroupKey;

/// What a series or a group accumulates.
#[derive(Debug)]
pub(crate) struct Accumulator {
    /// Index of the rule that made it.
    pub(crate) rule: usize,
    /// The group; `None`: a single series.
    pub(crate) key: Option<GroupKey>,
    /// Open series that feed it.
    pub(crate) feeds: usize,
    /// The result series of each function.
    pub(crate) results: Vec<SeriesId>,
    /// A counter's step; `None`: a gauge.
    step: Option<f64>,
    keeps_samples: bool,
    windows: [WindowState; 2],
    /// The sum of all closed windows, in steps of the counter.
    total: u64,
}

/// The state of one open window.
#[derive(Debug)]
struct WindowState {
    points: u64,
    /// A counter's increments, in steps.
    increase: u64,
    /// The time over which the counter increased.
    nanos: u64,
    /// Sum of all rates or values.
    sum: f64,
    min: f64,
    max: f64,
    /// All rates or values, if a function needs them. Keeps its memory from window to window.
    samples: Vec<f64>,
    sampled: u64,
}

impl Default for WindowState {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { points: 0, increase: 0, nanos: 0, sum: 0.0, min, max, samples: Vec::new(), sampled: 0 }
    }
}

impl WindowState {
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

    /// The percentile by the nearest rank, which always is a value that occurred. `samples` must be sorted.
    fn percentile(&self, percent: f64) -> Option<f64> {
        let rank = (percent / 100.0 * self.samples.len() as f64).ceil() as usize;
        self.samples.get(rank.max(1) - 1).copied()
    }

    /// The value of `function` as a gauge; `None` if there is none. `step` is a counter's.
    fn gauge(&self, function: Function, step: Option<f64>) -> Option<f64> {
        match (function, step) {
            (Function::Mean, Some(step)) => {
                (self.nanos > 0).then(|| self.increase as f64 * step / (self.nanos as f64 * 1e-9))
            }
            (Function::Percentile(percent), _) => self.percentile(percent),
            _ if self.sampled == 0 => None,
            (Function::Sum, _) => Some(self.sum),
            (Function::Mean, None) => Some(self.sum / self.sampled as f64),
            (Function::Min, _) => Some(self.min),
            (Function::Max, _) => Some(self.max),
        }
    }
}

impl Accumulator {
    /// An empty one. `step` is a counter's; `None`: a gauge.
    pub(crate) fn new(
        rule: usize,
        key: Option<GroupKey>,
        functions: &[Function],
        step: Option<f64>,
        results: Vec<SeriesId>,
    ) -> Self {
        let keeps_samples = functions.iter().any(|function| function.needs_samples());
        Self { rule, key, feeds: 0, results, step, keeps_samples, windows: Default::default(), total: 0 }
    }

    /// Adds a counter's increment of `steps` over `nanos`.
    pub(crate) fn add_increment(&mut self, window: u64, steps: u64, nanos: u64) {
        let state = &mut self.windows[(window & 1) as usize];
        state.points += 1;
        state.increase = state.increase.saturating_add(steps);
        state.nanos = state.nanos.saturating_add(nanos);
        if nanos > 0 {
            let rate = steps as f64 * self.step.unwrap_or(1.0) / (nanos as f64 * 1e-9);
            state.sample(rate, self.keeps_samples);
        }
    }

    /// Adds a gauge's value.
    pub(crate) fn add_value(&mut self, window: u64, value: f64) {
        let state = &mut self.windows[(window & 1) as usize];
        state.points += 1;
        if value.is_finite() {
            state.sample(value, self.keeps_samples);
        }
    }

    /// Pushes the results of `window`, if it has points, and resets its state.
    pub(crate) fn close(&mut self, window: u64, functions: &[Function], out: &mut Batch) {
        let state = &mut self.windows[(window & 1) as usize];
        if state.points == 0 {
            return;
        }
        self.total = self.total.saturating_add(state.increase);
        state.samples.sort_unstable_by(f64::total_cmp);
        for (&function, &result) in functions.iter().zip(&self.results) {
            if function == Function::Sum && self.step.is_some() {
                out.push(result, Value::of_steps(self.total));
            } else if let Some(gauge) = state.gauge(function, self.step) {
                out.push(result, Value::of_gauge(gauge));
            }
        }
        state.reset();
    }

    /// Whether no open series feeds it and all its points have been reported.
    pub(crate) fn is_over(&self) -> bool {
        self.feeds == 0 && self.windows.iter().all(|state| state.points == 0)
    }
}
