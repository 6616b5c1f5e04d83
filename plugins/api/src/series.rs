//! A series is a metric about a subject. Its description is interned once, in the registry, and flows as a
//! small [`SeriesId`].
//!
//! A series lives from [`crate::Registry::open`] until the batch that carries its end ([`crate::Batch::end`])
//! has passed every output; then its id may be given to another. So state that is kept per series is
//! dropped at the end.

use std::sync::Arc;

use crate::metric::{Metric, MetricId};
use crate::role::Role;
use crate::subject::{Attribute, Consumer, Domain, Resource, ResourceKind};
use crate::time::Timestamp;

/// A series' number: small, dense, and reused after the series has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub(crate) u32);

impl SeriesId {
    /// The number, for arrays indexed by series. See [`SeriesMap`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What to open a series with.
#[derive(Clone, Debug)]
pub struct SeriesSpec {
    /// What is measured.
    pub metric: MetricId,
    /// The hardware it is about.
    pub resource: Resource,
    /// The energy counter it is about, for energy.
    pub domain: Option<Arc<Domain>>,
    /// Who used it; `None`: it is about the hardware itself.
    pub consumer: Option<Arc<Consumer>>,
    /// What else tells it from its neighbours.
    pub attributes: Vec<Attribute>,
    /// When its counter stood at zero.
    pub start: Timestamp,
}

impl SeriesSpec {
    /// A series about a piece of hardware, and nothing more: `SeriesSpec { consumer, ..SeriesSpec::new(…) }`
    /// says more.
    pub fn new(metric: MetricId, resource: Resource, start: Timestamp) -> Self {
        Self { metric, resource, domain: None, consumer: None, attributes: Vec::new(), start }
    }
}

/// A series' description.
#[derive(Debug)]
pub struct Series {
    /// What is measured.
    pub metric: Arc<Metric>,
    /// The same as a number to compare.
    pub metric_id: MetricId,
    /// The hardware it is about.
    pub resource: Resource,
    /// The energy counter it is about, for energy.
    pub domain: Option<Arc<Domain>>,
    /// Who used it; `None`: it is about the hardware itself.
    pub consumer: Option<Arc<Consumer>>,
    /// What else tells it from its neighbours.
    pub attributes: Vec<Attribute>,
    /// When its counter stood at zero.
    pub start: Timestamp,
    /// What it stands for.
    pub role: Role,
}

impl Series {
    /// Whether a total over all domains counts it. A domain that lies within another one, and a meter of the
    /// whole machine, count what other domains count already.
    pub fn counts_in_totals(&self) -> bool {
        let is_part = self.domain.as_ref().is_some_and(|domain| domain.within.is_some());
        !is_part && !self.resource.kind.is_whole_machine()
    }

    /// All that tells this series from others, under the names in which every output writes it: what it is
    /// about (`hw.*`, `wattrace.domain`, `wattrace.origin`, `wattrace.consumer.type`, `cpu.package`), its own
    /// attributes, and what is known of its consumer now. Compute it once per series and
    /// [`Consumer::revision`], never per point.
    pub fn all_attributes(&self) -> Vec<Attribute> {
        let mut all = Vec::new();
        if let Some(domain) = &self.domain {
            if self.consumer.is_none() && self.metric.name.starts_with("hw.") {
                all.push(Attribute::new("hw.id", &*domain.name));
                all.push(Attribute::new("hw.name", &*domain.name));
                all.push(Attribute::new("hw.type", self.resource.kind.hw_type()));
                if let Some(parent) = &domain.within {
                    all.push(Attribute::new("hw.parent", &**parent));
                }
            }
            all.push(Attribute::new("wattrace.domain", &*domain.name));
            all.push(Attribute::new("wattrace.origin", domain.origin.as_str()));
        }
        if let Some(consumer) = &self.consumer {
            all.push(Attribute::new("wattrace.consumer.type", consumer.kind().as_str()));
        }
        if self.domain.is_none() && self.resource.kind == ResourceKind::Package {
            all.push(Attribute::new("cpu.package", &*self.resource.id));
        }
        all.extend_from_slice(&self.attributes);
        if let Some(consumer) = &self.consumer {
            all.extend_from_slice(&consumer.attributes());
        }
        all
    }
}

/// Something kept per series: an array indexed by [`SeriesId`].
#[derive(Debug)]
pub struct SeriesMap<T> {
    slots: Vec<Option<T>>,
}

impl<T> Default for SeriesMap<T> {
    fn default() -> Self {
        Self { slots: Vec::new() }
    }
}

impl<T> SeriesMap<T> {
    /// What is kept for `id`.
    pub fn get(&self, id: SeriesId) -> Option<&T> {
        self.slots.get(id.index())?.as_ref()
    }

    /// What is kept for `id`, to change it.
    pub fn get_mut(&mut self, id: SeriesId) -> Option<&mut T> {
        self.slots.get_mut(id.index())?.as_mut()
    }

    /// What is kept for `id`, made by `make` if there is nothing yet.
    pub fn get_or_insert_with(&mut self, id: SeriesId, make: impl FnOnce() -> T) -> &mut T {
        self.make_room(id);
        self.slots[id.index()].get_or_insert_with(make)
    }

    /// Keeps `value` for `id`; returns what was there.
    pub fn insert(&mut self, id: SeriesId, value: T) -> Option<T> {
        self.make_room(id);
        self.slots[id.index()].replace(value)
    }

    /// Many plugins keep such a map, and each is as long as the most series that were ever open at once. So
    /// it grows by an eighth, where a `Vec` would double.
    fn make_room(&mut self, id: SeriesId) {
        let needed = id.index() + 1;
        if needed <= self.slots.len() {
            return;
        }
        if needed > self.slots.capacity() {
            self.slots.reserve_exact(needed + needed / 8 + 64 - self.slots.len());
        }
        self.slots.resize_with(needed, || None);
    }

    /// Forgets `id`; returns what was there.
    pub fn remove(&mut self, id: SeriesId) -> Option<T> {
        self.slots.get_mut(id.index())?.take()
    }

    /// Everything kept, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (SeriesId, &T)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| Some((SeriesId(i as u32), s.as_ref()?)))
    }

    /// Everything kept, to change it, in the order of ids.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SeriesId, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(i, s)| Some((SeriesId(i as u32), s.as_mut()?)))
    }
}

/// A set of series: a bit each.
#[derive(Debug, Default)]
pub struct SeriesSet {
    words: Vec<u64>,
}

impl SeriesSet {
    /// Adds `id`.
    pub fn insert(&mut self, id: SeriesId) {
        let word = id.index() / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (id.index() % 64);
    }

    /// Adds all of `ids`: many times faster than [`SeriesSet::insert`] where they were opened one after the
    /// other.
    pub fn insert_all(&mut self, ids: &[SeriesId]) {
        for some in ids.chunks(64) {
            let first = some[0].0;
            // Without a way out of the loop, so that the compiler may take several at a time.
            let gaps = some.iter().zip(first..).fold(0, |gaps, (id, expected)| gaps | (id.0 ^ expected));
            if gaps == 0 {
                self.insert_run(some[0].index(), some.len());
            } else {
                some.iter().for_each(|&id| self.insert(id));
            }
        }
    }

    /// Adds `count` ids, 1 to 64, that follow each other.
    fn insert_run(&mut self, first: usize, count: usize) {
        let (word, bit) = (first / 64, first % 64);
        if self.words.len() <= word + 1 {
            self.words.resize(word + 2, 0);
        }
        let bits = u128::from(u64::MAX >> (64 - count)) << bit;
        self.words[word] |= bits as u64;
        self.words[word + 1] |= (bits >> 64) as u64;
    }

    /// Takes `id` out.
    pub fn remove(&mut self, id: SeriesId) {
        if let Some(word) = self.words.get_mut(id.index() / 64) {
            *word &= !(1 << (id.index() % 64));
        }
    }

    /// Whether `id` is in it.
    pub fn contains(&self, id: SeriesId) -> bool {
        self.words.get(id.index() / 64).is_some_and(|word| word >> (id.index() % 64) & 1 == 1)
    }

    /// All of them, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = SeriesId> {
        let bits = |(at, &word): (usize, &u64)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| SeriesId((at * 64 + bit) as u32))
        };
        self.words.iter().enumerate().flat_map(bits)
    }

    /// Empties it; its memory stays.
    pub fn clear(&mut self) {
        self.words.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, metric};

    #[test]
    fn a_map_has_little_more_memory_than_series() {
        let mut map = SeriesMap::default();
        for id in 0..100_000 {
            map.insert(SeriesId(id), id);
            assert!(map.slots.capacity() <= (id as usize + 1) * 9 / 8 + 64);
        }
        assert_eq!((map.get(SeriesId(99_999)), map.iter().count()), (Some(&99_999), 100_000));
    }

    #[test]
    fn a_set_gives_back_what_is_in_it_in_order() {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let ids: Vec<_> =
            (0..200).map(|_| registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)))).collect();
        let mut set = SeriesSet::default();
        [3, 64, 63, 199, 3].iter().for_each(|&i: &usize| set.insert(ids[i]));
        set.remove(ids[63]);
        set.remove(ids[100]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [ids[3], ids[64], ids[199]]);
        assert!(set.contains(ids[64]) && !set.contains(ids[63]) && !set.contains(ids[65]));
        let column: Vec<_> = [130, 131, 5, 6, 7, 192, 6].map(|i: usize| ids[i]).to_vec();
        set.insert_all(&[]);
        set.insert_all(&column);
        let expected = [3, 5, 6, 7, 64, 130, 131, 192, 199].map(|i: usize| ids[i]);
        assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        for first in [0, 1, 63, 64, 100] {
            for last in first..200 {
                let mut run = SeriesSet::default();
                run.insert_all(&ids[first..=last]);
                assert!(run.iter().eq(ids[first..=last].iter().copied()), "{first} to {last}");
            }
        }
    }
}
