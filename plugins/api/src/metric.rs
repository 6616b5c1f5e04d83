//! What is measured: a named, typed quantity with a UCUM unit, declared once. The metrics that every agent
//! has are declared here, so that a name stands in one place; plugins add their own.

use std::borrow::Cow;

use crate::unit::Unit;

/// How a metric's values behave over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Cumulative since the series' start and never decreasing. Its values are whole numbers of steps
    /// ([`Metric::step`]), so that sums are exact.
    Counter,
    /// A value that holds at the window's end. Its values are floating-point numbers of the unit.
    Gauge,
}

impl Kind {
    /// `counter` or `gauge`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// A metric's declaration.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Dotted name, in OpenTelemetry's style.
    pub name: Cow<'static, str>,
    /// Unit of the values as outputs show them.
    pub unit: Unit,
    /// Counter or gauge.
    pub kind: Kind,
    /// For counters: units per step, `1e-6` for energy counted in microjoules. For gauges: 1.
    pub step: f64,
    /// One sentence for people.
    pub description: Cow<'static, str>,
}

impl Metric {
    /// A counter of whole steps of `step` units.
    pub const fn counter(name: &'static str, unit: Unit, step: f64, description: &'static str) -> Self {
        let (name, description) = (Cow::Borrowed(name), Cow::Borrowed(description));
        Self { name, unit, kind: Kind::Counter, step, description }
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, unit: Unit, description: &'static str) -> Self {
        let (name, description) = (Cow::Borrowed(name), Cow::Borrowed(description));
        Self { name, unit, kind: Kind::Gauge, step: 1.0, description }
    }

    /// `value` in the metric's unit: joules, seconds, …
    pub fn in_units(&self, value: Value) -> f64 {
        match self.kind {
            // Dividing by the reciprocal rounds once: 123456 µJ reads 0.123456 J, not 0.12345599999999999.
            Kind::Counter if self.step < 1.0 => value.steps() as f64 / (1.0 / self.step).round(),
            Kind::Counter => value.steps() as f64 * self.step,
            Kind::Gauge => value.gauge(),
        }
    }
}

/// A registered metric; cheap to compare. Given out by [`crate::Registry::metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricId(pub(crate) u32);

/// 64 bits whose meaning the metric's kind gives: steps of a counter, or a gauge's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(u64);

impl Value {
    /// A counter's value in steps.
    pub fn of_steps(steps: u64) -> Self {
        Self(steps)
    }
    /// A gauge's value.
    pub fn of_gauge(value: f64) -> Self {
        Self(value.to_bits())
    }
    /// Steps of a counter.
    pub fn steps(self) -> u64 {
        self.0
    }
    /// Number of a gauge.
    pub fn gauge(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Units per step of all energy counters: one microjoule. 64 bits of it last 58 years at 10 kW.
pub const MICROJOULE: f64 = 1e-6;
/// Units per step of all time counters: one nanosecond.
pub const NANOSECOND: f64 = 1e-9;

/// Energy a piece of hardware used. OpenTelemetry's `hw.energy`.
pub const HW_ENERGY: Metric = Metric::counter(
    "hw.energy",
    Unit::Joule,
    MICROJOULE,
    "Energy that a piece of hardware used, per energy domain",
);
/// Energy of the whole host, kept apart so that nothing is summed twice. OpenTelemetry's `hw.host.energy`.
pub const HW_HOST_ENERGY: Metric = Metric::counter(
    "hw.host.energy",
    Unit::Joule,
    MICROJOULE,
    "Energy that the whole host used, by a meter that covers all of it",
);
/// Energy attributed to a consumer, per domain.
pub const CONSUMER_ENERGY: Metric = Metric::counter(
    "wattrace.consumer.energy",
    Unit::Joule,
    MICROJOULE,
    "Energy attributed to a consumer, per energy domain",
);
/// How far [`CONSUMER_ENERGY`] may be off.
pub const CONSUMER_ENERGY_UNCERTAINTY: Metric = Metric::gauge(
    "wattrace.consumer.energy.uncertainty",
    Unit::Joule,
    "Half the width of the 95 % interval of wattrace.consumer.energy",
);
/// CPU time of a consumer, per package.
pub const CONSUMER_CPU_TIME: Metric = Metric::counter(
    "wattrace.consumer.cpu.time",
    Unit::Second,
    NANOSECOND,
    "Time that a consumer spent on CPUs, per CPU package",
);
/// Part of a consumer's CPU time.
pub const CONSUMER_SHARED_TIME: Metric = Metric::counter(
    "wattrace.consumer.cpu.shared.time",
    Unit::Second,
    NANOSECOND,
    "Part of wattrace.consumer.cpu.time in which the CPU that shares the core was busy too",
);
/// A consumer's CPU time once more, per core, where a meter asks for it.
pub const CONSUMER_CORE_TIME: Metric = Metric::counter(
    "wattrace.consumer.core.time",
    Unit::Second,
    NANOSECOND,
    "wattrace.consumer.cpu.time per core instead of per CPU package",
);
/// What hardware counters count for a consumer: cycles, instructions, misses of the last-level cache.
pub static CONSUMER_COUNTS: [Metric; 3] = [
    Metric::counter(
        "wattrace.consumer.cpu.cycles",
        Unit::Count("{cycle}"),
        1.0,
        "CPU cycles that a consumer used, per CPU package",
    ),
    Metric::counter(
        "wattrace.consumer.cpu.instructions",
        Unit::Count("{instruction}"),
        1.0,
        "Instructions that a consumer retired, per CPU package",
    ),
    Metric::counter(
        "wattrace.consumer.cpu.cache_misses",
        Unit::Count("{miss}"),
        1.0,
        "Misses of the last-level cache that a consumer caused, per CPU package",
    ),
];
/// What a consumer's cycles cost: voltage rises with the clock, and power with the square of voltage.
pub const CONSUMER_WEIGHTED_CYCLES: Metric = Metric::counter(
    "wattrace.consumer.cpu.weighted_cycles",
    Unit::Count("{cycle}"),
    1.0,
    "wattrace.consumer.cpu.cycles, each cycle weighted by the square of the clock in GHz at which it ran",
);
/// Use of a device by a consumer: for a GPU, busy time of its engines. Its unit of share; engines that work
/// at the same time add up.
pub const CONSUMER_GPU_TIME: Metric = Metric::counter(
    "wattrace.consumer.gpu.time",
    Unit::Second,
    NANOSECOND,
    "Time that a GPU's engines worked for a consumer, per GPU",
);
/// Memory of a GPU that a consumer holds. Holding it is what makes a consumer the holder of an idle GPU.
pub const CONSUMER_GPU_MEMORY: Metric =
    Metric::gauge("wattrace.consumer.gpu.memory", Unit::Byte, "Memory of a GPU that a consumer holds");
/// Power that a domain draws at no load.
pub const DOMAIN_STATIC_POWER: Metric = Metric::gauge(
    "wattrace.domain.static.power",
    Unit::Watt,
    "Power that a domain draws at no load: given, learnt, or expected before it is learnt",
);
/// How far [`DOMAIN_STATIC_POWER`] may be off.
pub const DOMAIN_STATIC_ERROR: Metric = Metric::gauge(
    "wattrace.domain.static.error",
    Unit::Watt,
    "Standard error of wattrace.domain.static.power; zero where that is given",
);
/// What closing the books left over in a window; zero unless the agent has a bug.
pub const DOMAIN_RESIDUAL: Metric = Metric::gauge(
    "wattrace.domain.residual",
    Unit::Joule,
    "Measured minus attributed, idle and unattributed energy over the last window; zero when the books close",
);
