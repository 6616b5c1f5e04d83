//! Encodes points as lines, in the jsonl output's format. The parts of a line beside time and value are
//! rendered once a series, and kept until the series ends or its consumer changes.

use std::io::Write;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use wattrace_api::{Batch, Clock, Registry, Segment, Series, SeriesId, SeriesMap, Value};
use wattrace_text_output::{attributes_json, number::Scale};

/// The rendered parts of the lines of all series with a point.
pub(crate) struct Encoder {
    registry: Arc<Registry>,
    clock: Clock,
    rows: SeriesMap<Row>,
}

struct Row {
    series: Arc<Series>,
    revision: u64,
    scale: Scale,
    head: String,
    tail: String,
}

/// How many points were encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) points: u64,
    /// Points of series that are not open.
    pub(crate) unknown: u64,
}

impl Encoder {
    /// Encodes series of `registry`.
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock) -> Self {
        Self { registry, clock, rows: SeriesMap::default() }
    }

    /// Appends a segment's points to `out`.
    pub(crate) fn points(&mut self, segment: &Segment<'_>, out: &mut Vec<u8>) -> Written {
        let mut written = Written::default();
        let time = self.clock.unix_nanos(segment.window.end);
        for (id, value) in segment.points() {
            match self.row(id) {
                Some(row) => {
                    row.write(time, value, out);
                    written.points += 1;
                }
                None => written.unknown += 1,
            }
        }
        written
    }

    /// Appends the ends of series in `batch` to `out`.
    pub(crate) fn ends(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        let rows = &self.rows;
        let ends: Vec<_> =
            batch.ended().iter().filter_map(|&id| rows.get(id)).map(|row| name(&row.series)).collect();
        if !ends.is_empty() {
            // Writing to a Vec cannot fail.
            _ = writeln!(out, "{}", json!({ "end": ends }));
        }
    }

    /// Forgets the series that `batch` ends.
    pub(crate) fn forget_ended(&mut self, batch: &Batch) {
        for &id in batch.ended() {
            self.rows.remove(id);
        }
    }

    fn row(&mut self, id: SeriesId) -> Option<&Row> {
        if self.rows.get(id).is_none() {
            self.rows.insert(id, Row::new(self.registry.get(id)?, &self.clock));
        }
        let row = self.rows.get_mut(id)?;
        if revision(&row.series) != row.revision {
            *row = Row::new(row.series.clone(), &self.clock);
        }
        Some(row)
    }
}

fn revision(series: &Series) -> u64 {
    series.consumer.as_ref().map_or(0, |consumer| consumer.revision())
}

/// What names a series.
fn name(series: &Series) -> Json {
    let (kind, id) = (series.resource.kind.as_str(), &*series.resource.id);
    let mut name = json!({
        "metric": &*series.metric.name,
        "resource": { "type": kind, "id": id },
        "attributes": attributes_json(series),
    });
    if let Some(consumer) = &series.consumer {
        let identity = consumer.identity();
        name["consumer"] = json!({
            "type": identity.kind.as_str(),
            "id": &*identity.id,
            "start_unix_nano": identity.start_unix_nano,
        });
    }
    name
}

impl Row {
    fn new(series: Arc<Series>, clock: &Clock) -> Self {
        // The revision is read first: a change in between is then rendered twice, but never missed.
        let revision = revision(&series);
        let metric = &series.metric;
        let head = format!(
            r#"{{"metric":{},"unit":{},"kind":"{}","start_unix_nano":{},"time_unix_nano":"#,
            Json::from(&*metric.name),
            Json::from(metric.unit.ucum()),
            metric.kind.as_str(),
            clock.unix_nanos(series.start),
        );
        let mut name = name(&series);
        if let Some(name) = name.as_object_mut() {
            name.remove("metric");
        }
        // The object from its first key on.
        let name = name.to_string();
        let tail = format!(",{}\n", name.strip_prefix('{').unwrap_or("}"));
        Self { revision, scale: Scale::of(metric), head, tail, series }
    }

    fn write(&self, time: u64, value: Value, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.as_bytes());
        // Writing to a Vec cannot fail.
        _ = write!(out, "{time}");
        out.extend_from_slice(br#","value":"#);
        self.scale.write(value, "null", out);
        out.extend_from_slice(self.tail.as_bytes());
    }
}
