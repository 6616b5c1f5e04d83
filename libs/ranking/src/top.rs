//! The transform: sends each increment of a counter to a series of its consumer's own if the consumer has a
//! place in the ranking, and to the sum of the others if not.
//!
//! A counter is cut when its consumer gains or loses its place: what it counted before stays where it was
//! reported, what comes after goes to the other series. So each step is in exactly one series, and the sum
//! over all series that ever went on is the sum of the true values. The original series don't go on.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wattrace_api::{
    Batch, ConsumerKind, Error, Kind, Registry, Series, SeriesId, SeriesMap, SeriesSpec, Timestamp,
    Transform, Value, Window, metric,
};

use crate::ranking::{Member, Ranking, Weight};
use crate::sums::Sums;

/// Who competes, by what and for how many places.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many consumers have series of their own.
    pub count: usize,
    /// The consumers that compete. All others pass.
    pub kind: ConsumerKind,
    /// Whether threads compete beside processes. A thread without a place is left out, not summed: its
    /// process holds all it used.
    pub threads: bool,
    /// The counter whose increase makes a consumer heavy, summed over all its series.
    pub by: String,
    /// The counter that decides where no consumer has an increase of `by`; empty: none.
    pub fallback: String,
    /// Time between two rankings. What was used before counts half at each.
    pub interval: Duration,
}

impl Settings {
    /// Of processes and their threads, by energy, or by CPU time where nothing has energy.
    pub fn of_processes(count: usize, interval: Duration) -> Self {
        Self {
            count,
            kind: ConsumerKind::Process,
            threads: true,
            by: metric::CONSUMER_ENERGY.name.into_owned(),
            fallback: metric::CONSUMER_CPU_TIME.name.into_owned(),
            interval,
        }
    }
}

/// The element.
pub struct Top {
    settings: Settings,
    registry: Arc<Registry>,
    /// While it is set, no consumer is given a place.
    frozen: Arc<AtomicBool>,
    next_ranking: Timestamp,
    slots: SeriesMap<Slot>,
    ranking: Ranking,
    sums: Sums,
    /// Points that are in no sum, since they were last counted.
    left_out: u64,
    /// The batch being made; empty between calls.
    out: Batch,
}

/// What a series is to the ranking.
enum Slot {
    /// Nothing: it passes.
    Passes,
    /// A closing entry beside competitors: it passes, and keeps the sum of the others open.
    Beside { sum: usize },
    /// A sum over some of the others, made elsewhere: it joins the sum here.
    Partial { sum: usize, last: u64, until: Timestamp },
    /// A competitor's.
    Competitor(Competitor),
}

/// A series of a consumer that competes.
struct Competitor {
    series: Arc<Series>,
    member: Member,
    /// The sum that it joins while its consumer has no place. A gauge can't be summed, a thread needn't be.
    sum: Option<usize>,
    weighs: Weighs,
    weighed: u64,
    /// Up to which step, and when, it was reported in some series.
    last: u64,
    until: Timestamp,
    /// The series of its own, and the step at which that began.
    own: Option<SeriesId>,
    base: u64,
}

/// What a series counts for in the ranking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weighs {
    Nothing,
    Primary,
    Secondary,
}

impl Top {
    /// A transform that has seen nothing yet.
    pub fn new(settings: Settings, registry: Arc<Registry>) -> Self {
        Self {
            frozen: Arc::default(),
            next_ranking: Timestamp(0),
            slots: SeriesMap::default(),
            ranking: Ranking::new(settings.count),
            sums: Sums::new(settings.kind, registry.clone()),
            left_out: 0,
            out: Batch::default(),
            settings,
            registry,
        }
    }

    /// Gives no more places while `frozen` is set. For an output that has no room for more series that end.
    #[must_use]
    pub fn frozen_while(self, frozen: Arc<AtomicBool>) -> Self {
        Self { frozen, ..self }
    }

    /// Notes new series, and the weight that each consumer gained.
    fn weigh(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.slots.get(id).is_none() {
                    let slot = self.slot(id);
                    self.slots.insert(id, slot);
                }
                if let Some(Slot::Competitor(competitor)) = self.slots.get_mut(id)
                    && competitor.weighs != Weighs::Nothing
                {
                    let before = mem::replace(&mut competitor.weighed, value.steps());
                    let gained = value.steps().saturating_sub(before);
                    let weight = match competitor.weighs {
                        Weighs::Secondary => Weight { primary: 0, secondary: gained },
                        _ => Weight { primary: gained, secondary: 0 },
                    };
                    self.ranking.add_weight(competitor.member, weight);
                }
            }
        }
    }

    /// Decides what a series is when it is first seen.
    fn slot(&mut self, id: SeriesId) -> Slot {
        let Some(series) = self.registry.get(id) else { return Slot::Passes };
        let Some(consumer) = &series.consumer else { return Slot::Passes };
        let is_counter = series.metric.kind == Kind::Counter;
        let (kind, competes) = (consumer.kind(), self.settings.kind);
        match kind {
            _ if kind == competes || (self.settings.threads && kind == ConsumerKind::Thread) => {
                Slot::Competitor(Competitor {
                    member: self.ranking.join(consumer.identity()),
                    sum: (kind == competes && is_counter).then(|| self.sums.hold(&series)),
                    weighs: self.weighs(&series),
                    weighed: 0,
                    last: 0,
                    until: series.start,
                    own: None,
                    base: 0,
                    series,
                })
            }
            ConsumerKind::Other if is_counter && competes == ConsumerKind::Process => {
                Slot::Partial { sum: self.sums.hold(&series), last: 0, until: series.start }
            }
            ConsumerKind::Idle | ConsumerKind::Irq | ConsumerKind::Unattributed if is_counter => {
                Slot::Beside { sum: self.sums.hold(&series) }
            }
            _ => Slot::Passes,
        }
    }

    fn weighs(&self, series: &Series) -> Weighs {
        match &*series.metric.name {
            _ if series.metric.kind != Kind::Counter => Weighs::Nothing,
            name if name == self.settings.by => Weighs::Primary,
            name if name == self.settings.fallback => Weighs::Secondary,
            _ => Weighs::Nothing,
        }
    }

    /// Assigns the places again if it is time to, or if one is free. A consumer that loses its place ends its
    /// series.
    fn rank(&mut self, now: Timestamp) {
        let is_due = now >= self.next_ranking;
        if self.frozen.load(Ordering::Relaxed) || !(is_due || self.ranking.has_room()) {
            return;
        }
        self.ranking.rank();
        if is_due {
            self.ranking.fade();
            self.next_ranking = now + self.settings.interval;
        }
        for (_, slot) in self.slots.iter_mut() {
            if let Slot::Competitor(competitor) = slot
                && !self.ranking.owns(competitor.member)
                && let Some(own) = competitor.own.take()
            {
                self.out.end(own);
            }
        }
    }

    /// Sends a point where it belongs.
    fn send(&mut self, id: SeriesId, value: Value, window: Window) {
        let Self { registry, slots, ranking, sums, left_out, out, .. } = self;
        match slots.get_mut(id) {
            Some(Slot::Competitor(competitor)) => {
                let last = mem::replace(&mut competitor.last, value.steps());
                let until = mem::replace(&mut competitor.until, window.end);
                if ranking.owns(competitor.member) {
                    let (own, value) = competitor.own_point(value, last, until, registry);
                    out.push(own, value);
                } else if let Some(sum) = competitor.sum {
                    sums.add(sum, value.steps().saturating_sub(last), until);
                } else {
                    *left_out += 1;
                }
            }
            Some(Slot::Partial { sum, last, until }) => {
                let last = mem::replace(last, value.steps());
                let until = mem::replace(until, window.end);
                sums.add(*sum, value.steps().saturating_sub(last), until);
            }
            _ => out.push(id, value),
        }
    }

    fn end(&mut self, id: SeriesId) {
        self.out.end(id);
        match self.slots.remove(id) {
            Some(Slot::Competitor(competitor)) => {
                competitor.own.into_iter().for_each(|own| self.out.end(own));
                self.ranking.leave(competitor.member);
                competitor.sum.into_iter().for_each(|sum| self.sums.release(sum, &mut self.out));
            }
            Some(Slot::Beside { sum } | Slot::Partial { sum, .. }) => self.sums.release(sum, &mut self.out),
            Some(Slot::Passes) | None => {}
        }
    }
}

impl Competitor {
    /// Its point in the series of its own. That begins at step `last` and time `until`, if it is not open
    /// yet.
    fn own_point(
        &mut self,
        value: Value,
        last: u64,
        until: Timestamp,
        registry: &Registry,
    ) -> (SeriesId, Value) {
        let own = *self.own.get_or_insert_with(|| {
            self.base = last;
            registry.open(SeriesSpec {
                metric: self.series.metric_id,
                resource: self.series.resource.clone(),
                domain: self.series.domain.clone(),
                consumer: self.series.consumer.clone(),
                attributes: self.series.attributes.clone(),
                start: until,
            })
        });
        match self.series.metric.kind {
            Kind::Counter => (own, Value::of_steps(value.steps().saturating_sub(self.base))),
            Kind::Gauge => (own, value),
        }
    }
}

impl Transform for Top {
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
            self.sums.push_changed(&mut self.out);
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

#[cfg(test)]
mod tests;
