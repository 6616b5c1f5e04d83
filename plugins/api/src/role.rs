//! What a series stands for, so that nobody compares metric names: the registry decides it once, when the
//! series is opened ([`crate::Series::role`]).

use crate::metric::{
    CONSUMER_CORE_TIME, CONSUMER_COUNTS, CONSUMER_CPU_TIME, CONSUMER_ENERGY, CONSUMER_ENERGY_UNCERTAINTY,
    CONSUMER_GPU_MEMORY, CONSUMER_GPU_TIME, CONSUMER_SHARED_TIME, CONSUMER_WEIGHTED_CYCLES, DOMAIN_RESIDUAL,
    DOMAIN_STATIC_ERROR, DOMAIN_STATIC_POWER, HW_ENERGY, HW_HOST_ENERGY, Metric,
};

/// No CPU is clocked faster, in GHz: where more cycles were counted, they were not counted over the same time
/// as CPU time, and the square of the clock must not make a huge power of them.
const MAX_GHZ: f64 = 8.0;

/// What a series stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The energy that the meter of a domain counts.
    Meter,
    /// Energy of a domain that is attributed to a consumer, or to a closing entry.
    Energy,
    /// Half the width of the 95 % interval of the same consumer's and domain's energy; a gauge.
    Uncertainty,
    /// A consumer's use of hardware.
    Usage(Usage),
    /// The power that a domain draws at no load; a gauge.
    StaticPower,
    /// The standard error of the same domain's static power; a gauge.
    StaticError,
    /// What the books of a domain left over in a window.
    Residual,
    /// Anything else.
    Other,
}

/// A kind of use of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// CPU time per package, ns.
    CpuTime,
    /// The part of the CPU time in which the CPU that shares the core was busy too, ns.
    SharedTime,
    /// The CPU time once more, per core, ns.
    CoreTime,
    /// CPU cycles.
    Cycles,
    /// CPU cycles, each weighted by the square of the clock in GHz at which it ran.
    WeightedCycles,
    /// Retired instructions.
    Instructions,
    /// Misses of the last-level cache.
    CacheMisses,
    /// Time of a GPU's engines, ns.
    GpuTime,
    /// Memory held on a GPU, bytes; a gauge.
    GpuMemory,
}

impl Role {
    /// The role of a series of `metric`, given whether it names a domain and a consumer.
    pub(crate) fn of(metric: &Metric, has_domain: bool, has_consumer: bool) -> Self {
        let name = &*metric.name;
        match (has_domain, has_consumer) {
            (true, false) if name == HW_ENERGY.name || name == HW_HOST_ENERGY.name => Role::Meter,
            (true, false) if name == DOMAIN_RESIDUAL.name => Role::Residual,
            (true, false) if name == DOMAIN_STATIC_POWER.name => Role::StaticPower,
            (true, false) if name == DOMAIN_STATIC_ERROR.name => Role::StaticError,
            (true, true) if name == CONSUMER_ENERGY.name => Role::Energy,
            (true, true) if name == CONSUMER_ENERGY_UNCERTAINTY.name => Role::Uncertainty,
            (false, true) => Usage::of(name).map_or(Role::Other, Role::Usage),
            _ => Role::Other,
        }
    }
}

/// Cycles weighted by the square of the clock in GHz, given `cycles` that ran within `ns`: power rises with
/// the square of voltage, and voltage with the clock. Exact where the clock did not change meanwhile.
pub fn weighted_cycles(cycles: u64, ns: u64) -> u64 {
    let ghz = (cycles as f64 / ns.max(1) as f64).min(MAX_GHZ);
    (cycles as f64 * ghz * ghz) as u64
}

impl Usage {
    fn of(metric: &str) -> Option<Self> {
        let [cycles, instructions, cache_misses] = &CONSUMER_COUNTS;
        let known = [
            (&CONSUMER_CPU_TIME, Usage::CpuTime),
            (&CONSUMER_SHARED_TIME, Usage::SharedTime),
            (&CONSUMER_CORE_TIME, Usage::CoreTime),
            (cycles, Usage::Cycles),
            (&CONSUMER_WEIGHTED_CYCLES, Usage::WeightedCycles),
            (instructions, Usage::Instructions),
            (cache_misses, Usage::CacheMisses),
            (&CONSUMER_GPU_TIME, Usage::GpuTime),
            (&CONSUMER_GPU_MEMORY, Usage::GpuMemory),
        ];
        known.into_iter().find(|(known, _)| known.name == metric).map(|(_, usage)| usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_weighs_the_square_of_its_clock_and_a_clock_that_no_cpu_has_is_not_believed() {
        assert_eq!(weighted_cycles(3_000_000, 1_000_000), 27_000_000);
        assert_eq!(weighted_cycles(2_000_000, 1_000_000), 8_000_000);
        assert_eq!(weighted_cycles(24_000_000, 1_000_000), 24_000_000 * 64);
        assert_eq!(weighted_cycles(24_000_000, 0), 24_000_000 * 64);
        assert_eq!(weighted_cycles(0, 0), 0);
    }

    #[test]
    fn a_role_needs_the_metric_and_what_the_metric_is_about() {
        assert_eq!(Role::of(&HW_ENERGY, true, false), Role::Meter);
        assert_eq!(Role::of(&HW_HOST_ENERGY, true, false), Role::Meter);
        assert_eq!(Role::of(&HW_ENERGY, false, false), Role::Other, "no domain, no meter");
        assert_eq!(Role::of(&HW_ENERGY, true, true), Role::Other);
        assert_eq!(Role::of(&CONSUMER_ENERGY, true, true), Role::Energy);
        assert_eq!(Role::of(&CONSUMER_ENERGY_UNCERTAINTY, true, true), Role::Uncertainty);
        assert_eq!(Role::of(&DOMAIN_RESIDUAL, true, false), Role::Residual);
        assert_eq!(Role::of(&DOMAIN_STATIC_POWER, true, false), Role::StaticPower);
        assert_eq!(Role::of(&DOMAIN_STATIC_ERROR, true, false), Role::StaticError);
        assert_eq!(Role::of(&CONSUMER_CPU_TIME, false, true), Role::Usage(Usage::CpuTime));
        assert_eq!(Role::of(&CONSUMER_COUNTS[1], false, true), Role::Usage(Usage::Instructions));
        assert_eq!(Role::of(&CONSUMER_CPU_TIME, false, false), Role::Other);
    }
}
