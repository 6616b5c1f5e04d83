//! What one consumer used, place by place, and the series that tell it. `processes.rs` and `threads.rs` keep
//! one for each of theirs.

use std::sync::Arc;

use wattrace_api::{Batch, Consumer, MetricId, Registry, Resource, SeriesId, SeriesSpec, Timestamp, Value};

use crate::reader::{Quantities, quantity};

/// The metric of each quantity that is to be told of.
pub(crate) type Metrics = [Option<MetricId>; quantity::COUNT];

/// Where CPU time is spent: a package, or a core.
pub(crate) struct Place {
    pub(crate) resource: Resource,
    pub(crate) metrics: Metrics,
}

/// A consumer's use of all places.
pub(crate) struct Tally {
    pub(crate) consumer: Arc<Consumer>,
    used: Vec<PlaceUse>,
    /// Whether it holds something that was not emitted yet.
    dirty: bool,
}

struct PlaceUse {
    /// Index into the list of places.
    place: usize,
    total: Quantities,
    emitted: [Option<(SeriesId, u64)>; quantity::COUNT],
}

impl Tally {
    pub(crate) fn new(consumer: Arc<Consumer>) -> Self {
        Self { consumer, used: Vec::new(), dirty: false }
    }

    /// Adds `used` at each of `places`. Returns whether it held nothing new before.
    pub(crate) fn charge(&mut self, used: &Quantities, places: &[usize]) -> bool {
        for &place in places {
            match self.used.iter_mut().find(|u| u.place == place) {
                Some(sum) => sum.total.iter_mut().zip(used).for_each(|(sum, used)| *sum += used),
                None => self.used.push(PlaceUse { place, total: *used, emitted: Default::default() }),
            }
        }
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Pushes what changed since the last time, with `start` as the start of series that are new.
    pub(crate) fn emit(&mut self, places: &[Place], registry: &Registry, start: Timestamp, out: &mut Batch) {
        self.dirty = false;
        for used in &mut self.used {
            let place = &places[used.place];
            let quantities = place.metrics.iter().zip(&used.total).zip(&mut used.emitted).enumerate();
            for (which, ((metric, &total), emitted)) in quantities {
                let Some(metric) = *metric else { continue };
                // Whatever ran has a time, but not everything is worth a series that says 0.
                let shown = emitted.map(|(_, value)| value).or((which != quantity::TIME).then_some(0));
                if shown == Some(total) {
                    continue;
                }
                let series = match *emitted {
                    Some((series, _)) => series,
                    None => registry.open(SeriesSpec {
                        consumer: Some(self.consumer.clone()),
                        ..SeriesSpec::new(metric, place.resource.clone(), start)
                    }),
                };
                *emitted = Some((series, total));
                out.push(series, Value::of_steps(total));
            }
        }
    }

    /// Ends its series.
    pub(crate) fn end(&self, out: &mut Batch) {
        let series = self.used.iter().flat_map(|used| used.emitted.iter().flatten());
        series.for_each(|(series, _)| out.end(*series));
    }
}
