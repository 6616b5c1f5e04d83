//! The latest value of every series, and the OTLP stream that reports it. Counters are cumulative, so what
//! comes between two exports costs nothing here, and nothing grows while the collector is away but the queue
//! of streams that ended meanwhile (`ended`). How many series there are is limited before
//! (`wattrace-ranking`).
//!
//! When an exec renames a process its attributes change, so its stream ends there and another begins, at the
//! value and the time of the last point before.

use std::num::NonZeroU64;
use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use wattrace_api::{
    Batch, Clock, Domain, Kind, MetricId, Registry, Series, SeriesId, SeriesMap, Timestamp, Value,
};

use crate::ended::{EndedQueue, Phase};
use crate::power::Powers;
use crate::stream::{LatestValue, Moment, Point, Stream};
use crate::temporality::Temporality;

/// All series that are alive, and the streams that ended.
#[derive(Debug)]
pub(crate) struct Table {
    registry: Arc<Registry>,
    entries: SeriesMap<Entry>,
    pub(crate) ended: EndedQueue,
    /// How far the series of each metric and domain are known.
    known: Vec<Known>,
    /// Of counters.
    temporality: Temporality,
    /// The distributions of power, if they are wanted.
    powers: Option<Powers>,
    /// Counts the collections.
    round: u64,
    /// Points of series that the registry does not know.
    unknown: u64,
}

/// How far the series of a metric and a domain are known: to the end of the latest window in which one of
/// them had a point. Those without a point used nothing in it. Joules of a domain come after the CPU time of
/// the same window, so the end of another metric's window says nothing about them.
#[derive(Debug)]
struct Known {
    metric_id: MetricId,
    domain: Option<Arc<Domain>>,
    until: Timestamp,
}

/// A series and its stream.
#[derive(Debug)]
struct Entry {
    series: Arc<Series>,
    /// Its place in [`Table::known`].
    known: usize,
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
        let (temporality, powers) = (Temporality::Cumulative, None);
        Self { registry, entries, ended, known: Vec::new(), temporality, powers, round: 0, unknown: 0 }
    }

    /// The same, with counters of another temporality, and with the distributions of power.
    pub(crate) fn reporting(self, counters: Temporality, powers: Option<Powers>) -> Self {
        Self { temporality: counters, powers, ..self }
    }

    /// Takes a batch's values and ends.
    pub(crate) fn write(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.entries.get(id).is_none()
                    && let Some(series) = self.registry.get(id)
                {
                    let known = place(&mut self.known, &series);
                    self.entries.insert(id, Entry::new(series, known));
                }
                let Some(entry) = self.entries.get_mut(id) else {
                    self.unknown += 1;
                    continue;
                };
                if let Some(powers) = &mut self.powers {
                    powers.write(id, &entry.series, segment.window, value);
                }
                entry.follow_rename(self.temporality, &mut self.ended);
                (entry.value, entry.time) = (value.steps(), segment.window.end);
                entry.changed = true;
                let until = &mut self.known[entry.known].until;
                *until = segment.window.end.max(*until);
            }
        }
        for &id in batch.ended() {
            self.end(id);
        }
    }

    fn end(&mut self, id: SeriesId) {
        if let Some(powers) = &mut self.powers {
            powers.end(id);
        }
        if let Some(entry) = self.entries.remove(id) {
            entry.finish(entry.stream.attributes.clone(), self.temporality, &mut self.ended);
        }
    }

    /// Emits what there is to send at `now`: the hardware's series always, a consumer's when it has changed
    /// or was last sent a minute ago, or, of counters, `everything`; then, as [`Table::collect_ended`] does,
    /// the ended streams.
    pub(crate) fn collect(
        &mut self,
        now: Timestamp,
        everything: bool,
        mut emit: impl FnMut(Point<'_>) -> bool,
    ) -> bool {
        self.round += 1;
        let moment = Moment { now, round: self.round, everything };
        for (_, entry) in self.entries.iter_mut() {
            entry.hold(self.known[entry.known].until);
            let is_delta = entry.is_delta(self.temporality);
            // An increment of zero says nothing: the next point begins where the last one ended.
            if is_delta && entry.latest().value == 0 {
                entry.changed = false;
                continue;
            }
            let latest = entry.latest();
            entry.stream.collect(&entry.series, latest, &mut entry.changed, &moment, &mut emit);
            if is_delta {
                entry.begin_again();
            }
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

    /// The distributions of power to send.
    pub(crate) fn collect_powers(&mut self, clock: &Clock) -> Vec<ExponentialHistogramDataPoint> {
        self.powers.as_mut().map(|powers| powers.collect(clock)).unwrap_or_default()
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

/// The place of `series` in `known`, which it gets if it has none.
fn place(known: &mut Vec<Known>, series: &Series) -> usize {
    let (metric_id, domain) = (series.metric_id, series.domain.as_ref());
    let same = |known: &Known| {
        known.metric_id == metric_id
            && known.domain.as_ref().map(|domain| &domain.name) == domain.map(|domain| &domain.name)
    };
    known.iter().position(same).unwrap_or_else(|| {
        known.push(Known { metric_id, domain: domain.cloned(), until: Timestamp(0) });
        known.len() - 1
    })
}

impl Entry {
    fn new(series: Arc<Series>, known: usize) -> Self {
        let (stream, start) = (Stream::of(&series), series.start);
        Self { series, known, stream, value: 0, time: start, base: 0, start, changed: false }
    }

    /// A consumer without points used nothing, so the value of its counter still holds. Hardware has the time
    /// of its reading.
    fn hold(&mut self, until: Timestamp) {
        if !self.changed && self.series.consumer.is_some() && self.series.metric.kind == Kind::Counter {
            self.time = self.time.max(until);
        }
    }

    /// What the stream reports.
    fn latest(&self) -> LatestValue {
        let value = self.value.saturating_sub(self.base);
        LatestValue { value, start: self.start, time: self.time }
    }

    /// Whether its points hold increments.
    fn is_delta(&self, temporality: Temporality) -> bool {
        temporality == Temporality::Delta && self.series.metric.kind == Kind::Counter
    }

    /// The next point covers what comes after this one.
    fn begin_again(&mut self) {
        (self.base, self.start) = (self.value, self.time);
    }

    /// The stream with `attributes` gets no more values.
    fn finish(&self, attributes: Arc<[u8]>, temporality: Temporality, ended: &mut EndedQueue) {
        let (latest, is_delta) = (self.latest(), self.is_delta(temporality));
        // After the last increment nobody waits for more, so it needs no mark of an end.
        if !(is_delta && latest.value == 0) {
            ended.push(&self.series, attributes, latest, !is_delta);
        }
    }

    /// Ends the stream under the old name, and begins one under the new, if an exec renamed the consumer.
    fn follow_rename(&mut self, temporality: Temporality, ended: &mut EndedQueue) {
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
        self.finish(old.attributes, temporality, ended);
        if self.series.metric.kind == Kind::Counter {
            self.begin_again();
        }
    }
}

#[cfg(test)]
mod tests;
