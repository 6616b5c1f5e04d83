//! The sums of everybody who has no place: one for all series that share everything but the consumer.

use std::sync::Arc;

use slab::Slab;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Registry, Series, SeriesId, SeriesSpec, Timestamp, Value,
};

/// All sums.
#[derive(Debug)]
pub(crate) struct Others {
    registry: Arc<Registry>,
    consumer: Arc<Consumer>,
    /// What tells these sums from those of processes, where other consumers compete.
    attribute: Option<Attribute>,
    sums: Slab<Sum>,
    /// Sums that have changed in the segment at hand.
    changed: Vec<usize>,
}

#[derive(Debug)]
struct Sum {
    /// One that it is the sum of, for what they share.
    like: Arc<Series>,
    /// Series that are open and share it.
    holders: usize,
    /// Opened with the first increment.
    series: Option<SeriesId>,
    value: u64,
    changed: bool,
}

impl Others {
    /// No sums, for competitors of `kind`.
    pub(crate) fn new(kind: ConsumerKind, registry: Arc<Registry>) -> Self {
        let attribute =
            (kind != ConsumerKind::Process).then(|| Attribute::new("wattrace.consumer.other", kind.as_str()));
        let consumer = Arc::new(Consumer::closing(ConsumerKind::Other));
        Self { registry, consumer, attribute, sums: Slab::new(), changed: Vec::new() }
    }

    /// The sum that `series` belongs to. It stays open until as many have let go of it as have held it.
    pub(crate) fn hold(&mut self, series: &Arc<Series>) -> usize {
        let same = |sum: &Sum| {
            let like = &sum.like;
            (like.metric_id, &like.resource, &like.domain, &like.attributes)
                == (series.metric_id, &series.resource, &series.domain, &series.attributes)
        };
        let known = self.sums.iter().find(|(_, sum)| same(sum)).map(|(at, _)| at);
        let at = known.unwrap_or_else(|| {
            let like = series.clone();
            self.sums.insert(Sum { like, holders: 0, series: None, value: 0, changed: false })
        });
        self.sums[at].holders += 1;
        at
    }

    /// One that held the sum has ended. With the last of them, so does the sum.
    pub(crate) fn let_go(&mut self, at: usize, out: &mut Batch) {
        let Some(sum) = self.sums.get_mut(at) else { return };
        sum.holders -= 1;
        if sum.holders == 0 {
            let sum = self.sums.remove(at);
            sum.series.into_iter().for_each(|series| out.end(series));
        }
    }

    /// Adds an increment, the first part of which is from `since`.
    pub(crate) fn add(&mut self, at: usize, steps: u64, since: Timestamp) {
        let Some(sum) = self.sums.get_mut(at) else { return };
        if sum.series.is_none() {
            let attributes = sum.like.attributes.iter().chain(&self.attribute).cloned().collect();
            sum.series = Some(self.registry.open(SeriesSpec {
                metric: sum.like.metric_id,
                resource: sum.like.resource.clone(),
                domain: sum.like.domain.clone(),
                consumer: Some(self.consumer.clone()),
                attributes,
                start: since,
            }));
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
            if let Some(series) = sum.series {
                out.push(series, Value::of_steps(sum.value));
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.sums.len()
    }
}
