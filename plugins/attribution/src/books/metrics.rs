//! The metrics that attribution publishes.

use wattrace_api::{Error, Metric, MetricId, Registry, ResultExt, Unit, metric};

/// The agent's own share, published even where the agent is not among the top consumers.
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
const ERROR: Metric = Metric::gauge(
    "wattrace.attribution.error",
    Unit::Count("1"),
    "Mean relative error of a domain's power as predicted from usage, by the kind of weights",
);
const IN_USE: Metric = Metric::gauge(
    "wattrace.attribution.in_use",
    Unit::Count("1"),
    "1 for the kind of weights that divides a domain's energy now, 0 for the others",
);

/// Their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metrics {
    pub(crate) energy: MetricId,
    pub(crate) static_energy: MetricId,
    pub(crate) uncertainty: MetricId,
    pub(crate) residual: MetricId,
    pub(crate) agent: MetricId,
    pub(crate) static_power: MetricId,
    pub(crate) static_error: MetricId,
    pub(crate) error: MetricId,
    pub(crate) in_use: MetricId,
}

impl Metrics {
    /// # Errors
    /// Fatal if another plugin declares one of them differently.
    pub(crate) fn declare(registry: &Registry) -> Result<Self, Error> {
        let id = |m| registry.metric(m).or_fatal();
        Ok(Self {
            energy: id(&metric::CONSUMER_ENERGY)?,
            static_energy: id(&STATIC_ENERGY)?,
            uncertainty: id(&metric::CONSUMER_ENERGY_UNCERTAINTY)?,
            residual: id(&metric::DOMAIN_RESIDUAL)?,
            agent: id(&AGENT_ENERGY)?,
            static_power: id(&metric::DOMAIN_STATIC_POWER)?,
            static_error: id(&metric::DOMAIN_STATIC_ERROR)?,
            error: id(&ERROR)?,
            in_use: id(&IN_USE)?,
        })
    }
}
