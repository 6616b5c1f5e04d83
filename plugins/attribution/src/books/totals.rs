//! What each consumer received of one domain's energy in all, and the series that publish it. `account.rs`
//! closes the windows.

use std::sync::Arc;

use wattrace_api::metric::MICROJOULE;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, Registry, Resource, Series, SeriesId, SeriesSpec,
    Value, Window,
};

use super::consumers::Consumers;
use super::division::Division;
use super::metrics::Metrics;
use crate::model::PowerModel;

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
    /// Error and use of each of the model's candidates.
    candidates: Vec<[SeriesId; 2]>,
}

/// A window that is closed: its energy in microjoules, and the parts of it that are no consumer's.
pub(crate) struct ClosedWindow {
    pub(crate) window: Window,
    pub(crate) energy: u64,
    pub(crate) idle: u64,
    pub(crate) unattributed: u64,
}

/// A consumer's series of this domain, with their values in microjoules.
#[derive(Clone, Debug, Default)]
struct ConsumerTotal {
    energy: Option<(SeriesId, u64)>,
    /// The static part of it.
    at_idle: Option<(SeriesId, u64)>,
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
            agent: None,
            static_power: series(metrics.static_power, None, None),
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
        closed: &ClosedWindow,
        division: &Division,
        known: &Consumers,
        registry: &Registry,
        out: &mut Batch,
    ) {
        let &ClosedWindow { window, energy, idle, unattributed } = closed;
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
        let residual = energy as i128 - (attributed as i128 + idle as i128 + unattributed as i128);
        out.push(self.residual, Value::of_gauge(residual as f64 * MICROJOULE));
    }

    /// Publishes what the model has learnt.
    pub(crate) fn publish_model(&self, model: &PowerModel, out: &mut Batch) {
        if let Some(watts) = model.static_power() {
            out.push(self.static_power, Value::of_gauge(watts));
        }
        for (candidate, [error, in_use]) in model.candidates().zip(&self.candidates) {
            if let Some(mean) = candidate.error {
                out.push(*error, Value::of_gauge(mean));
            }
            out.push(*in_use, Value::of_gauge(f64::from(candidate.in_use)));
        }
    }

    /// The consumer in `slot` gets nothing more.
    pub(crate) fn end_consumer(&mut self, slot: usize, out: &mut Batch) {
        if let Some(total) = self.consumers.get_mut(slot) {
            let total = std::mem::take(total);
            total.energy.into_iter().chain(total.at_idle).for_each(|(series, _)| out.end(series));
        }
    }

    /// Ends all series.
    pub(crate) fn end(&mut self, out: &mut Batch) {
        for slot in 0..self.consumers.len() {
            self.end_consumer(slot, out);
        }
        let own = [self.idle.0, self.unattributed.0, self.residual, self.static_power];
        own.into_iter()
            .chain(self.agent)
            .chain(self.candidates.iter().flatten().copied())
            .for_each(|s| out.end(s));
    }
}
