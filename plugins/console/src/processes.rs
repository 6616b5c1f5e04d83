//! The processes' rows. A process that has ended keeps its row for the final table. If there are many, the
//! largest keep theirs and the rest become one sum, so that memory stays bounded however many short processes
//! there are.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;

use slab::Slab;
use wattrace_api::{Consumer, Identity};

use crate::text::name;

/// Ended processes with a row of their own after a fold, and how many there may be before the next.
const KEPT: usize = 256;
const MOST: usize = 2 * KEPT;

/// What a consumer used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Consumption {
    /// Energy since the start.
    pub(crate) microjoules: u64,
    /// CPU time since the start.
    pub(crate) cpu_nanos: u64,
    /// The square of half the width of the energy's 95 % interval, J²: what sums of consumers add up.
    pub(crate) square: f64,
    /// Power over the last windows.
    pub(crate) watts: f64,
    /// CPUs kept busy over the last windows.
    pub(crate) cpus: f64,
}

impl AddAssign for Consumption {
    fn add_assign(&mut self, other: Self) {
        self.microjoules += other.microjoules;
        self.cpu_nanos += other.cpu_nanos;
        self.square += other.square;
        self.watts += other.watts;
        self.cpus += other.cpus;
    }
}

impl Consumption {
    /// More energy first, then more CPU time.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let key = |u: &Self| Reverse((u.microjoules, u.cpu_nanos));
        key(self).cmp(&key(other))
    }

    /// More power now first, then more CPUs.
    pub(crate) fn order_now(&self, other: &Self) -> Ordering {
        other.watts.total_cmp(&self.watts).then_with(|| other.cpus.total_cmp(&self.cpus))
    }
}

/// A process's row.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: String,
    pub(crate) name: String,
    pub(crate) usage: Consumption,
    /// `None` once it has ended.
    consumer: Option<Arc<Consumer>>,
    identity: Identity,
    revision: u64,
    open_series: u32,
}

impl Process {
    /// Whether all its series have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.open_series == 0
    }

    fn refresh_name(&mut self) {
        let Some(consumer) = &self.consumer else { return };
        let revision = consumer.revision();
        if self.name.is_empty() || revision != self.revision {
            self.revision = revision;
            let found = consumer.attribute("process.executable.name").map(|name| name.to_string());
            self.name = found.filter(|n| !n.is_empty()).map_or_else(|| "?".to_string(), |n| name(&n));
        }
    }
}

/// All processes of the run.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    rows: Slab<Process>,
    by_identity: HashMap<Identity, usize>,
    ended: usize,
    /// Ended processes that have no row of their own any more.
    pub(crate) folded: u64,
    /// What those used.
    pub(crate) folded_usage: Consumption,
}

impl Processes {
    /// The row of `consumer`, of which one more series has begun.
    pub(crate) fn begin(&mut self, consumer: &Arc<Consumer>) -> usize {
        let identity = consumer.identity();
        if let Some(&row) = self.by_identity.get(identity) {
            if let Some(process) = self.rows.get_mut(row) {
                if process.has_ended() {
                    self.ended -= 1;
                    process.consumer = Some(consumer.clone());
                }
                process.open_series += 1;
            }
            return row;
        }
        let row = self.rows.insert(Process {
            pid: name(&identity.id),
            name: String::new(),
            usage: Consumption::default(),
            consumer: Some(consumer.clone()),
            identity: identity.clone(),
            revision: 0,
            open_series: 1,
        });
        self.by_identity.insert(identity.clone(), row);
        row
    }

    /// One of the series of `row` has ended. With the last, the row may go.
    pub(crate) fn end(&mut self, row: usize) {
        let Some(process) = self.rows.get_mut(row) else { return };
        process.open_series = process.open_series.saturating_sub(1);
        if process.has_ended() {
            process.refresh_name();
            process.consumer = None;
            process.usage = Consumption { watts: 0.0, cpus: 0.0, ..process.usage };
            self.ended += 1;
            if self.ended > MOST {
                self.fold();
            }
        }
    }

    fn fold(&mut self) {
        let of_ended = self.rows.iter().filter(|(_, p)| p.has_ended());
        let mut ended: Vec<(usize, Consumption)> = of_ended.map(|(row, p)| (row, p.usage)).collect();
        ended.sort_unstable_by(|a, b| a.1.order(&b.1));
        for (row, usage) in ended.drain(KEPT.min(ended.len())..) {
            let process = self.rows.remove(row);
            self.by_identity.remove(&process.identity);
            self.folded += 1;
            self.folded_usage += usage;
            self.ended -= 1;
        }
    }

    /// What `row` used, to add to it.
    pub(crate) fn usage_mut(&mut self, row: usize) -> Option<&mut Consumption> {
        Some(&mut self.rows.get_mut(row)?.usage)
    }

    /// Updates the names, and sets all rates to zero.
    pub(crate) fn refresh(&mut self) {
        for (_, process) in &mut self.rows {
            process.refresh_name();
            process.usage = Consumption { watts: 0.0, cpus: 0.0, ..process.usage };
        }
    }

    /// All that have a row, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.rows.iter().map(|(_, process)| process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::ConsumerKind;

    fn consumer(pid: u64) -> Arc<Consumer> {
        let id = pid.to_string().into();
        let identity = Identity { kind: ConsumerKind::Process, id, start_unix_nano: pid };
        Arc::new(Consumer::new(identity, None, Vec::new()))
    }

    #[test]
    fn many_short_processes_are_summed_exactly_in_bounded_memory() {
        let mut processes = Processes::default();
        let long = processes.begin(&consumer(1));
        for pid in 2..10_000 {
            let row = processes.begin(&consumer(pid));
            processes.usage_mut(row).unwrap().microjoules += pid;
            processes.end(row);
            assert!(processes.iter().count() <= MOST + 1);
        }
        processes.usage_mut(long).unwrap().microjoules += 1;
        let kept: u64 = processes.iter().map(|p| p.usage.microjoules).sum();
        assert_eq!(kept + processes.folded_usage.microjoules, (1..10_000).sum::<u64>());
        assert_eq!(processes.iter().count() as u64 + processes.folded, 9_999);
        assert!(processes.iter().any(|p| p.pid == "9999") && processes.iter().any(|p| p.pid == "1"));
    }

    #[test]
    fn a_process_ends_with_its_last_series_and_goes_on_if_another_begins() {
        let mut processes = Processes::default();
        let it = consumer(7);
        let row = processes.begin(&it);
        assert_eq!(processes.begin(&it), row);
        processes.end(row);
        assert!(!processes.iter().next().unwrap().has_ended());
        processes.end(row);
        assert!(processes.iter().next().unwrap().has_ended());
        assert_eq!(processes.begin(&it), row);
        assert!(!processes.iter().next().unwrap().has_ended());
        assert_eq!(processes.ended, 0);
    }
}
