//! The closing entries of a package or a core: `idle`, `unattributed` (time that overflowed a page) and, if
//! interrupts are accounted separately, `irq`. With the consumers' time they sum to the time of all CPUs.

use std::sync::Arc;

use wattrace_api::{
    Batch, Consumer, ConsumerKind, MetricId, Registry, Resource, SeriesId, SeriesSpec, Timestamp, Value,
};
use wattrace_common::ledger::Page;

use crate::reader::quantity;
use crate::usage::CpuGroup;

/// The closing entries of a group.
pub(crate) struct ClosingEntries {
    resource: Resource,
    metric: MetricId,
    entries: Vec<ClosingEntry>,
}

struct ClosingEntry {
    kind: ConsumerKind,
    ns: u64,
    series: Option<SeriesId>,
}

impl ClosingEntries {
    /// Those of `group`; `None` if it has no metric of time.
    pub(crate) fn new(group: &CpuGroup, separate_irq: bool) -> Option<Self> {
        let irq = separate_irq.then_some(ConsumerKind::Irq);
        let kinds = [ConsumerKind::Idle, ConsumerKind::Unattributed].into_iter().chain(irq);
        let entries = kinds.map(|kind| ClosingEntry { kind, ns: 0, series: None }).collect();
        Some(Self { resource: group.resource.clone(), metric: group.metrics[quantity::TIME]?, entries })
    }

    pub(crate) fn charge(&mut self, page: &Page) {
        for entry in &mut self.entries {
            entry.ns += match entry.kind {
                ConsumerKind::Idle => page.idle_ns,
                ConsumerKind::Irq => page.irq_ns,
                _ => page.overflow_ns,
            };
        }
    }

    /// Pushes them all. New series begin at `start`.
    pub(crate) fn emit(&mut self, start: Timestamp, registry: &Registry, out: &mut Batch) {
        for entry in &mut self.entries {
            let series = *entry.series.get_or_insert_with(|| {
                registry.open(SeriesSpec {
                    consumer: Some(Arc::new(Consumer::closing(entry.kind))),
                    ..SeriesSpec::new(self.metric, self.resource.clone(), start)
                })
            });
            out.push(series, Value::of_steps(entry.ns));
        }
    }
}
