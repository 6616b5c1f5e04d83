//! The sums of all consumers without a place: one sum for all series that share everything but the consumer.

use std::sync::Arc;

use slab::Slab;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Registry, Series, SeriesId, SeriesSpec, Timestamp, Value,
};

/// All sums.
#[derive(Debug)]
pub(crate) struct Sums {
    registry: Arc<Registry>,
    consumer: Arc<Consumer>,
    /// Distinguishes these sums from those of processes, where other consumers compete.
    attribute: Option<Attribute>,
    sums: Slab<Sum>,
    /// Sums that have changed in the segment at hand.
    changed: Vec<usize>,
}

#[derive(Debug)]
struct Sum {
    /// One of the series in the sum, for what they share.
    example: Arc<Series>,
    /// Open series that share it.
    holders: usize,
    /// Opened with the first point.
    series: Option<SeriesId>,
    /// When the earliest increment before that began.
    start: Timestamp,
    value: u64,
    changed: bool,
}

impl Sums {
    /// No sums, for competitors of `kind`.
    pub(crate) fn new(kind: ConsumerKind, registry: Arc<Registry>) -> Self {
        let attribute =
            (kind != ConsumerKind::Process).then(|| Attribute::new("wattrace.consumer.other", kind.as_str()));
        let consumer = Arc::new(Consumer::closing(ConsumerKind::Other));
        Self { registry, consumer, attribute, sums: Slab::new(), changed: Vec::new() }
    }

    /// The sum that `series` belongs to. It stays open until [`Sums::release`] was called as often as this.
    pub(crate) fn hold(&mut self, series: &Arc<Series>) -> usize {
        let same = |sum: &Sum| {
            let example = &sum.example;
            (example.metric_id, &example.resource, &example.domain, &example.attributes)
                == (series.metric_id, &series.resource, &series.domain, &series.attributes)
        };
        let known = self.sums.iter().find(|(_, sum)| same(sum)).map(|(at, _)| at);
        let at = known.unwrap_or_else(|| {
            let (example, start) = (series.clone(), Timestamp(u64::MAX));
            self.sums.insert(Sum { example, holders: 0, series: None, start, value: 0, changed: false })
        });
        self.sums[at].holders += 1;
        at
    }

    /// A series that held the sum has ended. With the last of them, the sum ends.
    pub(crate) fn release(&mut self, at: usize, out: &mut Batch) {
        let Some(sum) = self.sums.get_mut(at) else { return };
        sum.holders -= 1;
        if sum.holders == 0 {
            let sum = self.sums.remove(at);
            sum.series.into_iter().for_each(|series| out.end(series));
        }
    }

    /// Adds an increment whose span begins at `start`.
    pub(crate) fn add(&mut self, at: usize, steps: u64, start: Timestamp) {
        let Some(sum) = self.sums.get_mut(at) else { return };
        if sum.series.is_none() {
            sum.start = sum.start.min(start);
        }
        sum.value = sum.value.saturating_add(steps);
        if !std::mem::replace(&mut sum.changed, true) {
            self.changed.push(at);
        }
    }

    /// Adds the sums that have changed to the segment at hand.
    pub(crate) fn push_changed(&mut self, out: &mut Batch) {
        for at in self.changed.drain(..) {
            let Some(sum) = self.sums.get_mut(at) else { continue };
            sum.changed = false;
            let series = *sum.series.get_or_insert_with(|| {
                let attributes = sum.example.attributes.iter().chain(&self.attribute).cloned().collect();
                self.registry.open(SeriesSpec {
                    metric: sum.example.metric_id,
                    resource: sum.example.resource.clone(),
                    domain: sum.example.domain.clone(),
                    consumer: Some(self.consumer.clone()),
                    attributes,
                    start: sum.start,
                })
            });
            out.push(series, Value::of_steps(sum.value));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.sums.len()
    }
}
