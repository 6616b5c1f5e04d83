//! From points to lines: `hw.energy,host.name=node-1,unit=J,wattrace.domain=package-0 value=1.5 1700…`. What
//! is before the value is made once per series.
//!
//! Each counter begins with a zero at its start, so that the first point of a short process is an increase,
//! and a restart of the agent is one too. When an exec renames a process its tags change: another series of
//! the database begins there, at zero.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use wattrace_api::{Batch, Clock, Kind, Registry, Series, SeriesId, SeriesMap, Timestamp, Value};

use crate::config::Settings;
use crate::escape;
use crate::outbox::{Lot, Outbox};

/// The series that are alive, and the lines that are not in a request yet.
pub(crate) struct Lines {
    registry: Arc<Registry>,
    clock: Clock,
    /// Tags of every line.
    tags: BTreeMap<String, String>,
    entries: SeriesMap<Entry>,
    text: String,
    count: u64,
    /// Bytes of a request, about.
    request: usize,
    unknown: u64,
    no_number: u64,
}

/// A series, as the database sees it.
struct Entry {
    series: Arc<Series>,
    revision: u64,
    /// A line up to the value.
    head: String,
    /// A counter's value, and its value where the database's series began.
    value: u64,
    base: u64,
    time: Timestamp,
}

impl Lines {
    pub(crate) fn new(settings: &Settings, registry: Arc<Registry>, clock: Clock) -> Self {
        Self {
            registry,
            clock,
            tags: settings.tags.clone(),
            entries: SeriesMap::default(),
            text: String::new(),
            count: 0,
            request: settings.request_bytes,
            unknown: 0,
            no_number: 0,
        }
    }

    /// Lines that are in no request yet.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Writes the lines of a batch, and moves full requests to `outbox`.
    pub(crate) fn take(&mut self, batch: &Batch, outbox: &mut Outbox) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                self.point(id, value, segment.window.end);
                if self.text.len() >= self.request {
                    self.seal(outbox);
                }
            }
        }
        for &id in batch.ended() {
            self.entries.remove(id);
        }
    }

    /// Moves what there is to `outbox`, as a request.
    pub(crate) fn seal(&mut self, outbox: &mut Outbox) {
        if self.count > 0 {
            outbox.push(Lot { lines: std::mem::take(&mut self.count), text: self.text.as_bytes() });
            self.text.clear();
        }
    }

    fn point(&mut self, id: SeriesId, value: Value, time: Timestamp) {
        if self.entries.get(id).is_none() {
            let Some(series) = self.registry.get(id) else {
                self.unknown += 1;
                return;
            };
            let entry = Entry::new(series, &self.tags);
            self.entries.insert(id, entry);
            self.begin(id);
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        if revision(&entry.series) != entry.revision && entry.rename(&self.tags) {
            self.begin(id);
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        (entry.value, entry.time) = (value.steps(), time);
        let metric = &entry.series.metric;
        let number = match metric.kind {
            Kind::Counter => metric.in_units(Value::of_steps(entry.value.saturating_sub(entry.base))),
            Kind::Gauge => value.gauge(),
        };
        if number.is_finite() {
            push(&mut self.text, &entry.head, number, self.clock.unix_nanos(time));
            self.count += 1;
        } else {
            self.no_number += 1;
        }
    }

    /// Writes the zero with which a counter begins.
    fn begin(&mut self, id: SeriesId) {
        if let Some(entry) = self.entries.get(id).filter(|e| e.series.metric.kind == Kind::Counter) {
            push(&mut self.text, &entry.head, 0.0, self.clock.unix_nanos(entry.time));
            self.count += 1;
        }
    }

    /// Points that have no line, since the last call.
    pub(crate) fn take_losses(&mut self) -> [(&'static str, u64); 2] {
        let take = std::mem::take::<u64>;
        [("unknown_series", take(&mut self.unknown)), ("not_a_number", take(&mut self.no_number))]
    }
}

fn push(text: &mut String, head: &str, number: f64, time: u64) {
    text.push_str(head);
    // Writing to a string cannot fail.
    _ = writeln!(text, "{number} {time}");
}

impl Entry {
    fn new(series: Arc<Series>, tags: &BTreeMap<String, String>) -> Self {
        // The revision is read first: a change in between is noticed with the next value.
        let revision = revision(&series);
        let head = head(&series, tags);
        Self { time: series.start, series, revision, head, value: 0, base: 0 }
    }

    /// Takes the tags as they are now. Whether another series of the database begins with them.
    fn rename(&mut self, tags: &BTreeMap<String, String>) -> bool {
        self.revision = revision(&self.series);
        let head = head(&self.series, tags);
        if head == self.head {
            return false;
        }
        (self.head, self.base) = (head, self.value);
        true
    }
}

fn revision(series: &Series) -> u64 {
    series.consumer.as_ref().map_or(0, |consumer| consumer.revision())
}

/// A line up to the value. Tags are sorted by key, as InfluxDB keeps them; those of the series take
/// precedence over those of every line.
fn head(series: &Series, tags: &BTreeMap<String, String>) -> String {
    let mut all = tags.clone();
    all.insert("unit".to_owned(), series.metric.unit.ucum().to_string());
    all.extend(series.all_attributes().into_iter().map(|a| (a.key.into_owned(), a.value.to_string())));
    let mut head = String::new();
    escape::measurement(&mut head, &series.metric.name);
    all.iter().for_each(|(key, value)| escape::tag(&mut head, key, value));
    head.push_str(" value=");
    head
}

#[cfg(test)]
mod tests;
