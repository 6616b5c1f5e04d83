//! A series is a metric about a subject. Its description is interned once, here, and flows as a small [`SeriesId`].
//!
//! A series lives from [`Registry::open`] until the batch that carries its end ([`crate::Batch::end`]) has passed every
//! output; then its id may be given to another. So whoever keeps something per series drops it when it sees the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metric::{Kind, Metric, MetricId};
use crate::subject::{Attribute, Consumer, Domain, Resource, ResourceKind};
use crate::time::Timestamp;

/// A series' number: small, dense, and reused after the series has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(u32);

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
    /// A series about a piece of hardware, and nothing more: `SeriesSpec { consumer, ..SeriesSpec::new(…) }` says more.
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
}

impl Series {
    /// All that tells this series from others, under the names in which every output writes it: what it is about
    /// (`hw.*`, `wattrace.domain`, `wattrace.origin`, `wattrace.consumer.type`, `cpu.package`), its own attributes, and what
    /// is known of its consumer now. Compute it once per series and [`Consumer::revision`], never per point.
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

/// Two declarations of one metric disagree.
#[derive(Debug, thiserror::Error)]
#[error(
    "metric {name} is declared twice: as {old_kind} in {old_unit} and as {new_kind} in {new_unit}; rename one of them"
)]
pub struct MetricConflict {
    name: String,
    old_kind: &'static str,
    old_unit: String,
    new_kind: &'static str,
    new_unit: String,
}

/// All metrics and series of an agent. Locked only when something is declared, opened, looked up first or released;
/// never per point.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    metrics: Vec<Arc<Metric>>,
    metrics_by_name: HashMap<String, MetricId>,
    series: Vec<Option<Arc<Series>>>,
    free: Vec<SeriesId>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares `metric`. The same declaration again gives the same id.
    ///
    /// # Errors
    /// [`MetricConflict`] if the name is taken by a metric of another unit, kind or step.
    pub fn metric(&self, metric: &Metric) -> Result<MetricId, MetricConflict> {
        let mut inner = self.lock();
        if let Some(&id) = inner.metrics_by_name.get(&*metric.name) {
            let old = &inner.metrics[id.0 as usize];
            if (&old.unit, old.kind, old.step) != (&metric.unit, metric.kind, metric.step) {
                return Err(MetricConflict {
                    name: metric.name.to_string(),
                    old_kind: old.kind.as_str(),
                    old_unit: old.unit.ucum().to_string(),
                    new_kind: metric.kind.as_str(),
                    new_unit: metric.unit.ucum().to_string(),
                });
            }
            return Ok(id);
        }
        let id = MetricId(inner.metrics.len() as u32);
        inner.metrics.push(Arc::new(metric.clone()));
        inner.metrics_by_name.insert(metric.name.to_string(), id);
        Ok(id)
    }

    /// Opens a series. Its opener is its only writer, and ends it.
    pub fn open(&self, spec: SeriesSpec) -> SeriesId {
        let mut inner = self.lock();
        let series = Arc::new(Series {
            metric: inner.metrics[spec.metric.0 as usize].clone(),
            metric_id: spec.metric,
            resource: spec.resource,
            domain: spec.domain,
            consumer: spec.consumer,
            attributes: spec.attributes,
            start: spec.start,
        });
        match inner.free.pop() {
            Some(id) => {
                inner.series[id.index()] = Some(series);
                id
            }
            None => {
                inner.series.push(Some(series));
                SeriesId((inner.series.len() - 1) as u32)
            }
        }
    }

    /// A series' description; `None` if it has ended and passed everyone. Keep it in a [`SeriesMap`] rather than
    /// asking per point.
    pub fn get(&self, id: SeriesId) -> Option<Arc<Series>> {
        self.lock().series.get(id.index()).cloned().flatten()
    }

    /// Gives the ids of series back whose ends have passed every output. The runner calls this.
    pub fn release(&self, ended: &[SeriesId]) {
        if ended.is_empty() {
            return;
        }
        let mut inner = self.lock();
        for &id in ended {
            if inner.series.get_mut(id.index()).is_some_and(|s| s.take().is_some()) {
                inner.free.push(id);
            }
        }
    }

    /// All open series, in the order of their ids.
    pub fn series(&self) -> Vec<(SeriesId, Arc<Series>)> {
        let inner = self.lock();
        let open = inner.series.iter().enumerate();
        open.filter_map(|(i, s)| Some((SeriesId(i as u32), s.clone()?))).collect()
    }

    /// The energy domains that have a meter now: those of open energy series about the hardware itself.
    pub fn domains(&self) -> Vec<Arc<Domain>> {
        let all = self.series();
        let metered = all.iter().filter(|(_, s)| s.consumer.is_none() && s.metric.kind == Kind::Counter);
        metered.filter_map(|(_, s)| s.domain.clone()).collect()
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
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()].get_or_insert_with(make)
    }

    /// Keeps `value` for `id`; returns what was there.
    pub fn insert(&mut self, id: SeriesId, value: T) -> Option<T> {
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.slots[id.index()].replace(value)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{self, Unit};

    fn spec(metric: MetricId) -> SeriesSpec {
        SeriesSpec::new(metric, Resource::HOST, Timestamp(0))
    }

    #[test]
    fn one_declaration_has_one_id_and_another_unit_is_refused() {
        let registry = Registry::new();
        let id = registry.metric(&metric::HW_ENERGY).unwrap();
        assert_eq!(registry.metric(&metric::HW_ENERGY).unwrap(), id);
        let other = Metric { unit: Unit::Watt, ..metric::HW_ENERGY };
        let message = registry.metric(&other).unwrap_err().to_string();
        assert!(message.contains("hw.energy") && message.contains("counter in W"), "{message}");
    }

    #[test]
    fn a_released_id_is_given_out_again_and_only_once() {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let (a, b) = (registry.open(spec(metric)), registry.open(spec(metric)));
        assert_ne!(a, b);
        registry.release(&[a]);
        registry.release(&[a]);
        assert!(registry.get(a).is_none());
        assert_eq!(registry.open(spec(metric)), a);
        assert_ne!(registry.open(spec(metric)), a);
    }
}
