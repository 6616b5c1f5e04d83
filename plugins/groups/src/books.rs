//! The sums: the groups of each level, and for each group and quantity a counter. What one process adds goes
//! into one group of each level; a process that has no group at a level goes into that level's *rest*, so
//! that each level sums to all processes.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::{
    Attribute, Batch, Clock, Consumer, ConsumerKind, Domain, Identity, MetricId, Registry, Resource, Series,
    SeriesId, SeriesSpec, Timestamp, Value, Window,
};

/// A group's, a counter's or a quantity's number.
pub(crate) type Index = u32;

/// What is summed separately: a metric of a resource, or of an energy domain of it.
type Quantity = (MetricId, Resource, Option<Arc<Domain>>);

/// Some processes.
pub(crate) struct Group {
    pub(crate) consumer: Arc<Consumer>,
    /// What each of its processes is told of it beyond what the process's own path says: names.
    pub(crate) told: Vec<Attribute>,
    level: usize,
    /// By what it is found.
    key: Arc<str>,
    members: u32,
    /// Since when it has had no members, if it stands in the list of those.
    empty_since: Option<Timestamp>,
    /// Its counters, by quantity.
    cells: Vec<Option<Index>>,
}

/// A counter.
struct Cell {
    group: Index,
    quantity: Index,
    sum: u64,
    start: Timestamp,
    series: Option<SeriesId>,
    changed: bool,
}

/// All groups and their counters.
pub(crate) struct Books {
    registry: Arc<Registry>,
    clock: Clock,
    linger: Duration,
    /// The rests come first, each under its level's number.
    groups: Slab<Group>,
    /// By level.
    by_key: Vec<FxHashMap<Arc<str>, Index>>,
    /// By level: whether there has ever been a group. Until then the rest is everything, and not worth
    /// telling.
    shown: Vec<bool>,
    quantities: Vec<Quantity>,
    by_quantity: FxHashMap<Quantity, Index>,
    cells: Slab<Cell>,
    changed: Vec<Index>,
    empty: Vec<Index>,
}

impl Books {
    /// Books without groups.
    pub(crate) fn new(
        registry: Arc<Registry>,
        clock: Clock,
        linger: Duration,
        levels: &[ConsumerKind],
    ) -> Self {
        let mut groups = Slab::new();
        for (level, kind) in levels.iter().enumerate() {
            groups.insert(Group::new(level, "".into(), Consumer::closing(*kind)));
        }
        Self {
            registry,
            clock,
            linger,
            groups,
            by_key: levels.iter().map(|_| FxHashMap::default()).collect(),
            shown: vec![false; levels.len()],
            quantities: Vec::new(),
            by_quantity: FxHashMap::default(),
            cells: Slab::new(),
            changed: Vec::new(),
            empty: Vec::new(),
        }
    }

    /// The group of all that have none at `level`.
    pub(crate) fn rest(level: usize) -> Index {
        level as Index
    }

    /// The group `key` of `level`, if there is one.
    pub(crate) fn find(&self, level: usize, key: &str) -> Option<Index> {
        self.by_key[level].get(key).copied()
    }

    /// Begins the group `key` of `level`, which calls itself `id`, at `start`.
    pub(crate) fn begin(
        &mut self,
        level: usize,
        key: Arc<str>,
        id: &str,
        start: Timestamp,
        parent: Option<Identity>,
        attributes: Vec<Attribute>,
    ) -> Index {
        let kind = self.groups[level].consumer.kind();
        let start_unix_nano = self.clock.unix_nanos(start);
        let identity = Identity { kind, id: id.to_owned().into(), start_unix_nano };
        let consumer = Consumer::new(identity, parent, attributes);
        let group = self.groups.insert(Group::new(level, key.clone(), consumer)) as Index;
        self.by_key[level].insert(key, group);
        if !std::mem::replace(&mut self.shown[level], true) {
            // All that the rest has been since the beginning is told with the first points beside it.
            for cell in self.groups[level].cells.clone().into_iter().flatten() {
                self.add(cell, 0);
            }
        }
        group
    }

    /// A process more in `group`.
    pub(crate) fn join(&mut self, group: Index) {
        self.groups[group as usize].members += 1;
    }

    /// A process less in `group`, since `at`.
    pub(crate) fn leave(&mut self, group: Index, at: Timestamp) {
        let rests = self.shown.len();
        let left = &mut self.groups[group as usize];
        left.members -= 1;
        if left.members == 0 && group as usize >= rests && left.empty_since.replace(at).is_none() {
            self.empty.push(group);
        }
    }

    /// What is summed of the series: the same for every process's.
    pub(crate) fn quantity(&mut self, series: &Series) -> Index {
        let quantity = (series.metric_id, series.resource.clone(), series.domain.clone());
        *self.by_quantity.entry(quantity).or_insert_with_key(|quantity| {
            self.quantities.push(quantity.clone());
            (self.quantities.len() - 1) as Index
        })
    }

    /// The counter of `quantity` of `group`; a new one stands at zero at `start`.
    pub(crate) fn cell(&mut self, group: Index, quantity: Index, start: Timestamp) -> Index {
        let cells = &mut self.groups[group as usize].cells;
        if cells.len() <= quantity as usize {
            cells.resize(quantity as usize + 1, None);
        }
        *cells[quantity as usize].get_or_insert_with(|| {
            let cell = Cell { group, quantity, sum: 0, start, series: None, changed: false };
            self.cells.insert(cell) as Index
        })
    }

    /// Adds to a counter.
    #[inline]
    pub(crate) fn add(&mut self, cell: Index, steps: u64) {
        let counter = &mut self.cells[cell as usize];
        counter.sum += steps;
        if !std::mem::replace(&mut counter.changed, true) {
            self.changed.push(cell);
        }
    }

    /// Pushes the counters that changed since the last call.
    pub(crate) fn push_changed(&mut self, window: Window, out: &mut Batch) {
        let mut has_begun = false;
        for cell in self.changed.drain(..) {
            let cell = &mut self.cells[cell as usize];
            cell.changed = false;
            let group = &self.groups[cell.group as usize];
            if !self.shown[group.level] {
                continue;
            }
            let series = *cell.series.get_or_insert_with(|| {
                let (metric, resource, domain) = self.quantities[cell.quantity as usize].clone();
                self.registry.open(SeriesSpec {
                    metric,
                    resource,
                    domain,
                    consumer: Some(group.consumer.clone()),
                    attributes: Vec::new(),
                    start: cell.start,
                })
            });
            if !std::mem::replace(&mut has_begun, true) {
                out.begin(window);
            }
            out.push(series, Value::of_steps(cell.sum));
        }
    }

    /// Ends the groups that have been without a process for long enough; their series go to `over`.
    pub(crate) fn end_empty(&mut self, now: Timestamp, over: &mut Vec<SeriesId>) {
        let Self { groups, by_key, cells, empty, linger, clock, .. } = self;
        empty.retain(|&index| {
            let group = &mut groups[index as usize];
            let Some(since) = group.empty_since.filter(|_| group.members == 0) else {
                group.empty_since = None;
                return false;
            };
            if now.since(since) < *linger {
                return true;
            }
            let group = groups.remove(index as usize);
            by_key[group.level].remove(&group.key);
            group.consumer.ended_at(clock.unix_nanos(since));
            over.extend(group.cells.iter().flatten().filter_map(|&cell| cells.remove(cell as usize).series));
            false
        });
    }

    /// A group.
    pub(crate) fn group(&self, group: Index) -> &Group {
        &self.groups[group as usize]
    }

    /// A group, to change it.
    pub(crate) fn group_mut(&mut self, group: Index) -> &mut Group {
        &mut self.groups[group as usize]
    }

    /// How many groups there are, and counters that are not the rests'.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        let rests = self.shown.len();
        (self.groups.len(), self.cells.iter().filter(|(_, cell)| cell.group as usize >= rests).count())
    }

    /// The groups of `level`, without the rest.
    pub(crate) fn of_level(&self, level: usize) -> impl Iterator<Item = &Group> {
        self.by_key[level].values().map(|&group| self.group(group))
    }
}

impl Group {
    fn new(level: usize, key: Arc<str>, consumer: Consumer) -> Self {
        let consumer = Arc::new(consumer);
        let (told, cells) = (Vec::new(), Vec::new());
        Self { consumer, told, level, key, members: 0, empty_since: None, cells }
    }
}
