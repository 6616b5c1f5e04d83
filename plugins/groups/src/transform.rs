//! The pipeline element: adds each increment of a process's counter to one group of every level, and pushes
//! the groups' counters in the same window.
//!
//! What only whole cgroups have, their network bytes, is added up in the same way: a cgroup is in the groups
//! that its path names.
//!
//! In steady state a point costs a look-up of its series and an addition per level. Strings, maps and /proc
//! are touched only when a process is first seen or changes.

use std::sync::Arc;

use wattrace_api::{
    Batch, Clock, Consumer, ConsumerKind, Error, Increments, Kind, Registry, Role, Series, SeriesId,
    SeriesMap, Timestamp, Transform, Usage, network,
};
use wattrace_procfs::Procfs;

use crate::config::GroupsConfig;
use crate::level::{Level, MOST_LEVELS};
use crate::names::Names;
use crate::processes::Processes;
use crate::table::{GroupTable, Index};

/// The element.
pub(crate) struct Transformer {
    registry: Arc<Registry>,
    opened: Timestamp,
    /// By series; `None`: it is not summed.
    tracked: SeriesMap<Option<Tracked>>,
    processes: Processes,
    levels: usize,
    /// The level whose groups are cgroups, if there is one.
    of_cgroups: Option<usize>,
    /// The end of the newest window.
    now: Timestamp,
    /// The points being made, and the series that end; empty between calls.
    out: Batch,
    ended: Vec<SeriesId>,
}

/// The series of a process or a cgroup, and the counters that its increments are added to.
struct Tracked {
    consumer: Arc<Consumer>,
    /// The revision of `consumer` for which `counters` were looked up; `None`: not yet.
    revision: Option<u64>,
    increments: Increments,
    process: Index,
    quantity: Index,
    /// By level.
    counters: [Index; MOST_LEVELS],
    /// The level to which it is not added: that of cgroups, of which it is one.
    except: Option<usize>,
}

impl Transformer {
    /// A transform that has seen nothing yet.
    pub(crate) fn new(
        config: &GroupsConfig,
        registry: Arc<Registry>,
        clock: Clock,
        procfs: Procfs,
        names: Names,
    ) -> Self {
        let table = GroupTable::new(registry.clone(), clock.clone(), config.linger, &config.levels);
        let directory = registry.directory().clone();
        Self {
            opened: clock.now(),
            tracked: SeriesMap::default(),
            processes: Processes::new(table, names, procfs, clock, directory),
            levels: config.levels.len(),
            of_cgroups: config.levels.iter().position(|level| *level == Level::Cgroup),
            now: Timestamp(0),
            out: Batch::default(),
            ended: Vec::new(),
            registry,
        }
    }

    /// Adds up a batch's points.
    fn sum(&mut self, batch: &Batch) {
        let mut are_all_tracked = false;
        for segment in batch.segments() {
            let window = segment.window;
            self.now = self.now.max(window.end);
            for (id, value) in segment.points() {
                if !are_all_tracked && self.tracked.get(id).is_none() {
                    self.track(batch);
                    are_all_tracked = true;
                }
                let Self { tracked, processes, levels, .. } = &mut *self;
                let Some(Some(series)) = tracked.get_mut(id) else { continue };
                if series.revision != Some(series.consumer.revision()) {
                    processes.refresh(series.process, window.start);
                    let (revision, groups) = processes.groups(series.process);
                    for (counter, group) in series.counters.iter_mut().zip(&groups[..*levels]) {
                        *counter = processes.table.counter(*group, series.quantity, window.start);
                    }
                    series.revision = Some(revision);
                }
                let increment = series.increments.next(window, value);
                if increment > 0 {
                    let counters = series.counters[..*levels].iter().enumerate();
                    let counters = counters.filter(|(level, _)| Some(*level) != series.except);
                    counters.for_each(|(_, &counter)| processes.table.add(counter, increment));
                }
            }
            self.processes.table.push_changed(window, &mut self.out);
        }
    }

    /// Tracks the new series of a batch, those of parents before those of their children: a process that has
    /// ended counts to its parent's groups, and the parent may have just moved there.
    fn track(&mut self, batch: &Batch) {
        let Self { registry, tracked, processes, opened, of_cgroups, .. } = self;
        let mut new = Vec::new();
        for segment in batch.segments() {
            for &id in segment.series {
                match tracked.get(id) {
                    Some(Some(known)) => processes.refresh(known.process, segment.window.start),
                    Some(None) => {}
                    None => {
                        let series = registry.get(id);
                        let consumer = series.as_ref().and_then(|series| series.consumer.as_ref());
                        let started = consumer.map_or(0, |consumer| consumer.identity().start_unix_nano);
                        new.push((started, id, series, segment.window.start));
                    }
                }
            }
        }
        new.sort_by_key(|&(started, ..)| started);
        for (_, id, series, at) in new {
            tracked.get_or_insert_with(id, || {
                let series = Tracked::new(series.as_deref()?, processes, *opened, at)?;
                let is_cgroup = series.consumer.kind() == ConsumerKind::Cgroup;
                Some(Tracked { except: of_cgroups.filter(|_| is_cgroup), ..series })
            });
        }
    }
}

impl Tracked {
    /// `None`: the series is not summed.
    fn new(series: &Series, processes: &mut Processes, opened: Timestamp, at: Timestamp) -> Option<Self> {
        let consumer = series.consumer.as_ref().filter(|_| is_summed(series))?;
        Some(Self {
            process: processes.add_series(consumer, at),
            quantity: processes.table.quantity(series),
            consumer: consumer.clone(),
            revision: None,
            increments: Increments::new(series, opened),
            counters: [0; MOST_LEVELS],
            except: None,
        })
    }
}

/// Whether a series is summed: all counters of processes are, but CPU time per core. That is the CPU time
/// once more, for those who divide the energy of cores. Of cgroups, what they receive and send is.
fn is_summed(series: &Series) -> bool {
    let name = &series.metric.name;
    match series.consumer.as_ref().map(|consumer| consumer.kind()) {
        Some(ConsumerKind::Process) => {
            series.metric.kind == Kind::Counter
                && name.starts_with("wattrace.consumer.")
                && series.role != Role::Usage(Usage::CoreTime)
        }
        Some(ConsumerKind::Cgroup) => network::ALL.iter().any(|metric| metric.name == *name),
        _ => false,
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        while let Some(answer) = self.processes.names.next_answer() {
            self.processes.set_names(&answer);
        }
        self.sum(batch);
        if !self.out.is_empty() {
            batch.append(&self.out);
            self.out.clear();
        }
        for &id in batch.ended() {
            if let Some(Some(series)) = self.tracked.remove(id) {
                self.processes.remove_series(series.process, self.now);
            }
        }
        self.processes.table.end_empty(self.now, &mut self.ended);
        self.ended.drain(..).for_each(|series| batch.end(series));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
