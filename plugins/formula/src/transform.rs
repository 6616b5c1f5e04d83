//! The pipeline element: for each point of the leading input, reads the others over the same window and runs
//! the program.
//!
//! A window is computed once every counter among the other inputs is known up to its end, so usually in the
//! same batch. Where one is silent longer, windows of a leading counter are taken together, so that none of
//! its increase is lost.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use tracing::info;
use wattrace_api::{
    Batch, Error, Kind, MetricId, Registry, ResultExt, Series, SeriesId, SeriesSpec, Timestamp, Transform,
    Value, Window,
};
use wattrace_select::Decisions;

use crate::formula::{Draft, Formula, Input};
use crate::inputs::Inputs;

/// Windows that wait for the other inputs, per result.
const MOST_PENDING: usize = 64;

/// The element.
pub(crate) struct Transformer {
    slots: Decisions<Slot>,
    caster: Caster,
    engine: Engine,
    /// Series of the leading input with windows that wait.
    waiting: Vec<SeriesId>,
    /// End of the latest window seen.
    now: Timestamp,
}

/// What a series is to the formula.
#[derive(Debug)]
struct Slot {
    kind: Kind,
    last: u64,
    lead: Option<Box<Lead>>,
    tracks: Vec<usize>,
}

/// A series of the leading input, and the result that it gives.
#[derive(Debug)]
struct Lead {
    series: Arc<Series>,
    result: SeriesId,
    /// By input, but for the leading one.
    bound: Vec<Option<usize>>,
    generation: u64,
    /// Windows with the increase over them or the value at their end.
    pending: VecDeque<(Window, f64)>,
    /// Whole steps of a counter, and what is left over.
    total: u64,
    rest: f64,
}

/// Decides what series are.
struct Caster {
    formula: Arc<Formula>,
    metric: MetricId,
    registry: Arc<Registry>,
}

/// Computes results.
struct Engine {
    formula: Arc<Formula>,
    inputs: Inputs,
    /// The results being made, and the window of the last of them; empty between calls.
    out: Batch,
    begun: Option<Window>,
    values: Vec<f64>,
    stack: Vec<f64>,
}

impl Transformer {
    /// Compiles the formula against the metrics that are declared by now, and declares its own.
    ///
    /// # Errors
    /// Retry, if a metric is not there yet. Fatal, if units do not fit or the result's name is taken.
    pub(crate) fn open(draft: &Draft, registry: Arc<Registry>) -> Result<Self, Error> {
        let metrics = registry.metrics();
        let find = |name: &str| metrics.iter().find(|(m, _)| m.name == name).map(|(m, _)| (**m).clone());
        let formula = Arc::new(draft.compile(find)?);
        let metric = registry.metric(&formula.metric).or_fatal()?;
        info!("{} is a {} in {}", draft.name(), formula.metric.kind.as_str(), formula.metric.unit.ucum());
        let may_change = formula.inputs.iter().any(|input| input.selector.may_change());
        Ok(Self {
            slots: Decisions::new(registry.clone(), may_change),
            caster: Caster { formula: formula.clone(), metric, registry },
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

    /// Takes a batch's points in.
    fn take(&mut self, batch: &Batch) {
        let Self { slots, caster, engine, waiting, now } = self;
        let inputs = &mut engine.inputs;
        for segment in batch.segments() {
            *now = segment.window.end.max(*now);
            for (id, value) in segment.points() {
                let slot = slots.of(id, |series, before| caster.cast(series, before, inputs));
                let Some(slot) = slot else { continue };
                let increase = value.steps().saturating_sub(mem::replace(&mut slot.last, value.steps()));
                for &track in &slot.tracks {
                    match (inputs.taking(track, segment.window.end), slot.kind) {
                        (Some(track), Kind::Counter) => track.count(segment.window, value),
                        (Some(track), Kind::Gauge) => track.hold(value),
                        (None, _) => {}
                    }
                }
                if let Some(lead) = &mut slot.lead {
                    if lead.pending.is_empty() {
                        waiting.push(id);
                    }
                    lead.wait(segment.window, increase, value, engine.formula.inputs.first());
                }
            }
        }
    }

    /// Computes what can be computed; at the `last`, with what there is.
    fn compute(&mut self, last: bool) {
        let Self { slots, engine, .. } = self;
        self.waiting.retain(|&id| {
            let lead = slots.get_mut(id).and_then(|slot| slot.lead.as_mut());
            lead.is_some_and(|lead| {
                engine.compute(lead, last);
                !lead.pending.is_empty()
            })
        });
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.take(batch);
        self.compute(false);
        self.engine.inputs.clear_out(self.now);
        for &id in batch.ended() {
            let Some(slot) = self.slots.remove(id) else { continue };
            slot.tracks.into_iter().for_each(|track| self.engine.inputs.end(track, self.now));
            if let Some(mut lead) = slot.lead {
                self.engine.compute(&mut lead, true);
                self.engine.out.end(lead.result);
                lead.bound.into_iter().flatten().for_each(|track| self.engine.inputs.unbind(track));
            }
        }
        self.engine.give(batch);
        Ok(())
    }

    fn finish(&mut self, out: &mut Batch) -> Result<(), Error> {
        self.compute(true);
        self.engine.give(out);
        Ok(())
    }
}

impl Caster {
    /// What `series` is. Once it is an input it stays one, whatever an exec makes of its consumer.
    fn cast(&self, series: &Arc<Series>, before: Option<Slot>, inputs: &mut Inputs) -> Slot {
        let last = match before {
            Some(slot) if slot.lead.is_some() || !slot.tracks.is_empty() => return slot,
            Some(slot) => slot.last,
            None => 0,
        };
        let mut slot = Slot { last, kind: series.metric.kind, lead: None, tracks: Vec::new() };
        for (number, input) in self.formula.inputs.iter().enumerate() {
            if !input.selector.matches(series) {
                continue;
            }
            match number {
                0 => slot.lead = Some(Box::new(self.lead(series))),
                _ => slot.tracks.extend(inputs.open(number, &input.name, series, last)),
            }
        }
        slot
    }

    fn lead(&self, series: &Arc<Series>) -> Lead {
        let result = self.registry.open(SeriesSpec {
            metric: self.metric,
            resource: series.resource.clone(),
            domain: series.domain.clone(),
            consumer: series.consumer.clone(),
            attributes: series.attributes.clone(),
            start: series.start,
        });
        Lead {
            series: series.clone(),
            result,
            bound: vec![None; self.formula.inputs.len() - 1],
            generation: 0,
            pending: VecDeque::new(),
            total: 0,
            rest: 0.0,
        }
    }
}

impl Lead {
    /// Takes a point, to be computed when the other inputs are known.
    fn wait(&mut self, window: Window, increase: u64, value: Value, input: Option<&Input>) {
        let Some(input) = input else { return };
        if self.pending.len() == MOST_PENDING
            && let Some((first, amount)) = self.pending.pop_front()
            && input.kind == Kind::Counter
            && let Some((second, sum)) = self.pending.front_mut()
        {
            second.start = first.start.min(second.start);
            *sum += amount;
        }
        let amount = match input.kind {
            Kind::Counter => increase as f64 * input.scale,
            Kind::Gauge => value.gauge() * input.scale,
        };
        self.pending.push_back((window, amount));
    }
}

impl Engine {
    /// Computes those windows of `lead` for which all inputs are known; at the `last`, with what is known.
    fn compute(&mut self, lead: &mut Lead, last: bool) {
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
            // Nothing divided by nothing is no result.
            if result.is_finite() {
                self.push(lead, window, result);
            }
        }
    }

    /// Looks for series to read that are missing, if there are new ones.
    fn bind(&mut self, lead: &mut Lead) {
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
    fn read(&mut self, lead: &Lead, window: Window, last: bool) -> bool {
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

    fn push(&mut self, lead: &mut Lead, window: Window, result: f64) {
        if self.begun != Some(window) {
            self.out.begin(window);
            self.begun = Some(window);
        }
        let value = match self.formula.metric.kind {
            Kind::Gauge => Value::of_gauge(result),
            Kind::Counter => {
                // A counter never goes back: what is negative waits until it has been made up for.
                lead.rest += result;
                // A millionth of a step short of a whole one is an error of rounding.
                let whole = (lead.rest + 1e-6).floor().max(0.0);
                lead.rest -= whole;
                lead.total = lead.total.saturating_add(whole as u64);
                Value::of_steps(lead.total)
            }
        };
        self.out.push(lead.result, value);
    }

    /// Adds the results to `batch`.
    fn give(&mut self, batch: &mut Batch) {
        batch.append(&self.out);
        self.out.clear();
        self.begun = None;
    }
}

#[cfg(test)]
mod tests;
