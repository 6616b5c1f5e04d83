//! The latest value of every series, and the OTLP stream that reports it. Counters are cumulative, so what
//! comes between two exports costs nothing here, and nothing grows while the collector is away but the queue
//! of streams that ended meanwhile (`ended`). How many series there are is limited before
//! (`wattrace-ranking`).
//!
//! When an exec renames a process its attributes change, so its stream ends there and another begins, at the
//! value and the time of the last point before.

use std::num::NonZeroU64;
use std::sync::Arc;

use wattrace_api::{Batch, Kind, Registry, Series, SeriesId, SeriesMap, Timestamp, Value};

use crate::ended::{EndedQueue, Phase};
use crate::stream::{LatestValue, Moment, Point, Stream};

/// All series that are alive, and the streams that ended.
#[derive(Debug)]
pub(crate) struct Table {
    registry: Arc<Registry>,
    entries: SeriesMap<Entry>,
    pub(crate) ended: EndedQueue,
    /// End of the latest window seen.
    newest: Timestamp,
    /// Counts the collections.
    round: u64,
    /// Points of series that the registry does not know.
    unknown: u64,
}

/// A series and its stream.
#[derive(Debug)]
struct Entry {
    series: Arc<Series>,
    stream: Stream,
    /// The series' value, which covers everything since its start, and when it had that value.
    value: u64,
    time: Timestamp,
    /// Where the stream began: at which value of the series, and when.
    base: u64,
    start: Timestamp,
    /// Since it was last collected.
    changed: bool,
}

impl Table {
    /// An empty table whose ended streams take at most `capacity` bytes.
    pub(crate) fn new(registry: Arc<Registry>, capacity: usize) -> Self {
        let (entries, ended) = (SeriesMap::default(), EndedQueue::new(capacity));
        Self { registry, entries, ended, newest: Timestamp(0), round: 0, unknown: 0 }
    }

    /// Takes a batch's values and ends.
    pub(crate) fn write(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            self.newest = self.newest.max(segment.window.end);
            for (id, value) in segment.points() {
                if self.entries.get(id).is_none()
                    && let Some(series) = self.registry.get(id)
                {
                    self.entries.insert(id, Entry::new(series));
                }
                let Some(entry) = self.entries.get_mut(id) else {
                    self.unknown += 1;
                    continue;
                };
                entry.follow_rename(&mut self.ended);
                (entry.value, entry.time) = (value.steps(), segment.window.end);
                entry.changed = true;
            }
        }
        for &id in batch.ended() {
            self.end(id);
        }
    }

    fn end(&mut self, id: SeriesId) {
        if let Some(entry) = self.entries.remove(id) {
            let latest = entry.latest();
            self.ended.push(&entry.series, entry.stream.attributes, latest);
        }
    }

    /// Emits what there is to send at `now`: the hardware's series always, a consumer's when it has changed
    /// or was last sent a minute ago; then, as [`Table::collect_ended`] does, the ended streams.
    pub(crate) fn collect(&mut self, now: Timestamp, mut emit: impl FnMut(Point<'_>) -> bool) -> bool {
        self.round += 1;
        let moment = Moment { now, newest: self.newest, round: self.round };
        for (_, entry) in self.entries.iter_mut() {
            let latest = entry.latest();
            entry.stream.collect(&entry.series, latest, &mut entry.changed, &moment, &mut emit);
        }
        self.collect_ended(emit)
    }

    /// Emits what the collector has not acknowledged of ended streams, as long as `emit` says that there is
    /// room for more: first last values, then ends. Returns whether that was all.
    pub(crate) fn collect_ended(&self, mut emit: impl FnMut(Point<'_>) -> bool) -> bool {
        let in_phase = |phase| self.ended.iter().filter(move |ended| ended.phase == phase);
        for ended in in_phase(Phase::Value).chain(in_phase(Phase::End)) {
            let (value, time) = match ended.phase {
                Phase::Value => (Some(Value::of_steps(ended.last.value)), ended.last.time),
                Phase::End | Phase::Done => (None, ended.end_time()),
            };
            let (metric, metric_id) = (&*ended.metric, ended.metric_id);
            let (attributes, start, ended) = (&*ended.attributes, ended.last.start, ended.number);
            if !emit(Point {
                metric,
                metric_id,
                attributes,
                start,
                time,
                value,
                ended: NonZeroU64::new(ended),
            }) {
                return false;
            }
        }
        true
    }

    /// What was collected last did not all arrive: the streams in it count as changed again.
    pub(crate) fn mark_unsent(&mut self) {
        for (_, entry) in self.entries.iter_mut() {
            entry.changed |= entry.stream.sent.is_some_and(|sent| sent.round == self.round);
        }
    }

    /// Values that the next collection would send and that were not sent before.
    pub(crate) fn undelivered(&self) -> usize {
        self.changed() + self.ended.values()
    }

    /// Whether a collection would have anything new.
    pub(crate) fn is_pending(&self) -> bool {
        self.ended.len() > 0 || self.changed() > 0
    }

    fn changed(&self) -> usize {
        self.entries.iter().filter(|(_, entry)| entry.changed).count()
    }

    /// Points of series that the registry does not know, since the last call.
    pub(crate) fn take_unknown(&mut self) -> u64 {
        std::mem::take(&mut self.unknown)
    }
}

impl Entry {
    fn new(series: Arc<Series>) -> Self {
        let (stream, start) = (Stream::of(&series), series.start);
        Self { series, stream, value: 0, time: start, base: 0, start, changed: false }
    }

    /// What the stream reports.
    fn latest(&self) -> LatestValue {
        let value = self.value.saturating_sub(self.base);
        LatestValue { value, start: self.start, time: self.time }
    }

    /// Ends the stream under the old name, and begins one under the new, if an exec renamed the consumer.
    fn follow_rename(&mut self, ended: &mut EndedQueue) {
        let Some(consumer) = &self.series.consumer else { return };
        if consumer.revision() == self.stream.revision {
            return;
        }
        let old = std::mem::replace(&mut self.stream, Stream::of(&self.series));
        // If the collector has not seen the old name, it need not see its end.
        if old.sent.is_none() || old.attributes == self.stream.attributes {
            self.stream.sent = old.sent;
            return;
        }
        ended.push(&self.series, old.attributes, self.latest());
        if self.series.metric.kind == Kind::Counter {
            (self.base, self.start) = (self.value, self.time);
        }
    }
}

#[cfg(test)]
mod tests;
