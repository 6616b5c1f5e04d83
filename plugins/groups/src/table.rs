//! The groups of each level, with a counter per group and quantity. What a process adds goes into one group
//! of each level. A process that is in no group of a level goes into that level's *rest*, so each level sums
//! to all processes.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::{
    Attribute, Batch, Clock, Consumer, Domain, Identity, MetricId, Registry, Resource, Series, SeriesId,
    SeriesSpec, Timestamp, Value, Window,
};

use crate::level::Level;

/// The number of a group, a counter or a quantity.
pub(crate) type Index = u32;

/// What is summed separately: a metric of a resource, or of an energy domain of it.
type Quantity = (MetricId, Resource, Option<Arc<Domain>>);

/// Some processes.
pub(crate) struct Group {
    pub(crate) consumer: Arc<Consumer>,
    /// The names that each of its processes gets as attributes, besides what its own path says.
    pub(crate) names: Vec<Attribute>,
    level: usize,
    /// Finds it among the groups of its level.
    key: Arc<str>,
    processes: u32,
    /// Since when it has had no process, if it is in the list of empty groups.
    empty_since: Option<Timestamp>,
    /// Its counters, by quantity.
    counters: Vec<Option<Index>>,
}

/// What opens a group.
pub(crate) struct NewGroup {
    pub(crate) level: usize,
    pub(crate) key: Arc<str>,
    /// Its id as a consumer.
    pub(crate) id: Arc<str>,
    pub(crate) start: Timestamp,
    pub(crate) parent: Option<Identity>,
    pub(crate) attributes: Vec<Attribute>,
}

struct Counter {
    group: Index,
    quantity: Index,
    sum: u64,
    start: Timestamp,
    series: Option<SeriesId>,
    has_changed: bool,
}

/// All groups and their counters.
pub(crate) struct GroupTable {
    registry: Arc<Registry>,
    clock: Clock,
    linger: Duration,
    levels: Vec<Level>,
    /// The rests come first: the index of each is the number of its level.
    groups: Slab<Group>,
    /// By level.
    by_key: Vec<FxHashMap<Arc<str>, Index>>,
    /// By level: whether there has ever been a group. Until then the rest is everything, and is not shown.
    is_shown: Vec<bool>,
    quantities: Vec<Quantity>,
    by_quantity: FxHashMap<Quantity, Index>,
    counters: Slab<Counter>,
    changed: Vec<Index>,
    empty: Vec<Index>,
}

impl GroupTable {
    /// A table with the rests alone.
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock, linger: Duration, levels: &[Level]) -> Self {
        let mut groups = Slab::new();
        for (number, level) in levels.iter().enumerate() {
            groups.insert(Group::new(number, "".into(), Consumer::closing(level.kind())));
        }
        Self {
            registry,
            clock,
            linger,
            levels: levels.to_vec(),
            groups,
            by_key: levels.iter().map(|_| FxHashMap::default()).collect(),
            is_shown: vec![false; levels.len()],
            quantities: Vec::new(),
            by_quantity: FxHashMap::default(),
            counters: Slab::new(),
            changed: Vec::new(),
            empty: Vec::new(),
        }
    }

    /// The levels, in the order of their numbers.
    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The group of the processes that are in no other group of `level`.
    pub(crate) fn rest(level: usize) -> Index {
        level as Index
    }

    /// The group `key` of `level`, if there is one.
    pub(crate) fn find(&self, level: usize, key: &str) -> Option<Index> {
        self.by_key[level].get(key).copied()
    }

    /// Opens a group.
    pub(crate) fn open(&mut self, new: NewGroup) -> Index {
        let NewGroup { level, key, id, start, parent, attributes } = new;
        let kind = self.levels[level].kind();
        let (id, start_unix_nano) = (id.to_string().into(), self.clock.unix_nanos(start));
        let identity = Identity { kind, id, start_unix_nano };
        let consumer = Consumer::new(identity, parent, attributes);
        let group = self.groups.insert(Group::new(level, key.clone(), consumer)) as Index;
        self.by_key[level].insert(key, group);
        if !std::mem::replace(&mut self.is_shown[level], true) {
            // The rest is shown from now on, with everything that it has counted so far.
            for counter in self.groups[level].counters.clone().into_iter().flatten() {
                self.add(counter, 0);
            }
        }
        group
    }

    /// A process joins `group`.
    pub(crate) fn join(&mut self, group: Index) {
        self.groups[group as usize].processes += 1;
    }

    /// A process leaves `group` at `at`.
    pub(crate) fn leave(&mut self, group: Index, at: Timestamp) {
        let rests = self.levels.len();
        let left = &mut self.groups[group as usize];
        left.processes -= 1;
        if left.processes == 0 && group as usize >= rests && left.empty_since.replace(at).is_none() {
            self.empty.push(group);
        }
    }

    /// The quantity that a process's series counts: the same for the series of all processes.
    pub(crate) fn quantity(&mut self, series: &Series) -> Index {
        let quantity = (series.metric_id, series.resource.clone(), series.domain.clone());
        *self.by_quantity.entry(quantity).or_insert_with_key(|quantity| {
            self.quantities.push(quantity.clone());
            (self.quantities.len() - 1) as Index
        })
    }

    /// The counter of `quantity` of `group`. A new one is zero at `start`.
    pub(crate) fn counter(&mut self, group: Index, quantity: Index, start: Timestamp) -> Index {
        let counters = &mut self.groups[group as usize].counters;
        if counters.len() <= quantity as usize {
            counters.resize(quantity as usize + 1, None);
        }
        *counters[quantity as usize].get_or_insert_with(|| {
            let counter = Counter { group, quantity, sum: 0, start, series: None, has_changed: false };
            self.counters.insert(counter) as Index
        })
    }

    /// Adds to a counter.
    #[inline]
    pub(crate) fn add(&mut self, counter: Index, steps: u64) {
        let changed = &mut self.counters[counter as usize];
        changed.sum += steps;
        if !std::mem::replace(&mut changed.has_changed, true) {
            self.changed.push(counter);
        }
    }

    /// Pushes the counters that changed since the last call.
    pub(crate) fn push_changed(&mut self, window: Window, out: &mut Batch) {
        let mut has_begun = false;
        for counter in self.changed.drain(..) {
            let counter = &mut self.counters[counter as usize];
            counter.has_changed = false;
            let group = &self.groups[counter.group as usize];
            if !self.is_shown[group.level] {
                continue;
            }
            let series = *counter.series.get_or_insert_with(|| {
                let (metric, resource, domain) = self.quantities[counter.quantity as usize].clone();
                self.registry.open(SeriesSpec {
                    metric,
                    resource,
                    domain,
                    consumer: Some(group.consumer.clone()),
                    attributes: Vec::new(),
                    start: counter.start,
                })
            });
            if !std::mem::replace(&mut has_begun, true) {
                out.begin(window);
            }
            out.push(series, Value::of_steps(counter.sum));
        }
    }

    /// Ends the groups that have had no process for the lingering time. Their series are added to `ended`.
    pub(crate) fn end_empty(&mut self, now: Timestamp, ended: &mut Vec<SeriesId>) {
        let Self { groups, by_key, counters, empty, linger, clock, .. } = self;
        empty.retain(|&index| {
            let group = &mut groups[index as usize];
            let Some(since) = group.empty_since.filter(|_| group.processes == 0) else {
                group.empty_since = None;
                return false;
            };
            if now.since(since) < *linger {
                return true;
            }
            let group = groups.remove(index as usize);
            by_key[group.level].remove(&group.key);
            group.consumer.ended_at(clock.unix_nanos(since));
            let counters = group.counters.iter().flatten().map(|&counter| counters.remove(counter as usize));
            ended.extend(counters.filter_map(|counter| counter.series));
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

    /// The groups of `level`, without the rest.
    pub(crate) fn of_level(&self, level: usize) -> impl Iterator<Item = &Group> {
        self.by_key[level].values().map(|&group| self.group(group))
    }

    /// The number of groups, and of counters without the rests'.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        let rests = self.levels.len();
        let counters = self.counters.iter().filter(|(_, counter)| counter.group as usize >= rests);
        (self.groups.len(), counters.count())
    }
}

impl Group {
    fn new(level: usize, key: Arc<str>, consumer: Consumer) -> Self {
        let consumer = Arc::new(consumer);
        let (names, counters) = (Vec::new(), Vec::new());
        Self { consumer, names, level, key, processes: 0, empty_since: None, counters }
    }
}
