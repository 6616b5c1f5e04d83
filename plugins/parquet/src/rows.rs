//! Rows that wait for their row group, and what they say of their series: made once per series, and again
//! after an exec has renamed its process.

use std::sync::Arc;

use parquet::data_type::ByteArray;
use wattrace_api::{Batch, Clock, Metric, Registry, Series, SeriesId, SeriesMap, Value};
use wattrace_text_output::attributes_json;

/// A point.
pub(crate) struct Row {
    pub(crate) about: Arc<About>,
    /// Nanoseconds since the Unix epoch.
    pub(crate) time: i64,
    pub(crate) value: Value,
}

/// The columns that all points of a series have in common.
pub(crate) struct About {
    pub(crate) metric: Arc<Metric>,
    pub(crate) host: ByteArray,
    pub(crate) name: ByteArray,
    pub(crate) unit: ByteArray,
    pub(crate) kind: ByteArray,
    pub(crate) start: i64,
    pub(crate) resource_type: ByteArray,
    pub(crate) resource_id: ByteArray,
    pub(crate) domain: Option<ByteArray>,
    pub(crate) origin: Option<ByteArray>,
    pub(crate) in_totals: bool,
    pub(crate) consumer_type: Option<ByteArray>,
    pub(crate) consumer_id: Option<ByteArray>,
    pub(crate) consumer_start: Option<i64>,
    pub(crate) program: Option<ByteArray>,
    pub(crate) attributes: ByteArray,
}

struct Entry {
    series: Arc<Series>,
    revision: u64,
    about: Arc<About>,
}

/// Rows that wait.
pub(crate) struct Rows {
    registry: Arc<Registry>,
    clock: Clock,
    host: ByteArray,
    entries: SeriesMap<Entry>,
    /// In the order in which they came.
    pub(crate) rows: Vec<Row>,
    unknown: u64,
}

impl Rows {
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock, host: &str) -> Self {
        let (entries, host) = (SeriesMap::default(), ByteArray::from(host));
        Self { registry, clock, host, entries, rows: Vec::new(), unknown: 0 }
    }

    /// Takes a batch.
    pub(crate) fn take(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            let time = integer(self.clock.unix_nanos(segment.window.end));
            for (id, value) in segment.points() {
                match self.about(id) {
                    Some(about) => self.rows.push(Row { about, time, value }),
                    None => self.unknown += 1,
                }
            }
        }
        for &id in batch.ended() {
            self.entries.remove(id);
        }
    }

    fn about(&mut self, id: SeriesId) -> Option<Arc<About>> {
        if self.entries.get(id).is_none() {
            let series = self.registry.get(id)?;
            // The revision is read first: a change in between is noticed with the next value.
            let revision = revision(&series);
            let about = Arc::new(self.describe(&series));
            self.entries.insert(id, Entry { series, revision, about });
        }
        let entry = self.entries.get(id)?;
        let revision = revision(&entry.series);
        if entry.revision == revision {
            return Some(entry.about.clone());
        }
        let about = Arc::new(self.describe(&entry.series));
        let entry = self.entries.get_mut(id)?;
        (entry.revision, entry.about) = (revision, about.clone());
        Some(about)
    }

    fn describe(&self, series: &Series) -> About {
        let (resource, domain) = (&series.resource, series.domain.as_ref());
        let consumer = series.consumer.as_ref();
        let identity = consumer.map(|consumer| consumer.identity());
        let program = consumer.and_then(|consumer| consumer.attribute("process.executable.name"));
        About {
            metric: series.metric.clone(),
            host: self.host.clone(),
            name: text(&series.metric.name),
            unit: text(series.metric.unit.ucum()),
            kind: text(series.metric.kind.as_str()),
            start: integer(self.clock.unix_nanos(series.start)),
            resource_type: text(resource.kind.as_str()),
            resource_id: text(&resource.id),
            domain: domain.map(|domain| text(&domain.name)),
            origin: domain.map(|domain| text(domain.origin.as_str())),
            in_totals: series.counts_in_totals(),
            consumer_type: identity.map(|identity| text(identity.kind.as_str())),
            consumer_id: identity.map(|identity| text(&identity.id)),
            consumer_start: identity.map(|identity| integer(identity.start_unix_nano)),
            program: program.map(|program| text(&program.to_string())),
            attributes: text(&attributes_json(series).to_string()),
        }
    }

    /// Points of series that the registry does not know, since the last call.
    pub(crate) fn take_unknown(&mut self) -> u64 {
        std::mem::take(&mut self.unknown)
    }
}

fn text(text: &str) -> ByteArray {
    ByteArray::from(text)
}

fn revision(series: &Series) -> u64 {
    series.consumer.as_ref().map_or(0, |consumer| consumer.revision())
}

/// Signed 64 bits end in the year 2262, and after 292,000 years of microwatts.
pub(crate) fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
