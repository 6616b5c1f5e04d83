//! The pipeline element: for each series that a rule selects, opens one with the new labels and moves the
//! points to it.
//!
//! The new series starts and ends with its original. If an exec changes what the labels are made of, the new
//! series ends and another one starts at zero, so that no energy is reported under two names.

use std::mem;
use std::sync::Arc;

use tracing::warn;
use wattrace_api::{
    Batch, Consumer, Error, Kind, Metric, MetricId, Registry, Series, SeriesId, SeriesSpec, Timestamp,
    Transform, Value,
};
use wattrace_select::Decisions;
use wattrace_select::derived::derived_spec;

use crate::rule::{Labels, Rule};

/// The element.
pub(crate) struct Transformer {
    mappings: Decisions<Mapping>,
    relabeller: Relabeller,
    /// The batch being made; empty between calls.
    out: Batch,
}

/// Where the points of a series go.
struct Mapping {
    /// The series with the new labels, or the series itself.
    to: SeriesId,
    /// What a counter reported to other series before; 0 for gauges.
    base: u64,
    /// The last value, in steps.
    last: u64,
    /// `None`: no rule has matched.
    relabelled: Option<Box<Relabelled>>,
}

/// A series with new labels.
struct Relabelled {
    labels: Labels,
    old_consumer: Option<Arc<Consumer>>,
    new_consumer: Option<Arc<Consumer>>,
}

/// Decides the mappings.
struct Relabeller {
    rules: Arc<[Rule]>,
    registry: Arc<Registry>,
    /// New names that metrics of another unit or kind have.
    taken: Vec<String>,
    /// Relabelled series that have ended; emptied with each batch.
    ended: Vec<SeriesId>,
}

impl Transformer {
    pub(crate) fn new(rules: Arc<[Rule]>, registry: Arc<Registry>) -> Self {
        let may_change = rules.iter().any(|rule| rule.selector.may_change() || rule.changes_attributes());
        Self {
            mappings: Decisions::new(registry.clone(), may_change),
            relabeller: Relabeller { rules, registry, taken: Vec::new(), ended: Vec::new() },
            out: Batch::default(),
        }
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Self { mappings, relabeller, out } = self;
        for segment in batch.segments() {
            out.begin(segment.window);
            let now = segment.window.start;
            for (id, value) in segment.points() {
                match mappings.of(id, |series, before| relabeller.map(id, series, before, now)) {
                    Some(mapping) => {
                        mapping.last = value.steps();
                        out.push(mapping.to, Value::of_steps(value.steps().saturating_sub(mapping.base)));
                    }
                    None => out.push(id, value),
                }
            }
        }
        for &id in batch.ended() {
            if let Some(mapping) = mappings.remove(id) {
                relabeller.end(mapping);
            }
            out.end(id);
        }
        relabeller.ended.drain(..).for_each(|id| out.end(id));
        mem::swap(batch, out);
        out.clear();
        Ok(())
    }
}

impl Relabeller {
    /// The mapping of `series` from `now` on. A relabelled series stays relabelled, even if an exec changes
    /// its consumer so that no rule matches any more.
    fn map(
        &mut self,
        id: SeriesId,
        series: &Arc<Series>,
        before: Option<Mapping>,
        now: Timestamp,
    ) -> Mapping {
        let rules = self.rules.clone();
        let mut matching = rules.iter().filter(|rule| rule.selector.matches(series)).peekable();
        let last = before.as_ref().map(|mapping| mapping.last);
        if matching.peek().is_none() {
            return before.unwrap_or(Mapping { to: id, base: 0, last: 0, relabelled: None });
        }
        let (mut labels, mut any_attributes) = (Labels::of(series), false);
        for rule in matching {
            rule.apply(series, &mut labels);
            any_attributes |= rule.changes_attributes();
        }
        if !any_attributes {
            // The new series shares the consumer, whose attributes are not part of its labels.
            labels.consumer.clear();
        }
        let metric = self.metric(&series.metric, &mut labels.metric).unwrap_or(series.metric_id);
        match before {
            Some(mapping) if mapping.relabelled.as_ref().is_some_and(|it| it.labels == labels) => {
                return mapping;
            }
            Some(mapping) => self.end(mapping),
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
        let start = if last.is_some() { now } else { series.start };
        let to = self.registry.open(SeriesSpec {
            consumer: new_consumer.clone(),
            attributes: labels.own.clone(),
            ..derived_spec(series, metric, start)
        });
        let is_counter = series.metric.kind == Kind::Counter;
        let base = last.filter(|_| is_counter).unwrap_or(0);
        let relabelled = Some(Box::new(Relabelled { labels, old_consumer, new_consumer }));
        Mapping { to, base, last: last.unwrap_or(0), relabelled }
    }

    /// The metric `old` with another `name`. `None`, and `name` is set back, if another metric has that name.
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

    fn end(&mut self, mapping: Mapping) {
        let Some(relabelled) = mapping.relabelled else { return };
        self.ended.push(mapping.to);
        if let (Some(old), Some(new)) = (relabelled.old_consumer, relabelled.new_consumer)
            && let Some(end) = old.end_unix_nano()
        {
            new.ended_at(end);
        }
    }
}

#[cfg(test)]
mod tests;
