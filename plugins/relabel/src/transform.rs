//! The pipeline element: opens a series under the new labels for each that rules select, and moves its points
//! there.
//!
//! The new series starts where the old one did, and ends with it. If an exec changes what the labels are made
//! of, the new series ends there and another begins, at zero and at that time: so that no joule is under two
//! names.

use std::mem;
use std::sync::Arc;

use tracing::warn;
use wattrace_api::{
    Batch, Consumer, Error, Kind, Metric, MetricId, Registry, Series, SeriesId, SeriesSpec, Timestamp,
    Transform, Value,
};
use wattrace_select::Decisions;

use crate::rule::{Labels, Rule};

/// The element.
pub(crate) struct Transformer {
    decisions: Decisions<Fate>,
    renamer: Renamer,
    /// The batch being made; empty between calls.
    out: Batch,
}

/// What becomes of a series.
struct Fate {
    /// Where its points go: to itself, or to the series under new labels.
    to: SeriesId,
    /// What was reported elsewhere before; 0 for gauges.
    base: u64,
    last: u64,
    moved: Option<Box<Moved>>,
}

/// A series under new labels.
struct Moved {
    labels: Labels,
    old_consumer: Option<Arc<Consumer>>,
    new_consumer: Option<Arc<Consumer>>,
}

/// What is needed to decide.
struct Renamer {
    rules: Arc<[Rule]>,
    registry: Arc<Registry>,
    /// New names that are taken by metrics of another unit or kind.
    taken: Vec<String>,
    /// Series that were opened here and are over; emptied with each batch.
    over: Vec<SeriesId>,
}

impl Transformer {
    pub(crate) fn new(rules: Arc<[Rule]>, registry: Arc<Registry>) -> Self {
        let may_change = rules.iter().any(|rule| rule.selector.may_change() || rule.changes_attributes());
        Self {
            decisions: Decisions::new(registry.clone(), may_change),
            renamer: Renamer { rules, registry, taken: Vec::new(), over: Vec::new() },
            out: Batch::default(),
        }
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Self { decisions, renamer, out } = self;
        for segment in batch.segments() {
            out.begin(segment.window);
            let now = segment.window.start;
            for (id, value) in segment.points() {
                match decisions.of(id, |series, before| renamer.decide(id, series, before, now)) {
                    Some(fate) => {
                        fate.last = value.steps();
                        out.push(fate.to, Value::of_steps(value.steps().saturating_sub(fate.base)));
                    }
                    None => out.push(id, value),
                }
            }
        }
        for &id in batch.ended() {
            if let Some(fate) = decisions.remove(id) {
                renamer.end(fate);
            }
            out.end(id);
        }
        renamer.over.drain(..).for_each(|id| out.end(id));
        mem::swap(batch, out);
        out.clear();
        Ok(())
    }
}

impl Renamer {
    /// What becomes of `series` from `now` on. Once it has new labels it keeps some, whatever its consumer
    /// becomes.
    fn decide(&mut self, id: SeriesId, series: &Arc<Series>, before: Option<Fate>, now: Timestamp) -> Fate {
        let rules = self.rules.clone();
        let mut matching = rules.iter().filter(|rule| rule.selector.matches(series)).peekable();
        let last = before.as_ref().map(|fate| fate.last);
        if matching.peek().is_none() {
            return before.unwrap_or(Fate { to: id, base: 0, last: 0, moved: None });
        }
        let (mut labels, mut any_attributes) = (Labels::of(series), false);
        for rule in matching {
            rule.apply(series, &mut labels);
            any_attributes |= rule.changes_attributes();
        }
        if !any_attributes {
            // The consumer is shared then, and its attributes are no business of this series.
            labels.consumer.clear();
        }
        let metric = self.metric(&series.metric, &mut labels.metric).unwrap_or(series.metric_id);
        match before {
            Some(fate) if fate.moved.as_ref().is_some_and(|moved| moved.labels == labels) => return fate,
            Some(fate) => self.end(fate),
            None => {}
        }
        let old_consumer = series.consumer.clone();
        let new_consumer = match &old_consumer {
            Some(old) if any_attributes => Some(Arc::new(Consumer::new(
                old.identity().clone(),
                old.parent().cloned(),
                labels.consumer.clone(),
            ))),
            same => same.clone(),
        };
        let to = self.registry.open(SeriesSpec {
            metric,
            resource: series.resource.clone(),
            domain: series.domain.clone(),
            consumer: new_consumer.clone(),
            attributes: labels.own.clone(),
            start: if last.is_some() { now } else { series.start },
        });
        let is_counter = series.metric.kind == Kind::Counter;
        let base = last.filter(|_| is_counter).unwrap_or(0);
        Fate {
            to,
            base,
            last: last.unwrap_or(0),
            moved: Some(Box::new(Moved { labels, old_consumer, new_consumer })),
        }
    }

    /// The metric `old` under another `name`; under its own, if that one is taken.
    fn metric(&mut self, old: &Metric, name: &mut String) -> Option<MetricId> {
        let renamed = Metric { name: name.clone().into(), ..old.clone() };
        match self.registry.metric(&renamed) {
            Ok(id) => Some(id),
            Err(conflict) => {
                if !self.taken.contains(name) {
                    warn!("plugins.relabel: {} keeps its name: {conflict}", old.name);
                    self.taken.push(name.clone());
                }
                *name = old.name.to_string();
                None
            }
        }
    }

    fn end(&mut self, fate: Fate) {
        let Some(moved) = fate.moved else { return };
        self.over.push(fate.to);
        if let (Some(old), Some(new)) = (moved.old_consumer, moved.new_consumer)
            && let Some(end) = old.end_unix_nano()
        {
            new.ended_at(end);
        }
    }
}

#[cfg(test)]
mod tests;
