//! The pipeline element: decides how the formula uses each series, and passes points to the tracks and
//! leading series. `engine` computes the results.

use std::sync::Arc;

use tracing::info;
use wattrace_api::{
    Batch, Error, Increments, Kind, MetricId, Registry, ResultExt, Series, SeriesId, Timestamp, Transform,
    Window,
};
use wattrace_select::Decisions;
use wattrace_select::derived::{derived_spec, derived_start};

use crate::engine::{Engine, LeadingSeries};
use crate::formula::{Formula, FormulaSpec};
use crate::inputs::Inputs;

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

/// Decides how the formula uses a series.
struct Classifier {
    formula: Arc<Formula>,
    metric: MetricId,
    registry: Arc<Registry>,
    /// When the transform was opened.
    since: Timestamp,
}

impl Transformer {
    /// Compiles the formula against the metrics that are declared, and declares the result's. `since` is the
    /// time of opening: what counters counted before is left out.
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
            engine: Engine::new(formula),
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
    /// How the formula uses `series` from its point over `window` on. A series that is an input stays one,
    /// even if an exec changes its consumer's attributes.
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
        LeadingSeries::new(series.clone(), result, self.formula.inputs.len() - 1)
    }
}

#[cfg(test)]
mod tests;
