//! What each consumer received of one domain's energy in all, and the series that publish it. `account.rs`
//! closes the windows.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::metric::MICROJOULE;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, Registry, Resource, Series, SeriesId, SeriesSpec,
    Timestamp, Value, Window,
};

use super::closed_window::ClosedWindow;
use super::consumers::Consumers;
use super::division::Division;
use super::metrics::Metrics;
use super::spread::{Spread, WindowSpread};
use crate::model::PowerModel;

/// How often the interval of a consumer's energy is published while it changes, by how much of itself it
/// must have changed, and the smallest half width that is published, J. Short processes have none then.
const INTERVALS_EVERY: Duration = Duration::from_secs(5);
const LEAST_CHANGE: f64 = 0.05;
const LEAST_HALF_WIDTH: f64 = 1e-3;

/// One domain's totals and series.
#[derive(Debug)]
pub(crate) struct Totals {
    domain: Arc<Domain>,
    resource: Resource,
    metrics: Metrics,
    /// By the consumer's slot.
    consumers: Vec<ConsumerTotal>,
    idle: (SeriesId, u64),
    unattributed: (SeriesId, u64),
    residual: SeriesId,
    /// The agent's own energy once more.
    agent: Option<SeriesId>,
    static_power: SeriesId,
    static_error: SeriesId,
    /// Error and use of each of the model's candidates.
    candidates: Vec<[SeriesId; 2]>,
    /// The interval of `idle`.
    idle_spread: Spread,
    idle_uncertainty: SeriesId,
    /// The last window that was closed, and how many were.
    last: Window,
    closed: u32,
}

/// A consumer's series of this domain, with their values in microjoules.
#[derive(Clone, Debug, Default)]
struct ConsumerTotal {
    energy: Option<(SeriesId, u64)>,
    /// The static part of it.
    at_idle: Option<(SeriesId, u64)>,
    interval: Interval,
}

/// The interval of a consumer's energy.
#[derive(Clone, Debug, Default)]
struct Interval {
    spread: Spread,
    series: Option<SeriesId>,
    /// The half width that was published last, J, and when.
    published: f64,
    published_at: Timestamp,
}

impl Interval {
    /// The half width, if it is to be published: it is large enough, and has changed enough.
    fn news(&mut self) -> Option<f64> {
        let half_width = self.spread.half_width();
        let change = (half_width - self.published).abs();
        if half_width < LEAST_HALF_WIDTH || change < LEAST_CHANGE * self.published {
            return None;
        }
        self.published = half_width;
        Some(half_width)
    }
}

impl Totals {
    /// Opens the series of `domain`, which `meter` measures.
    pub(crate) fn open(
        domain: &Arc<Domain>,
        meter: &Series,
        metrics: Metrics,
        model: &PowerModel,
        registry: &Registry,
    ) -> Self {
        let series = |metric, kind: Option<ConsumerKind>, weights: Option<&'static str>| {
            registry.open(SeriesSpec {
                domain: Some(domain.clone()),
                consumer: kind.map(|k| Arc::new(Consumer::closing(k))),
                attributes: weights.map(|w| Attribute::new("wattrace.weights", w)).into_iter().collect(),
                ..SeriesSpec::new(metric, meter.resource.clone(), meter.start)
            })
        };
        let of_candidate = |name| [metrics.error, metrics.in_use].map(|m| series(m, None, Some(name)));
        let candidates = model.candidates().map(|candidate| of_candidate(candidate.name)).collect();
        Self {
            consumers: Vec::new(),
            idle: (series(metrics.energy, Some(ConsumerKind::Idle), None), 0),
            unattributed: (series(metrics.energy, Some(ConsumerKind::Unattributed), None), 0),
            residual: series(metrics.residual, None, None),
            idle_spread: Spread::default(),
            idle_uncertainty: series(metrics.uncertainty, Some(ConsumerKind::Idle), None),
            last: Window::default(),
            closed: 0,
            agent: None,
            static_power: series(metrics.static_power, None, None),
            static_error: series(metrics.static_error, None, None),
            candidates,
            resource: meter.resource.clone(),
            domain: domain.clone(),
            metrics,
        }
    }

    /// The domain's name and origin.
    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The domain.
    pub(crate) fn into_domain(self) -> Arc<Domain> {
        self.domain
    }

    /// Adds a window's shares to the totals, and publishes those that changed. Shares of threads are parts of
    /// their processes' and do not count again.
    pub(crate) fn charge(
        &mut self,
        closed: &ClosedWindow<'_>,
        division: &Division,
        known: &Consumers,
        registry: &Registry,
        out: &mut Batch,
    ) {
        let &ClosedWindow { window, energy, idle, unattributed, .. } = closed;
        (self.last, self.closed) = (window, self.closed.wrapping_add(1));
        let spread = WindowSpread::new(self.closed, closed, division);
        let Self { domain, resource, metrics, consumers, agent, .. } = self;
        let open = |metric, consumer| {
            let spec = SeriesSpec::new(metric, resource.clone(), window.start);
            registry.open(SeriesSpec { domain: Some(domain.clone()), consumer, ..spec })
        };
        let mut attributed = 0;
        let shares = division.shares().map(|share| (share, true));
        for ((slot, share), counts) in shares.chain(division.thread_shares().map(|share| (share, false))) {
            if share.sum() == 0 {
                continue;
            }
            if consumers.len() <= slot {
                consumers.resize_with(slot + 1, ConsumerTotal::default);
            }
            let (total, entry) = (&mut consumers[slot], known.get(slot));
            let consumer = || entry.map(|entry| entry.consumer.clone());
            let (series, sum) = total.energy.get_or_insert_with(|| (open(metrics.energy, consumer()), 0));
            *sum += share.sum();
            attributed += if counts { share.sum() } else { 0 };
            out.push(*series, Value::of_steps(*sum));
            let interval = &mut total.interval;
            interval.spread.add(&spread, share);
            if interval.published_at == Timestamp::default() {
                interval.published_at = window.end;
            } else if window.end.since(interval.published_at) >= INTERVALS_EVERY {
                interval.published_at = window.end;
                if let Some(half_width) = interval.news() {
                    let open = || open(metrics.uncertainty, consumer());
                    out.push(*interval.series.get_or_insert_with(open), Value::of_gauge(half_width));
                }
            }
            if entry.is_some_and(|entry| entry.is_agent) {
                let series = *agent.get_or_insert_with(|| open(metrics.agent, None));
                out.push(series, Value::of_steps(*sum));
            }
            if share.at_idle > 0 {
                let (series, sum) =
                    total.at_idle.get_or_insert_with(|| (open(metrics.static_energy, consumer()), 0));
                *sum += share.at_idle;
                out.push(*series, Value::of_steps(*sum));
            }
        }
        for ((series, sum), part) in [(&mut self.idle, idle), (&mut self.unattributed, unattributed)] {
            *sum += part;
            out.push(*series, Value::of_steps(*sum));
        }
        self.idle_spread.add_static(&spread);
        out.push(self.idle_uncertainty, Value::of_gauge(self.idle_spread.half_width()));
        let residual = energy as i128 - (attributed as i128 + idle as i128 + unattributed as i128);
        out.push(self.residual, Value::of_gauge(residual as f64 * MICROJOULE));
    }

    /// Publishes what the model has learnt.
    pub(crate) fn publish_model(&self, model: &PowerModel, out: &mut Batch) {
        let known = [(self.static_power, model.static_power()), (self.static_error, model.static_error())];
        for (series, watts) in known {
            watts.iter().for_each(|&watts| out.push(series, Value::of_gauge(watts)));
        }
        for (candidate, [error, in_use]) in model.candidates().zip(&self.candidates) {
            if let Some(mean) = candidate.error {
                out.push(*error, Value::of_gauge(mean));
            }
            out.push(*in_use, Value::of_gauge(f64::from(candidate.in_use)));
        }
    }

    /// Publishes the interval of every consumer's energy as it is now.
    pub(crate) fn publish_intervals(&mut self, registry: &Registry, out: &mut Batch) {
        for slot in 0..self.consumers.len() {
            self.publish_interval(slot, registry, out);
        }
    }

    fn publish_interval(&mut self, slot: usize, registry: &Registry, out: &mut Batch) {
        let Some(ConsumerTotal { energy: Some((energy, _)), interval, .. }) = self.consumers.get_mut(slot)
        else {
            return;
        };
        let Some(half_width) = interval.news() else { return };
        let Some(energy) = registry.get(*energy) else { return };
        let series = *interval.series.get_or_insert_with(|| {
            registry.open(SeriesSpec {
                domain: energy.domain.clone(),
                consumer: energy.consumer.clone(),
                ..SeriesSpec::new(self.metrics.uncertainty, energy.resource.clone(), energy.start)
            })
        });
        out.begin(self.last);
        out.push(series, Value::of_gauge(half_width));
    }

    /// The consumer in `slot` gets nothing more.
    pub(crate) fn end_consumer(&mut self, slot: usize, registry: &Registry, out: &mut Batch) {
        self.publish_interval(slot, registry, out);
        if let Some(total) = self.consumers.get_mut(slot) {
            let total = std::mem::take(total);
            let counters = total.energy.into_iter().chain(total.at_idle).map(|(series, _)| series);
            counters.chain(total.interval.series).for_each(|series| out.end(series));
        }
    }

    /// Ends all series.
    pub(crate) fn end(&mut self, registry: &Registry, out: &mut Batch) {
        for slot in 0..self.consumers.len() {
            self.end_consumer(slot, registry, out);
        }
        let own = [self.idle.0, self.unattributed.0, self.residual, self.static_power, self.static_error];
        own.into_iter()
            .chain(self.agent)
            .chain([self.idle_uncertainty])
            .chain(self.candidates.iter().flatten().copied())
            .for_each(|s| out.end(s));
    }
}
