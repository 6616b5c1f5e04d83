//! Computes the results: reads the other inputs over each window of a leading series, and runs the program.
//!
//! A window is computed once every counter among the other inputs is known up to its end, usually in the same
//! batch. If one has no points for longer, pending windows of a leading counter are merged, so that none of
//! its increase is lost.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use wattrace_api::{Batch, Kind, Series, SeriesId, Value, Window};

use crate::formula::{Formula, Input};
use crate::inputs::Inputs;

/// Most windows that wait for the other inputs, per leading series.
const MAX_PENDING: usize = 64;

/// A series of the leading input, and its result.
#[derive(Debug)]
pub(crate) struct LeadingSeries {
    series: Arc<Series>,
    pub(crate) result: SeriesId,
    /// The tracks that it reads, one per input except the leading one.
    pub(crate) bound: Vec<Option<usize>>,
    generation: u64,
    /// Pending windows, each with the increase over it or the value at its end.
    pub(crate) pending: VecDeque<(Window, f64)>,
    /// Whole steps of a counter, and the remainder.
    total: u64,
    remainder: f64,
}

/// Computes results.
pub(crate) struct Engine {
    pub(crate) formula: Arc<Formula>,
    pub(crate) inputs: Inputs,
    /// The results being made; empty between calls.
    pub(crate) out: Batch,
    /// The window of the current segment of `out`.
    begun: Option<Window>,
    values: Vec<f64>,
    stack: Vec<f64>,
}

impl LeadingSeries {
    /// A leading series that reads `inputs` other inputs.
    pub(crate) fn new(series: Arc<Series>, result: SeriesId, inputs: usize) -> Self {
        let (bound, pending) = (vec![None; inputs], VecDeque::new());
        Self { series, result, bound, generation: 0, pending, total: 0, remainder: 0.0 }
    }

    /// Adds a pending window. `amount` is a counter's increment in steps, or a gauge's value.
    pub(crate) fn add(&mut self, window: Window, amount: f64, input: Option<&Input>) {
        let Some(input) = input else { return };
        if self.pending.len() == MAX_PENDING
            && let Some((first, first_amount)) = self.pending.pop_front()
            && input.kind == Kind::Counter
            && let Some((second, sum)) = self.pending.front_mut()
        {
            second.start = first.start.min(second.start);
            *sum += first_amount;
        }
        self.pending.push_back((window, amount * input.scale));
    }
}

impl Engine {
    /// An engine without series.
    pub(crate) fn new(formula: Arc<Formula>) -> Self {
        let count = formula.inputs.len();
        Self {
            formula,
            inputs: Inputs::new(count),
            out: Batch::default(),
            begun: None,
            values: vec![0.0; count],
            stack: Vec::new(),
        }
    }

    /// Computes the pending windows of `lead` whose inputs are known; all of them if `last`.
    pub(crate) fn compute(&mut self, lead: &mut LeadingSeries, last: bool) {
        self.bind(lead);
        while let Some(&(window, amount)) = lead.pending.front() {
            if !self.read(lead, window, last) {
                break;
            }
            lead.pending.pop_front();
            if let Some(value) = self.values.first_mut() {
                *value = amount;
            }
            let length = window.nanos() as f64 * 1e-9;
            let result = self.formula.program.run(&self.values, length, &mut self.stack) * self.formula.scale;
            // Zero divided by zero has no result.
            if result.is_finite() {
                self.push(lead, window, result);
            }
        }
    }

    /// Looks for tracks to read that are missing or ended, if there are new ones.
    fn bind(&mut self, lead: &mut LeadingSeries) {
        if mem::replace(&mut lead.generation, self.inputs.generation) == self.inputs.generation {
            return;
        }
        for (at, bound) in lead.bound.iter_mut().enumerate() {
            let ended = |track| self.inputs.track(track).is_none_or(|(track, _)| track.ended);
            if bound.is_none_or(ended)
                && let Some(new) = self.inputs.bind(at + 1, &lead.series)
                && let Some(old) = bound.replace(new)
            {
                self.inputs.unbind(old);
            }
        }
    }

    /// Reads the other inputs over `window` into `values`. Returns whether all are known.
    fn read(&mut self, lead: &LeadingSeries, window: Window, last: bool) -> bool {
        let others = self.formula.inputs.iter().zip(&mut self.values).skip(1);
        for ((input, value), bound) in others.zip(&lead.bound) {
            let Some((track, known)) = bound.and_then(|track| self.inputs.track(track)) else { return false };
            if input.kind == Kind::Counter && known < window.end && !track.ended && !last {
                return false;
            }
            let raw = match input.kind {
                Kind::Counter => track.increase(window),
                Kind::Gauge => track.latest(),
            };
            *value = raw * input.scale;
        }
        true
    }

    fn push(&mut self, lead: &mut LeadingSeries, window: Window, result: f64) {
        if self.begun != Some(window) {
            self.out.begin(window);
            self.begun = Some(window);
        }
        let value = match self.formula.metric.kind {
            Kind::Gauge => Value::of_gauge(result),
            Kind::Counter => {
                // A counter never decreases: a negative result stays in the remainder until later results
                // exceed it.
                lead.remainder += result;
                // A millionth of a step below a whole one is a rounding error.
                let whole = (lead.remainder + 1e-6).floor().max(0.0);
                lead.remainder -= whole;
                lead.total = lead.total.saturating_add(whole as u64);
                Value::of_steps(lead.total)
            }
        };
        self.out.push(lead.result, value);
    }

    /// Moves the results to `batch`.
    pub(crate) fn take_results(&mut self, batch: &mut Batch) {
        batch.append(&self.out);
        self.out.clear();
        self.begun = None;
    }
}
