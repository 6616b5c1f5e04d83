//! The latest value of every series, under the labels that Prometheus gets. Counters are cumulative, so what
//! comes between two scrapes costs nothing here. How many series there are is limited before
//! (`wattrace-ranking`); `ended` keeps those that ended.
//!
//! When an exec renames a process its labels change: the series ends there, and another begins at zero.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use wattrace_api::{Batch, Kind, Metric, MetricId, Registry, Series, SeriesId, SeriesMap, Timestamp, Value};

use crate::ended::EndedQueue;
use crate::names::{Family, labels};
use crate::sample::Sample;

/// A family, and the metric it comes from.
#[derive(Debug)]
pub(crate) struct NamedMetric {
    pub(crate) family: Family,
    pub(crate) metric: Arc<Metric>,
}

/// All series that are alive, and those that ended.
#[derive(Debug)]
pub(crate) struct Table {
    registry: Arc<Registry>,
    entries: SeriesMap<Entry>,
    pub(crate) ended: EndedQueue,
    families: Vec<NamedMetric>,
    /// Index of the family; `None`: another metric has its name.
    by_metric: HashMap<MetricId, Option<usize>>,
    /// Points that cannot be served: their series is unknown, or another metric has the family's name.
    unknown: u64,
    name_clash: u64,
}

/// A series, as it is served.
#[derive(Debug)]
struct Entry {
    series: Arc<Series>,
    revision: u64,
    sample: Sample,
    /// The series' value, and its value where the sample began.
    value: u64,
    base: u64,
    time: Timestamp,
}

impl Table {
    /// An empty table whose ended series take at most `capacity` bytes.
    pub(crate) fn new(registry: Arc<Registry>, capacity: usize) -> Self {
        Self {
            registry,
            entries: SeriesMap::default(),
            ended: EndedQueue::new(capacity),
            families: Vec::new(),
            by_metric: HashMap::new(),
            unknown: 0,
            name_clash: 0,
        }
    }

    /// Takes a batch's values and ends.
    pub(crate) fn write(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.entries.get(id).is_none() {
                    self.open(id);
                }
                match self.entries.get_mut(id) {
                    Some(entry) => entry.take(value, segment.window.end, &mut self.ended),
                    None if self.registry.get(id).is_some() => self.name_clash += 1,
                    None => self.unknown += 1,
                }
            }
        }
        for &id in batch.ended() {
            if let Some(entry) = self.entries.remove(id) {
                self.ended.push(entry.sample);
            }
        }
    }

    fn open(&mut self, id: SeriesId) {
        let Some(series) = self.registry.get(id) else { return };
        if let Some(family) = self.family(&series) {
            self.entries.insert(id, Entry::new(series, family));
        }
    }

    fn family(&mut self, series: &Series) -> Option<usize> {
        let families = &mut self.families;
        match self.by_metric.entry(series.metric_id) {
            Slot::Occupied(known) => *known.get(),
            Slot::Vacant(new) => {
                let family = Family::of(&series.metric);
                let is_free = families.iter().all(|other| other.family.name != family.name);
                if is_free {
                    families.push(NamedMetric { family, metric: series.metric.clone() });
                } else {
                    tracing::warn!(
                        "plugins.prometheus: {} is left out, since another metric is called {} as well; \
                         rename one of them with the plugin relabel",
                        series.metric.name,
                        family.name
                    );
                }
                *new.insert(is_free.then(|| families.len() - 1))
            }
        }
    }

    /// All families, by index.
    pub(crate) fn families(&self) -> &[NamedMetric] {
        &self.families
    }

    /// What there is to serve: the living series, and those that ended.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.entries.iter().map(|(_, entry)| &entry.sample).chain(self.ended.samples())
    }

    /// Points that could not be taken, since the last call: of unknown series, and of clashing names.
    pub(crate) fn take_losses(&mut self) -> [(&'static str, u64); 2] {
        let take = std::mem::take::<u64>;
        [("unknown_series", take(&mut self.unknown)), ("name_clash", take(&mut self.name_clash))]
    }
}

impl Entry {
    fn new(series: Arc<Series>, family: usize) -> Self {
        // The revision is read first: a change in between is noticed with the next value.
        let revision = revision(&series);
        let labels = labels(&series.all_attributes()).into();
        let sample = Sample { family, labels, value: Value::of_steps(0), start: series.start };
        Self { time: series.start, series, revision, sample, value: 0, base: 0 }
    }

    fn take(&mut self, value: Value, time: Timestamp, ended: &mut EndedQueue) {
        if revision(&self.series) != self.revision {
            self.rename(ended);
        }
        (self.value, self.time) = (value.steps(), time);
        self.sample.value = match self.series.metric.kind {
            Kind::Counter => Value::of_steps(self.value.saturating_sub(self.base)),
            Kind::Gauge => value,
        };
    }

    fn rename(&mut self, ended: &mut EndedQueue) {
        self.revision = revision(&self.series);
        let labels = labels(&self.series.all_attributes());
        if *labels == *self.sample.labels {
            return;
        }
        if self.series.metric.kind == Kind::Counter {
            ended.push(self.sample.clone());
            (self.base, self.sample.start) = (self.value, self.time);
        }
        self.sample.labels = labels.into();
    }
}

fn revision(series: &Series) -> u64 {
    series.consumer.as_ref().map_or(0, |consumer| consumer.revision())
}
