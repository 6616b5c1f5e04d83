//! What one consumer used of each package and core, and the series of it. `processes.rs` and `threads.rs`
//! keep one [`ConsumerUsage`] for each of theirs.

use std::sync::Arc;

use wattrace_api::{Batch, Consumer, MetricId, Registry, Resource, SeriesId, SeriesSpec, Timestamp, Value};

use crate::reader::{Quantities, quantity};

/// The metric of each quantity that is emitted.
pub(crate) type Metrics = [Option<MetricId>; quantity::COUNT];

/// CPUs whose use is summed: those of a package or of a core.
pub(crate) struct CpuGroup {
    pub(crate) resource: Resource,
    pub(crate) metrics: Metrics,
}

/// A consumer's use of all groups.
pub(crate) struct ConsumerUsage {
    pub(crate) consumer: Arc<Consumer>,
    used: Vec<GroupUsage>,
    /// Whether it changed since it was emitted.
    is_dirty: bool,
}

struct GroupUsage {
    /// Index into the list of groups.
    group: usize,
    total: Quantities,
    emitted: [Option<(SeriesId, u64)>; quantity::COUNT],
}

impl ConsumerUsage {
    pub(crate) fn new(consumer: Arc<Consumer>) -> Self {
        Self { consumer, used: Vec::new(), is_dirty: false }
    }

    /// Adds `used` to each of `groups`. Returns whether this is the first charge since it was emitted.
    pub(crate) fn charge(&mut self, used: &Quantities, groups: &[usize]) -> bool {
        for &group in groups {
            match self.used.iter_mut().find(|u| u.group == group) {
                Some(sum) => sum.total.iter_mut().zip(used).for_each(|(sum, used)| *sum += used),
                None => {
                    // Most consumers use one package, and there are many of them.
                    self.used.reserve_exact(1);
                    self.used.push(GroupUsage { group, total: *used, emitted: Default::default() });
                }
            }
        }
        !std::mem::replace(&mut self.is_dirty, true)
    }

    /// Pushes what changed since the last call. New series begin at `start`.
    pub(crate) fn emit(
        &mut self,
        groups: &[CpuGroup],
        registry: &Registry,
        start: Timestamp,
        out: &mut Batch,
    ) {
        self.is_dirty = false;
        for used in &mut self.used {
            let group = &groups[used.group];
            let quantities = group.metrics.iter().zip(&used.total).zip(&mut used.emitted).enumerate();
            for (which, ((metric, &total), emitted)) in quantities {
                let Some(metric) = *metric else { continue };
                // Every consumer that ran has a series of its time. Other series begin when they are not
                // zero.
                let last = emitted.map(|(_, value)| value).or((which != quantity::TIME).then_some(0));
                if last == Some(total) {
                    continue;
                }
                let series = match *emitted {
                    Some((series, _)) => series,
                    None => registry.open(SeriesSpec {
                        consumer: Some(self.consumer.clone()),
                        ..SeriesSpec::new(metric, group.resource.clone(), start)
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
