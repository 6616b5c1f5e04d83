//! The latest value of every series, and which OTLP stream reports it: its own, or `other`, the sum of
//! everybody below the top (`top` decides who that is). Counters are cumulative, so what comes between two
//! exports costs nothing here, and nothing grows while the collector is away but the queue of streams that
//! ended meanwhile (`ended`).
//!
//! When an exec renames a process its attributes change,
//! so its stream ends there and another begins, at the value and the time of the last point before.

use std::sync::Arc;

use wattrace_api::{
    Batch, Consumer, ConsumerKind, Kind, Registry, Series, SeriesId, SeriesMap, Timestamp, Value, metric,
};
use wattrace_ranking::{Member, Ranking};

use crate::ended::{EndedQueue, Phase};
use crate::stream::{Moment, Point, Stream};
use crate::top::{Account, Weight};

/// So many may leave before places are given anew: a storm of short processes shall not fill the memory.
const MOST_LEAVING: usize = 10_000;

/// All series that live, and the streams that ended.
#[derive(Debug)]
pub(crate) struct Table {
    registry: Arc<Registry>,
    slots: SeriesMap<Slot>,
    /// `None`: everybody has streams of their own.
    top: Option<Ranking<Weight>>,
    others: Vec<Other>,
    /// Ended since the last ranking, and without a stream: whether they get one is decided with what their
    /// consumers used.
    leaving: Vec<Slot>,
    pub(crate) ended: EndedQueue,
    /// End of the latest window seen.
    newest: Timestamp,
    /// Counts the collections.
    round: u64,
    unknown: u64,
}

#[derive(Debug)]
struct Slot {
    series: Arc<Series>,
    account: Account,
    /// Since it was last collected.
    changed: bool,
    member: Option<Member>,
    /// Whose sum it joins while it has no stream.
    other: Option<usize>,
    stream: Option<Stream>,
}

/// The sum over those that share everything but the consumer.
#[derive(Debug)]
struct Other {
    series: Arc<Series>,
    account: Account,
    changed: bool,
    stream: Stream,
}

impl Table {
    /// An empty table that gives streams of their own to `top` processes (0: to all) and keeps at most
    /// `capacity` ended streams.
    pub(crate) fn new(registry: Arc<Registry>, top: usize, capacity: usize) -> Self {
        Self {
            registry,
            slots: SeriesMap::default(),
            top: (top > 0).then(|| Ranking::new(top)),
            others: Vec::new(),
            leaving: Vec::new(),
            ended: EndedQueue::new(capacity),
            newest: Timestamp(0),
            round: 0,
            unknown: 0,
        }
    }

    /// Takes a batch's values and ends.
    pub(crate) fn write(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            self.newest = self.newest.max(segment.window.end);
            for (id, value) in segment.points() {
                if self.slots.get(id).is_none() {
                    self.open(id);
                }
                let Some(slot) = self.slots.get_mut(id) else {
                    self.unknown += 1;
                    continue;
                };
                slot.follow_renaming(&mut self.ended);
                slot.account.set(value.steps(), segment.window.end);
                slot.changed = true;
            }
        }
        for &id in batch.ended() {
            self.end(id);
        }
    }

    fn open(&mut self, id: SeriesId) {
        let Some(series) = self.registry.get(id) else { return };
        let kind = series.consumer.as_ref().map(|c| c.kind());
        let (mut member, mut other) = (None, None);
        if let Some(top) = &mut self.top
            && let Some(consumer) = &series.consumer
        {
            if let ConsumerKind::Process | ConsumerKind::Thread = consumer.kind() {
                member = Some(top.join(consumer.identity()));
            }
            // A thread below the top is left out, not summed: its process holds all it used. Nor can gauges
            // be summed.
            if let Some(ConsumerKind::Process | ConsumerKind::Other) = kind
                && series.metric.kind == Kind::Counter
            {
                other = Some(other_of(&mut self.others, &series));
            }
        }
        let ranked = member.is_some_and(|m| !self.top.as_ref().is_some_and(|top| top.owns(m)));
        let shared = kind == Some(ConsumerKind::Other) && other.is_some();
        let stream = (!ranked && !shared).then(|| Stream::of(&series));
        let account = Account::new(series.metric.kind == Kind::Counter, series.start);
        self.slots.insert(id, Slot { series, account, changed: false, member, other, stream });
    }

    fn end(&mut self, id: SeriesId) {
        let Some(mut slot) = self.slots.remove(id) else { return };
        if slot.stream.is_none() && slot.member.is_some() && slot.changed {
            self.leaving.push(slot);
            // A storm of short processes does not wait for the next collection.
            if self.leaving.len() >= MOST_LEAVING {
                self.rank();
            }
            return;
        }
        if let (Some(top), Some(member)) = (&mut self.top, slot.member) {
            top.leave(member);
        }
        match slot.stream.take() {
            Some(stream) => self.ended.push(slot.series, stream.attributes, slot.account.open()),
            None => slot.settle(&mut self.others),
        }
    }

    /// Hands over what there is to send at `now`: the hardware's series always, a consumer's when it has
    /// changed or was last sent a minute ago, what ended streams still have to tell.
    pub(crate) fn collect(&mut self, now: Timestamp, mut emit: impl FnMut(Point<'_>)) {
        self.round += 1;
        self.rank();
        let moment = Moment { now, newest: self.newest, round: self.round };
        for (_, slot) in self.slots.iter_mut() {
            match &mut slot.stream {
                Some(stream) => {
                    stream.collect(&slot.series, &slot.account, &mut slot.changed, &moment, &mut emit)
                }
                None => slot.settle(&mut self.others),
            }
        }
        for other in &mut self.others {
            other.stream.collect(&other.series, &other.account, &mut other.changed, &moment, &mut emit);
        }
        for ended in self.ended.iter() {
            let (value, time) = match ended.phase {
                Phase::Value => (Some(Value::of_steps(ended.last.value)), ended.last.time),
                Phase::End | Phase::Nothing => (None, ended.end_time()),
            };
            let (series, attributes, since) = (&*ended.series, &*ended.attributes, ended.last.since);
            emit(Point { series, attributes, since, time, value, ended: Some(ended.number) });
        }
    }

    /// Gives the places among the top anew. Whoever gets one reports there all that `other` has not; whoever
    /// loses one goes on in `other`. Who has left competes like all others: a heavy process is told by its
    /// name however short it lived, and one series of it is not told apart from another that ends a moment
    /// later.
    fn rank(&mut self) {
        let Some(top) = &mut self.top else { return };
        top.unweigh();
        for slot in self.slots.iter().map(|(_, slot)| slot).chain(&self.leaving) {
            if let Some(member) = slot.member {
                top.weigh(member, slot.weight());
            }
        }
        top.rank();
        for (_, slot) in self.slots.iter_mut() {
            let Some(member) = slot.member else { continue };
            if !top.owns(member) {
                slot.end_stream(&mut self.ended);
            } else if slot.stream.is_none() {
                slot.stream = Some(Stream::of(&slot.series));
            }
        }
        for mut slot in self.leaving.drain(..) {
            let Some(member) = slot.member else { continue };
            if top.owns(member) && self.ended.has_room() {
                let attributes = slot.series.all_attributes().into();
                self.ended.push(slot.series, attributes, slot.account.open());
            } else {
                slot.settle(&mut self.others);
            }
            top.leave(member);
        }
    }

    /// What was collected last did not all arrive: the streams in it count as changed again.
    pub(crate) fn unsent(&mut self) {
        let last = |stream: &Stream| stream.told.is_some_and(|told| told.round == self.round);
        for (_, slot) in self.slots.iter_mut() {
            slot.changed |= slot.stream.as_ref().is_some_and(last);
        }
        for other in &mut self.others {
            other.changed |= last(&other.stream);
        }
    }

    /// Values that the next collection would send and that were not sent before.
    pub(crate) fn undelivered(&self) -> usize {
        self.changed() + self.ended.values()
    }

    /// Whether a collection would have anything new to say.
    pub(crate) fn is_pending(&self) -> bool {
        self.ended.len() > 0 || self.changed() > 0
    }

    fn changed(&self) -> usize {
        let slots = self.slots.iter().filter(|(_, slot)| slot.changed).count();
        slots + self.leaving.len() + self.others.iter().filter(|other| other.changed).count()
    }

    /// Points of series that nobody had opened, since the last call.
    pub(crate) fn take_unknown(&mut self) -> u64 {
        std::mem::take(&mut self.unknown)
    }
}

impl Slot {
    /// Ends the stream under the old name, and begins one under the new, if an exec renamed the consumer.
    fn follow_renaming(&mut self, ended: &mut EndedQueue) {
        let (Some(stream), Some(consumer)) = (&mut self.stream, &self.series.consumer) else { return };
        if consumer.revision() == stream.revision {
            return;
        }
        let new = Stream::of(&self.series);
        let old = std::mem::replace(stream, new);
        // If nobody has seen the old name, nobody need see it end.
        if old.told.is_some() && old.attributes != stream.attributes {
            ended.push(self.series.clone(), old.attributes, self.account.cut());
        } else {
            stream.told = old.told;
        }
    }

    fn end_stream(&mut self, ended: &mut EndedQueue) {
        if let Some(stream) = self.stream.take() {
            ended.push(self.series.clone(), stream.attributes, self.account.cut());
        }
    }

    /// Adds what has come since the last time to the sum it belongs to.
    fn settle(&mut self, others: &mut [Other]) {
        if std::mem::take(&mut self.changed)
            && let Some(other) = self.other.and_then(|at| others.get_mut(at))
        {
            let cut = self.account.cut();
            if other.stream.told.is_none() {
                other.account.reach_back(cut.since);
            }
            other.account.add(cut);
            other.changed |= cut.value > 0;
        }
    }

    fn weight(&self) -> Weight {
        let total = self.account.total();
        match &*self.series.metric.name {
            name if name == metric::CONSUMER_ENERGY.name => Weight { energy: total, cpu_time: 0 },
            name if name == metric::CONSUMER_CPU_TIME.name => Weight { energy: 0, cpu_time: total },
            _ => Weight::default(),
        }
    }
}

/// The sum that `series` belongs to.
fn other_of(others: &mut Vec<Other>, series: &Arc<Series>) -> usize {
    let same = |other: &Other| {
        let s = &other.series;
        (s.metric_id, &s.resource, &s.domain, &s.attributes)
            == (series.metric_id, &series.resource, &series.domain, &series.attributes)
    };
    if let Some(at) = others.iter().position(same) {
        return at;
    }
    let series = Arc::new(Series {
        metric: series.metric.clone(),
        metric_id: series.metric_id,
        resource: series.resource.clone(),
        domain: series.domain.clone(),
        consumer: Some(Arc::new(Consumer::closing(ConsumerKind::Other))),
        attributes: series.attributes.clone(),
        start: series.start,
        role: series.role,
    });
    let (account, stream) = (Account::new(true, series.start), Stream::of(&series));
    others.push(Other { series, account, changed: false, stream });
    others.len() - 1
}

#[cfg(test)]
mod tests;
