//! What waits in the spool: points of a run of the agent, each with its series and its run, so that whichever
//! agent finds it can write it, whatever else was written. Writing it twice changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wattrace_api::{Clock, Series};
use wattrace_spool::{Class, Entry};
use wattrace_text_output::attributes_json;

/// A run of an agent. Times are in microseconds since the Unix epoch, as PostgreSQL has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// What it is called in the database.
    pub(crate) key: String,
    pub(crate) host: String,
    /// The version of the agent.
    pub(crate) agent: String,
    pub(crate) started: u64,
}

/// A point to write.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// The number of its series in its run.
    pub(crate) series: u32,
    pub(crate) time: u64,
    pub(crate) steps: Option<i64>,
    /// The bits of a floating-point number: JSON has no infinity.
    pub(crate) value: Option<u64>,
}

/// A series to write. PostgreSQL's texts hold every character but one, which is replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeriesRow {
    pub(crate) number: u32,
    pub(crate) metric: String,
    pub(crate) unit: String,
    pub(crate) kind: String,
    pub(crate) step: f64,
    pub(crate) start: u64,
    pub(crate) resource_type: String,
    pub(crate) resource_id: String,
    pub(crate) domain: Option<String>,
    pub(crate) origin: Option<String>,
    pub(crate) in_totals: bool,
    pub(crate) consumer_type: Option<String>,
    pub(crate) consumer_id: Option<String>,
    pub(crate) consumer_start: Option<u64>,
    /// A JSON object.
    pub(crate) attributes: String,
}

impl SeriesRow {
    /// The row of the series with this number.
    pub(crate) fn of(number: u32, series: &Arc<Series>, clock: &Clock) -> Self {
        let (resource, domain) = (&series.resource, series.domain.as_ref());
        let consumer = series.consumer.as_ref().map(|consumer| consumer.identity());
        Self {
            number,
            metric: clean(&series.metric.name),
            unit: clean(series.metric.unit.ucum()),
            kind: series.metric.kind.as_str().to_owned(),
            step: series.metric.step,
            start: micros(clock.unix_nanos(series.start)),
            resource_type: clean(resource.kind.as_str()),
            resource_id: clean(&resource.id),
            domain: domain.map(|domain| clean(&domain.name)),
            origin: domain.map(|domain| domain.origin.as_str().to_owned()),
            in_totals: series.counts_in_totals(),
            consumer_type: consumer.map(|consumer| consumer.kind.as_str().to_owned()),
            consumer_id: consumer.map(|consumer| clean(&consumer.id)),
            consumer_start: consumer.map(|consumer| micros(consumer.start_unix_nano)),
            attributes: attributes(series),
        }
    }
}

/// Points of one run with their series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Portion {
    pub(crate) run: Run,
    pub(crate) series: Vec<SeriesRow>,
    pub(crate) points: Vec<Point>,
}

impl Portion {
    /// Whether both can be written together, in at most `most` points.
    pub(crate) fn fits(&self, more: &Self, most: usize) -> bool {
        self.run.key == more.run.key && self.points.len() + more.points.len() <= most
    }

    /// Adds a later portion: its rows replace earlier ones.
    pub(crate) fn add(&mut self, more: Self) {
        let mut series: BTreeMap<u32, SeriesRow> =
            std::mem::take(&mut self.series).into_iter().map(|row| (row.number, row)).collect();
        series.extend(more.series.into_iter().map(|row| (row.number, row)));
        self.series = series.into_values().collect();
        self.points.extend(more.points);
        self.points = unique(std::mem::take(&mut self.points));
    }

    /// For the spool. `None` would mean that it cannot be expressed.
    pub(crate) fn entry(&self, class: Class) -> Option<Entry> {
        let payload = serde_json::to_vec(self).ok()?;
        Some(Entry { class, points: self.points.len() as u64, payload })
    }

    /// From the spool. `None`: it is of another version.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

/// Sorted by key, and of two with the same key the later one.
pub(crate) fn unique(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by_key(|point| (point.series, point.time));
    let mut unique = Vec::<Point>::with_capacity(points.len());
    for point in points {
        match unique.last_mut() {
            Some(last) if (last.series, last.time) == (point.series, point.time) => *last = point,
            _ => unique.push(point),
        }
    }
    unique
}

/// PostgreSQL's times are whole microseconds.
pub(crate) fn micros(unix_nanos: u64) -> u64 {
    unix_nanos / 1000
}

fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The attributes as a JSON object.
fn attributes(series: &Series) -> String {
    let mut attributes = attributes_json(series);
    if let Value::Object(attributes) = &mut attributes {
        for value in attributes.values_mut() {
            if let Value::String(text) = value {
                *text = clean(text);
            }
        }
    }
    attributes.to_string()
}
