//! The pipeline element: for each point of the leading input, reads the other inputs over the same window and
//! runs the program.
//!
//! A window is computed once every counter among the other inputs is known up to its end, usually in the same
//! batch. If one has no points for longer, pending windows of a leading counter are merged, so that none of its
//! increase is lost.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use tracing::info;
use wattrace_api::{
    Batch, Error, Increments, Kind, MetricId, Registry, ResultExt, Series, SeriesId, Timestamp, Transform,
    Value, Window,
};
use wattrace_select::Decisions;
use wattrace_select::derived::{derived_spec, derived_start};

use crate::formula::{Formula, FormulaSpec, Input};
use crate::inputs::Inputs;

/// Most windows that wait for the other inputs, per leading series.
const MAX_PENDING: usize = 64;

/// The element.
pub(crate) struct Transformer {
    series: Decisions<SeriesState>,
    classifier: Classifier,
    engine: Engine,
    /// Leading series with pending windows.
    waiting: Vec<SeriesId>,
    /// End of the latest window seen.
    now: Timestamp,
}

/// How the formula uses a series.
#[derive(Debug)]
struct SeriesState {
    /// Of a counter; `None`: a gauge.
    increments: Option<Increments>,
    lead: Option<Box<LeadingSeries>>,
    tracks: Vec<usize>,
}

/// A series of the leading input, and its result.
#[derive(Debug)]
struct LeadingSeries {
    series: Arc<Series>,
    result: SeriesId,
    /// The tracks that it reads, one per input except the leading one.
    bound: Vec<Option<usize>>,
    generation: u64,
    /// Pending windows, each with the increase over it or the value at its end.
    pending: VecDeque<(Window, f64)>,
    /// Whole steps of a counter, and the remainder.
    total: u64,
    remainder: f64,
}

/// Decides how the formula uses a series.
struct Classifier {
    formula: Arc<Formula>,
    metric: MetricId,
    registry: Arc<Registry>,
    /// When the transform was opened.
    since: Timestamp,
}

/// Computes results.
struct Engine {
    formula: Arc<Formula>,
    inputs: Inputs,
    /// The results being made; empty between calls.
    out: Batch,
    /// The window of the current segment of `out`.
    begun: Option<Window>,
    values: Vec<f64>,
    stack: Vec<f64>,
}

impl Transformer {
    /// Compiles the formula against the metrics that are declared, and declares the result's. `since` is the time of
    /// opening: what counters counted before is left out.
    ///
    /// # Errors
    /// Retry, if a metric is not declared yet. Fatal, if units do not match or the result's name is taken.
    pub(crate) fn open(spec: &FormulaSpec, registry: Arc<Registry>, since: Timestamp) -> Result<Self, Error> {
        let metrics = registry.metrics();
        let find = |name: &str| metrics.iter().find(|(m, _)| m.name == name).map(|(m, _)| (**m).clone());
        let formula = Arc::new(spec.compile(find)?);
        let metric = registry.metric(&formula.metric).or_fatal()?;
        info!("{} is a {} in {}", spec.name(), formula.metric.kind.as_str(), formula.metric.unit.ucum());
        let may_change = formula.inputs.iter().any(|input| input.selector.may_change());
        Ok(Self {
            series: Decisions::new(registry.clone(), may_change),
            classifier: Classifier { formula: formula.clone(), metric, registry, since },
            engine: Engine {
                inputs: Inputs::new(formula.inputs.len()),
                values: vec![0.0; formula.inputs.len()],
                formula,
                out: Batch::default(),
                begun: None,
                stack: Vec::new(),
            },
            waiting: Vec::new(),
            now: Timestamp(0),
        })
    }

    /// Adds a batch's points to tracks and leading series.
    fn read_batch(&mut self, batch: &Batch) {
        let Self { series, classifier, engine, waiting, now } = self;
        let inputs = &mut engine.inputs;
        for segment in batch.segments() {
            let window = segment.window;
            *now = window.end.max(*now);
            for (id, value) in segment.points() {
                let decide =
                    |series: &Arc<Series>, before| classifier.classify(series, before, window, inputs);
                let Some(state) = series.of(id, decide) else { continue };
                let increment = state.increments.as_mut().map(|increments| increments.next(window, value));
                for &track in &state.tracks {
                    match (inputs.track_mut(track, window.end), increment) {
                        (Some(track), Some(increment)) => track.add_increment(window, increment),
                        (Some(track), None) => track.set(value),
                        (None, _) => {}
                    }
                }
                if let Some(lead) = &mut state.lead {
                    if lead.pending.is_empty() {
                        waiting.push(id);
                    }
                    let amount = increment.map_or_else(|| value.gauge(), |steps| steps as f64);
                    lead.add(window, amount, engine.formula.inputs.first());
                }
            }
        }
    }

    /// Computes the pending windows whose inputs are known; all of them if `last`.
    fn compute(&mut self, last: bool) {
        let Self { series, engine, .. } = self;
        self.waiting.retain(|&id| {
            let lead = series.get_mut(id).and_then(|state| state.lead.as_mut());
            lead.is_some_and(|lead| {
                engine.compute(lead, last);
                !lead.pending.is_empty()
            })
        });
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.read_batch(batch);
        self.compute(false);
        self.engine.inputs.remove_ended(self.now);
        for &id in batch.ended() {
            let Some(state) = self.series.remove(id) else { continue };
            state.tracks.into_iter().for_each(|track| self.engine.inputs.end(track, self.now));
            if let Some(mut lead) = state.lead {
                self.engine.compute(&mut lead, true);
                self.engine.out.end(lead.result);
                lead.bound.into_iter().flatten().for_each(|track| self.engine.inputs.unbind(track));
            }
        }
        self.engine.take_results(batch);
        Ok(())
    }

    fn finish(&mut self, out: &mut Batch) -> Result<(), Error> {
        self.compute(true);
        self.engine.take_results(out);
        Ok(())
    }
}

impl Classifier {
    /// How the formula uses `series` from its point over `window` on. A series that is an input stays one, even if
    /// an exec changes its consumer's attributes.
    fn classify(
        &self,
        series: &Arc<Series>,
        before: Option<SeriesState>,
        window: Window,
        inputs: &mut Inputs,
    ) -> SeriesState {
        let (increments, start) = match before {
            Some(state) if state.lead.is_some() || !state.tracks.is_empty() => return state,
            Some(state) => (state.increments, window.start),
            None => {
                let is_counter = series.metric.kind == Kind::Counter;
                let increments = is_counter.then(|| Increments::new(series, self.since));
                (increments, derived_start(series, self.since, window))
            }
        };
        let mut state = SeriesState { increments, lead: None, tracks: Vec::new() };
        for (number, input) in self.formula.inputs.iter().enumerate() {
            if !input.selector.matches(series) {
                continue;
            }
            match number {
                0 => state.lead = Some(Box::new(self.lead(series, start))),
                _ => state.tracks.extend(inputs.open(number, &input.name, series)),
            }
        }
        state
    }

    fn lead(&self, series: &Arc<Series>, start: Timestamp) -> LeadingSeries {
        let result = self.registry.open(derived_spec(series, self.metric, start));
        LeadingSeries {
            series: series.clone(),
            result,
            bound: vec![None; self.formula.inputs.len() - 1],
            generation: 0,
            pending: VecDeque::new(),
            total: 0,
            remainder: 0.0,
        }
    }
}

impl LeadingSeries {
    /// Adds a pending window. `amount` is a counter's increment in steps, or a gauge's value.
    fn add(&mut self, window: Window, amount: f64, input: Option<&Input>) {
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
    /// Computes the pending windows of `lead` whose inputs are known; all of them if `last`.
    fn compute(&mut self, lead: &mut LeadingSeries, last: bool) {
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
                // A counter never decreases: a negative result stays in the remainder until later results exceed it.
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
    fn take_results(&mut self, batch: &mut Batch) {
        batch.append(&self.out);
        self.out.clear();
        self.begun = None;
    }
}

#[cfg(test)]
mod tests;
