//! The registry: every metric that is declared and every series that is open, shared by all plugins, and seen
//! by each through a view that knows its name. What a series is stands in `series.rs`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::directory::Directory;
use crate::events::{Events, ResourceAppeared};
use crate::metric::{Kind, Metric, MetricId};
use crate::role::Role;
use crate::series::{Series, SeriesId, SeriesSpec};
use crate::subject::Domain;
use crate::unit::UnitError;

/// A metric cannot be declared.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// Two declarations of one metric disagree.
    #[error("metric {name} is declared twice: as {old} and as {new}; rename one of them")]
    Conflict {
        /// The metric's name.
        name: String,
        /// What it is, and whose.
        old: String,
        /// What it was to be, and by whom.
        new: String,
    },
    /// Its unit is none.
    #[error("metric {name} of plugin {plugin}: {error}")]
    Unit {
        /// The metric's name.
        name: String,
        /// Who declared it.
        plugin: &'static str,
        /// What is wrong with the unit.
        error: UnitError,
    },
}

/// All metrics and series of an agent, as one plugin sees them: it knows whose declarations come through it.
/// Locked only when something is declared, opened, looked up first or released; never per point.
#[derive(Debug, Default)]
pub struct Registry {
    plugin: &'static str,
    inner: Arc<Mutex<Inner>>,
    events: Events,
    directory: Directory,
}

#[derive(Debug, Default)]
struct Inner {
    metrics: Vec<Declared>,
    metrics_by_name: HashMap<String, MetricId>,
    series: Vec<Option<Arc<Series>>>,
    free: Vec<SeriesId>,
}

#[derive(Debug)]
struct Declared {
    metric: Arc<Metric>,
    plugin: &'static str,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The same metrics and series, for `plugin`.
    pub fn for_plugin(&self, plugin: &'static str) -> Arc<Self> {
        Arc::new(Self {
            plugin,
            inner: self.inner.clone(),
            events: self.events.clone(),
            directory: self.directory.clone(),
        })
    }

    /// The bus on which it publishes resources, and plugins publish events of their own.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The living processes.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares `metric`, at start or any time later. The same declaration again gives the same id.
    ///
    /// # Errors
    /// [`MetricError`] if the name is taken by a metric of another unit, kind or step, or if the unit is
    /// none.
    pub fn metric(&self, metric: &Metric) -> Result<MetricId, MetricError> {
        let mut inner = self.lock();
        if let Some(&id) = inner.metrics_by_name.get(&*metric.name) {
            let old = &inner.metrics[id.0 as usize];
            let (was, is) = (&old.metric, metric);
            if (&was.unit, was.kind, was.step) != (&is.unit, is.kind, is.step) {
                let name = metric.name.to_string();
                let (old, new) = (describe(was, old.plugin), describe(is, self.plugin));
                return Err(MetricError::Conflict { name, old, new });
            }
            return Ok(id);
        }
        if let Err(error) = metric.unit.check() {
            return Err(MetricError::Unit { name: metric.name.to_string(), plugin: self.plugin, error });
        }
        let id = MetricId(inner.metrics.len() as u32);
        inner.metrics.push(Declared { metric: Arc::new(metric.clone()), plugin: self.plugin });
        inner.metrics_by_name.insert(metric.name.to_string(), id);
        Ok(id)
    }

    /// All metrics declared so far, with the plugins that declared them first.
    pub fn metrics(&self) -> Vec<(Arc<Metric>, &'static str)> {
        self.lock().metrics.iter().map(|d| (d.metric.clone(), d.plugin)).collect()
    }

    /// Opens a series. Its opener is its only writer, and ends it.
    pub fn open(&self, spec: SeriesSpec) -> SeriesId {
        let mut inner = self.lock();
        let metric = inner.metrics[spec.metric.0 as usize].metric.clone();
        let role = Role::of(&metric, spec.domain.is_some(), spec.consumer.is_some());
        let series = Arc::new(Series {
            metric,
            metric_id: spec.metric,
            resource: spec.resource,
            domain: spec.domain,
            consumer: spec.consumer,
            attributes: spec.attributes,
            start: spec.start,
            role,
        });
        let appeared = metered(&series)
            .map(|domain| ResourceAppeared { resource: series.resource.clone(), domain: domain.clone() });
        let id = match inner.free.pop() {
            Some(id) => {
                inner.series[id.index()] = Some(series);
                id
            }
            None => {
                inner.series.push(Some(series));
                SeriesId((inner.series.len() - 1) as u32)
            }
        };
        drop(inner);
        if let Some(appeared) = appeared {
            self.events.publish(appeared);
        }
        id
    }

    /// A series' description; `None` if it has ended and passed everyone. Keep it in a [`crate::SeriesMap`]
    /// rather than asking per point.
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
            if inner.series.get_mut(id.index()).and_then(Option::take).is_some() {
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
        self.series().iter().filter_map(|(_, series)| metered(series).cloned()).collect()
    }
}

/// The domain whose counter this series is.
fn metered(series: &Series) -> Option<&Arc<Domain>> {
    series.domain.as_ref().filter(|_| series.role == Role::Meter)
}

/// A declaration, for the message of a conflict.
fn describe(metric: &Metric, plugin: &str) -> String {
    let (kind, unit, step) = (metric.kind.as_str(), metric.unit.ucum(), metric.step);
    let steps = if metric.kind == Kind::Counter { format!(" in steps of {step}") } else { String::new() };
    format!("{kind} in {unit}{steps} by plugin {}", if plugin.is_empty() { "?" } else { plugin })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::events::Received;
    use crate::metric;
    use crate::{Resource, Unit};

    fn spec(metric: MetricId) -> SeriesSpec {
        SeriesSpec::new(metric, Resource::HOST, Timestamp(0))
    }

    #[test]
    fn one_declaration_has_one_id_and_another_unit_is_refused_naming_both_plugins() {
        let registry = Registry::new();
        let (rapl, mine) = (registry.for_plugin("rapl"), registry.for_plugin("mine"));
        let id = rapl.metric(&metric::HW_ENERGY).unwrap();
        assert_eq!(mine.metric(&metric::HW_ENERGY).unwrap(), id);
        let other = Metric { unit: Unit::Watt, ..metric::HW_ENERGY };
        assert_eq!(
            mine.metric(&other).unwrap_err().to_string(),
            "metric hw.energy is declared twice: as counter in J in steps of 0.000001 by plugin rapl \
             and as counter in W in steps of 0.000001 by plugin mine; rename one of them"
        );
        assert_eq!(rapl.metrics().len(), 1);
    }

    #[test]
    fn a_unit_that_is_none_is_refused_with_the_metric_and_its_plugin() {
        let registry = Registry::new().for_plugin("mine");
        let error = registry.metric(&Metric::gauge("x", Unit::Count("point"), "")).unwrap_err();
        assert!(error.to_string().starts_with("metric x of plugin mine: unit `point`"), "{error}");
        registry.metric(&Metric::gauge("x", Unit::Count("{point}"), "")).unwrap();
    }

    #[test]
    fn an_energy_counter_is_announced_when_it_is_opened() {
        let registry = Registry::new();
        let events = registry.for_plugin("other").events().clone();
        let mut appeared = events.subscribe::<ResourceAppeared>();
        let energy = registry.metric(&metric::HW_ENERGY).unwrap();
        let domain = Domain {
            name: "package-0".into(),
            origin: crate::Origin::Measured,
            follows: crate::Follows::Package(0),
            within: None,
            idle_microwatts: None,
        };
        registry.open(spec(energy));
        registry.open(SeriesSpec { domain: Some(Arc::new(domain)), ..spec(energy) });
        let Some(Received::Event(event)) = appeared.try_next() else { panic!("no event") };
        assert_eq!(event.domain.name, "package-0");
        assert!(appeared.try_next().is_none(), "a series without a domain is no meter");
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
