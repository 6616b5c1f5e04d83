//! The pipeline element: takes each increment of a process's counter into one group of every level, and gives
//! the groups' counters out in the same window.
//!
//! In steady state a point costs a look at its series' entry and an addition per level; strings, maps and
//! /proc come in when a process is met or changes.

use std::sync::Arc;

use wattrace_api::{
    Batch, Clock, Consumer, ConsumerKind, Error, Kind, Metric, Registry, SeriesId, SeriesMap, Timestamp,
    Transform, Window, metric,
};

use crate::books::{Books, Index};
use crate::config::{GroupsConfig, Level, MOST_LEVELS};
use crate::members::Members;
use crate::names::Names;
use crate::proc::Proc;

/// The element.
pub(crate) struct Transformer {
    registry: Arc<Registry>,
    levels: Vec<Level>,
    opened: Timestamp,
    /// By series; `None`: it is not summed.
    flows: SeriesMap<Option<Flow>>,
    members: Members,
    /// The newest window's end.
    now: Timestamp,
    /// The points being made, and the series that are over; empty between calls.
    out: Batch,
    over: Vec<SeriesId>,
}

/// A process's series, and where its increments go.
struct Flow {
    consumer: Arc<Consumer>,
    /// The revision of `consumer` that `cells` are of.
    revision: u64,
    last: u64,
    member: Index,
    quantity: Index,
    /// By level.
    cells: [Index; MOST_LEVELS],
}

impl Transformer {
    /// A transform that has seen nothing yet.
    pub(crate) fn new(
        config: &GroupsConfig,
        registry: Arc<Registry>,
        clock: Clock,
        proc: Proc,
        names: Names,
    ) -> Self {
        let kinds: Vec<_> = config.levels.iter().map(|level| level.kind()).collect();
        let books = Books::new(registry.clone(), clock.clone(), config.linger, &kinds);
        let directory = registry.directory().clone();
        Self {
            levels: config.levels.clone(),
            opened: clock.now(),
            flows: SeriesMap::default(),
            members: Members::new(&config.levels, books, names, proc, clock, directory),
            now: Timestamp(0),
            out: Batch::default(),
            over: Vec::new(),
            registry,
        }
    }

    /// Takes in a batch's points.
    fn take(&mut self, batch: &Batch) {
        let mut are_met = false;
        for segment in batch.segments() {
            let window = segment.window;
            self.now = self.now.max(window.end);
            for (id, value) in segment.points() {
                if !are_met && self.flows.get(id).is_none() {
                    self.meet(batch);
                    are_met = true;
                }
                let Self { flows, members, levels, .. } = &mut *self;
                let Some(Some(flow)) = flows.get_mut(id) else { continue };
                if flow.revision != flow.consumer.revision() {
                    members.refresh(flow.member, window.start);
                    let (revision, groups) = members.where_is(flow.member);
                    for (cell, group) in flow.cells.iter_mut().zip(&groups[..levels.len()]) {
                        *cell = members.books.cell(*group, flow.quantity, window.start);
                    }
                    flow.revision = revision;
                }
                let used = value.steps().saturating_sub(std::mem::replace(&mut flow.last, value.steps()));
                if used > 0 {
                    flow.cells[..levels.len()].iter().for_each(|&cell| members.books.add(cell, used));
                }
            }
            self.members.books.push_changed(window, &mut self.out);
        }
    }

    /// Begins the series of a batch that are new, parents before their children: who is gone may only be
    /// known to be where its parent is, and the parent may have come there a moment ago.
    fn meet(&mut self, batch: &Batch) {
        let Self { registry, flows, members, opened, .. } = self;
        let mut strangers = Vec::new();
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                match flows.get(id) {
                    Some(Some(flow)) => members.refresh(flow.member, segment.window.start),
                    Some(None) => {}
                    None => {
                        let series = registry.get(id);
                        let consumer = series.as_ref().and_then(|series| series.consumer.as_ref());
                        let born = consumer.map_or(0, |consumer| consumer.identity().start_unix_nano);
                        strangers.push((born, id, value.steps(), segment.window));
                    }
                }
            }
        }
        strangers.sort_by_key(|&(born, ..)| born);
        for (_, id, first, window) in strangers {
            flows.get_or_insert_with(id, || begin(registry, members, *opened, id, first, window));
        }
    }
}

/// Whatever is counted of consumers; but CPU time per core is CPU time once more, and meant for whoever
/// divides a core's energy.
fn is_summed(metric: &Metric) -> bool {
    metric.kind == Kind::Counter
        && metric.name.starts_with("wattrace.consumer.")
        && metric.name != metric::CONSUMER_CORE_TIME.name
}

/// Decides what the series `id` is when its first point comes; `None`: it is not summed.
fn begin(
    registry: &Registry,
    members: &mut Members,
    opened: Timestamp,
    id: SeriesId,
    first: u64,
    window: Window,
) -> Option<Flow> {
    let series = registry.get(id).filter(|series| is_summed(&series.metric))?;
    let consumer = series.consumer.as_ref().filter(|consumer| consumer.kind() == ConsumerKind::Process)?;
    // What was counted before these books were opened, in a reload, is not this window's.
    let is_older = series.start < opened && series.start < window.start;
    Some(Flow {
        member: members.enter(consumer, window.start),
        quantity: members.books.quantity(&series),
        consumer: consumer.clone(),
        // No revision: the first look finds the cells.
        revision: u64::MAX,
        last: if is_older { first } else { 0 },
        cells: [0; MOST_LEVELS],
    })
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        while let Some(answer) = self.members.names.next_answer() {
            self.members.learn(&answer);
        }
        self.take(batch);
        if !self.out.is_empty() {
            batch.append(&self.out);
            self.out.clear();
        }
        for &id in batch.ended() {
            if let Some(Some(flow)) = self.flows.remove(id) {
                self.members.leave(flow.member, self.now);
            }
        }
        self.members.books.end_empty(self.now, &mut self.over);
        self.over.drain(..).for_each(|series| batch.end(series));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
