//! The pipeline element: sends each increment of a counter to a series of its consumer's own if the consumer
//! has a place in the ranking, and to the sum of the others if not.
//!
//! A counter is cut when its consumer gains or loses its place: what it counted before stays where it was
//! reported, what comes after goes elsewhere. So each step is in exactly one series, and the sum over all
//! series that ever went on is the sum of the true values. The originals don't go on.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, ConsumerKind, Error, Kind, Registry, Series, SeriesId, SeriesMap, SeriesSpec, Timestamp,
    Transform, Value, Window,
};
use wattrace_ranking::{Member, Ranking};

use crate::TopConfig;
use crate::others::Others;

/// The element.
pub(crate) struct Transformer {
    registry: Arc<Registry>,
    by: String,
    kind: ConsumerKind,
    interval: Duration,
    next_ranking: Timestamp,
    slots: SeriesMap<Slot>,
    ranking: Ranking<u64>,
    others: Others,
    /// Points that are in no sum, and not told yet.
    left_out: u64,
    /// The batch being made; empty between calls.
    out: Batch,
}

/// What a series is to the ranking.
enum Slot {
    /// Nothing: it passes.
    Aside,
    /// A closing entry beside competitors: it passes, and keeps the sum of the others open.
    Beside { other: usize },
    /// A sum over some of the others, made elsewhere: it joins ours.
    Partial { other: usize, last: u64, until: Timestamp },
    /// A competitor's gauge, which can't be summed.
    Gauge { member: Member },
    /// A competitor's counter.
    Counter(Counter),
}

struct Counter {
    series: Arc<Series>,
    member: Member,
    other: usize,
    /// Its increase is the weight.
    is_weight: bool,
    weighed: u64,
    /// Up to which step, and when, it was reported somewhere.
    last: u64,
    until: Timestamp,
    /// The series of its own, and where that began.
    own: Option<SeriesId>,
    base: u64,
}

impl Transformer {
    pub(crate) fn new(config: &TopConfig, kind: ConsumerKind, registry: Arc<Registry>) -> Self {
        Self {
            by: config.by.clone(),
            kind,
            interval: config.interval,
            next_ranking: Timestamp(0),
            slots: SeriesMap::default(),
            ranking: Ranking::new(config.count),
            others: Others::new(kind, registry.clone()),
            left_out: 0,
            out: Batch::default(),
            registry,
        }
    }

    /// Notes who is new, and how heavy everybody has become.
    fn weigh(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.slots.get(id).is_none() {
                    let slot = self.cast(id);
                    self.slots.insert(id, slot);
                }
                if let Some(Slot::Counter(counter)) = self.slots.get_mut(id)
                    && counter.is_weight
                {
                    let before = mem::replace(&mut counter.weighed, value.steps());
                    self.ranking.weigh(counter.member, value.steps().saturating_sub(before));
                }
            }
        }
    }

    /// Decides what a series is when it is first seen.
    fn cast(&mut self, id: SeriesId) -> Slot {
        let Some(series) = self.registry.get(id) else { return Slot::Aside };
        let Some(consumer) = &series.consumer else { return Slot::Aside };
        let is_counter = series.metric.kind == Kind::Counter;
        match consumer.kind() {
            kind if kind == self.kind && !is_counter => {
                Slot::Gauge { member: self.ranking.join(consumer.identity()) }
            }
            kind if kind == self.kind => Slot::Counter(Counter {
                member: self.ranking.join(consumer.identity()),
                other: self.others.hold(&series),
                is_weight: series.metric.name == self.by,
                weighed: 0,
                last: 0,
                until: series.start,
                own: None,
                base: 0,
                series,
            }),
            ConsumerKind::Other if is_counter && self.kind == ConsumerKind::Process => {
                Slot::Partial { other: self.others.hold(&series), last: 0, until: series.start }
            }
            ConsumerKind::Idle | ConsumerKind::Irq | ConsumerKind::Unattributed if is_counter => {
                Slot::Beside { other: self.others.hold(&series) }
            }
            _ => Slot::Aside,
        }
    }

    /// Gives the places anew if it is time to, or if one is free. Who loses one ends its series.
    fn rank(&mut self, now: Timestamp) {
        let is_due = now >= self.next_ranking;
        if !is_due && !self.ranking.has_room() {
            return;
        }
        self.ranking.rank();
        if is_due {
            self.ranking.fade();
            self.next_ranking = now + self.interval;
        }
        for (_, slot) in self.slots.iter_mut() {
            if let Slot::Counter(counter) = slot
                && !self.ranking.owns(counter.member)
                && let Some(own) = counter.own.take()
            {
                self.out.end(own);
            }
        }
    }

    /// Sends a point where it belongs.
    fn send(&mut self, id: SeriesId, value: Value, window: Window) {
        let Self { registry, slots, ranking, others, left_out, out, .. } = self;
        match slots.get_mut(id) {
            Some(Slot::Counter(counter)) => {
                let last = mem::replace(&mut counter.last, value.steps());
                let until = mem::replace(&mut counter.until, window.end);
                if ranking.owns(counter.member) {
                    let own = counter.own.unwrap_or_else(|| {
                        counter.base = last;
                        open_own(&counter.series, until, registry)
                    });
                    counter.own = Some(own);
                    out.push(own, Value::of_steps(value.steps().saturating_sub(counter.base)));
                } else {
                    others.add(counter.other, value.steps().saturating_sub(last), until);
                }
            }
            Some(Slot::Partial { other, last, until }) => {
                let last = mem::replace(last, value.steps());
                let until = mem::replace(until, window.end);
                others.add(*other, value.steps().saturating_sub(last), until);
            }
            Some(Slot::Gauge { member }) if !ranking.owns(*member) => *left_out += 1,
            _ => out.push(id, value),
        }
    }

    fn end(&mut self, id: SeriesId) {
        self.out.end(id);
        match self.slots.remove(id) {
            Some(Slot::Counter(counter)) => {
                counter.own.into_iter().for_each(|own| self.out.end(own));
                self.ranking.leave(counter.member);
                self.others.let_go(counter.other, &mut self.out);
            }
            Some(Slot::Gauge { member }) => self.ranking.leave(member),
            Some(Slot::Beside { other } | Slot::Partial { other, .. }) => {
                self.others.let_go(other, &mut self.out);
            }
            Some(Slot::Aside) | None => {}
        }
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.weigh(batch);
        if let Some(now) = batch.segments().map(|segment| segment.window.end).max() {
            self.rank(now);
        }
        for segment in batch.segments() {
            self.out.begin(segment.window);
            for (id, value) in segment.points() {
                self.send(id, value, segment.window);
            }
            self.others.push_changed(&mut self.out);
        }
        batch.ended().iter().for_each(|&id| self.end(id));
        mem::swap(batch, &mut self.out);
        self.out.clear();
        Ok(())
    }

    fn take_left_out(&mut self) -> u64 {
        mem::take(&mut self.left_out)
    }
}

/// The series of one that has gained a place: `series`, counted from `start` on.
fn open_own(series: &Series, start: Timestamp, registry: &Registry) -> SeriesId {
    registry.open(SeriesSpec {
        metric: series.metric_id,
        resource: series.resource.clone(),
        domain: series.domain.clone(),
        consumer: series.consumer.clone(),
        attributes: series.attributes.clone(),
        start,
    })
}

#[cfg(test)]
mod tests;
