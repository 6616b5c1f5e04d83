//! What everybody has got of one domain's energy in all, and the series that tell it. `account.rs` works out
//! each window's parts.

use std::sync::Arc;

use wattrace_api::metric::MICROJOULE;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, Error, Metric, MetricId, Registry, Resource, ResultExt,
    SeriesId, SeriesSpec, Timestamp, Unit, Value, Window, metric,
};

use crate::account::Context;
use crate::model::Model;

/// What tracing costs in energy.
pub(crate) const AGENT_ENERGY: Metric = Metric::counter(
    "wattrace.agent.energy",
    Unit::Joule,
    metric::MICROJOULE,
    "Energy attributed to the agent itself, per energy domain; part of wattrace.consumer.energy",
);
const STATIC_ENERGY: Metric = Metric::counter(
    "wattrace.consumer.energy.static",
    Unit::Joule,
    metric::MICROJOULE,
    "Part of wattrace.consumer.energy that the hardware uses at no load, where the policy is to share it out",
);
const STATIC_POWER: Metric = Metric::gauge(
    "wattrace.domain.static.power",
    Unit::Watt,
    "Power that a domain draws at no load, given or learnt",
);
const ERROR: Metric = Metric::gauge(
    "wattrace.attribution.error",
    Unit::Count("1"),
    "Mean relative error of a domain's power as foretold from usage, by what energy may be divided by",
);
const IN_USE: Metric = Metric::gauge(
    "wattrace.attribution.in_use",
    Unit::Count("1"),
    "1 for what a domain's energy is divided by now, 0 for what it might be divided by",
);

/// The metrics that attribution declares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metrics {
    energy: MetricId,
    static_energy: MetricId,
    residual: MetricId,
    agent: MetricId,
    static_power: MetricId,
    error: MetricId,
    in_use: MetricId,
}

impl Metrics {
    pub(crate) fn declare(registry: &Registry) -> Result<Self, Error> {
        let id = |m| registry.metric(m).or_fatal();
        Ok(Self {
            energy: id(&metric::CONSUMER_ENERGY)?,
            static_energy: id(&STATIC_ENERGY)?,
            residual: id(&metric::DOMAIN_RESIDUAL)?,
            agent: id(&AGENT_ENERGY)?,
            static_power: id(&STATIC_POWER)?,
            error: id(&ERROR)?,
            in_use: id(&IN_USE)?,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Ledger {
    domain: Arc<Domain>,
    resource: Resource,
    metrics: Metrics,
    /// By slot of the tenant.
    shares: Vec<Share>,
    idle: (SeriesId, u64),
    unattributed: (SeriesId, u64),
    residual: SeriesId,
    /// The agent's own part once more, so that it is told even where the agent is not among the top
    /// consumers.
    agent: Option<SeriesId>,
    static_power: SeriesId,
    /// Error and use of each of the model's candidates.
    bases: Vec<[SeriesId; 2]>,
}

/// A window's energy in microjoules, and what of it is no consumer's.
pub(crate) struct Closed {
    pub(crate) window: Window,
    pub(crate) energy: u64,
    pub(crate) idle: u64,
    pub(crate) unattributed: u64,
}

/// A tenant's part in the domain, in microjoules.
#[derive(Clone, Debug, Default)]
struct Share {
    all: Option<(SeriesId, u64)>,
    /// Of these, the static part.
    fixed: Option<(SeriesId, u64)>,
}

impl Ledger {
    pub(crate) fn open(
        domain: Arc<Domain>,
        resource: Resource,
        start: Timestamp,
        metrics: Metrics,
        model: &Model,
        registry: &Registry,
    ) -> Self {
        let series = |metric, kind: Option<ConsumerKind>, weights: Option<&'static str>| {
            registry.open(SeriesSpec {
                domain: Some(domain.clone()),
                consumer: kind.map(|k| Arc::new(Consumer::closing(k))),
                attributes: weights.map(|w| Attribute::new("wattrace.weights", w)).into_iter().collect(),
                ..SeriesSpec::new(metric, resource.clone(), start)
            })
        };
        let told = |metric, basis| series(metric, None, Some(basis));
        let bases = model
            .candidates()
            .iter()
            .map(|c| [metrics.error, metrics.in_use].map(|m| told(m, c.basis.name())));
        Self {
            shares: Vec::new(),
            idle: (series(metrics.energy, Some(ConsumerKind::Idle), None), 0),
            unattributed: (series(metrics.energy, Some(ConsumerKind::Unattributed), None), 0),
            residual: series(metrics.residual, None, None),
            agent: None,
            static_power: series(metrics.static_power, None, None),
            bases: bases.collect(),
            resource: resource.clone(),
            domain: domain.clone(),
            metrics,
        }
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Charges a window: to each slot of `parts` its dynamic and static microjoules, and the rest. `of_which`
    /// are parts of these parts: those of threads.
    pub(crate) fn charge(
        &mut self,
        closed: &Closed,
        parts: impl Iterator<Item = (usize, (u64, u64))>,
        of_which: impl Iterator<Item = (usize, (u64, u64))>,
        context: Context<'_>,
        out: &mut Batch,
    ) {
        let &Closed { window, energy, idle, unattributed } = closed;
        let Self { domain, resource, metrics, shares, agent, .. } = self;
        let open = |metric, consumer| {
            let spec = SeriesSpec::new(metric, resource.clone(), window.start);
            context.registry.open(SeriesSpec { domain: Some(domain.clone()), consumer, ..spec })
        };
        let mut attributed = 0;
        let parts = parts.map(|part| (part, true)).chain(of_which.map(|part| (part, false)));
        for ((slot, (dynamic, fixed)), counts) in parts {
            if dynamic + fixed == 0 {
                continue;
            }
            if shares.len() <= slot {
                shares.resize_with(slot + 1, Share::default);
            }
            let (share, tenant) = (&mut shares[slot], context.tenants.get(slot));
            let consumer = || tenant.map(|t| t.consumer.clone());
            let (series, sum) = share.all.get_or_insert_with(|| (open(metrics.energy, consumer()), 0));
            *sum += dynamic + fixed;
            attributed += if counts { dynamic + fixed } else { 0 };
            out.push(*series, Value::of_steps(*sum));
            if tenant.is_some_and(|tenant| tenant.is_agent) {
                let series = *agent.get_or_insert_with(|| open(metrics.agent, None));
                out.push(series, Value::of_steps(*sum));
            }
            if fixed > 0 {
                let (series, sum) =
                    share.fixed.get_or_insert_with(|| (open(metrics.static_energy, consumer()), 0));
                *sum += fixed;
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

    /// Tells what has been learnt.
    pub(crate) fn tell_model(&self, model: &Model, out: &mut Batch) {
        if let Some(watts) = model.static_watts() {
            out.push(self.static_power, Value::of_gauge(watts));
        }
        for (candidate, [error, in_use]) in model.candidates().iter().zip(&self.bases) {
            if let Some(mean) = candidate.error() {
                out.push(*error, Value::of_gauge(mean));
            }
            out.push(*in_use, Value::of_gauge(f64::from(candidate.basis == model.basis())));
        }
    }

    /// The tenant in `slot` gets nothing more.
    pub(crate) fn evict(&mut self, slot: usize, out: &mut Batch) {
        if let Some(share) = self.shares.get_mut(slot) {
            let share = std::mem::take(share);
            share.all.into_iter().chain(share.fixed).for_each(|(series, _)| out.end(series));
        }
    }

    /// Ends all series.
    pub(crate) fn end(&mut self, out: &mut Batch) {
        for slot in 0..self.shares.len() {
            self.evict(slot, out);
        }
        let own = [self.idle.0, self.unattributed.0, self.residual, self.static_power];
        own.into_iter()
            .chain(self.agent)
            .chain(self.bases.iter().flatten().copied())
            .for_each(|s| out.end(s));
    }
}
