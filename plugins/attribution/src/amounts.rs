//! What is counted of a consumer's use of hardware, in whole numbers. Both halves of attribution use it: the
//! books add amounts up, and the power model weighs them.

use wattrace_api::Usage;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Quantity {
    /// Nanoseconds.
    Time,
    /// The part of them in which the other CPU of the core was busy.
    Shared,
    Cycles,
    Instructions,
    /// Misses of the last-level cache.
    CacheMisses,
    /// Cycles, each weighted by the square of the clock in GHz at which it ran.
    WeightedCycles,
}

impl Quantity {
    /// The quantity that `usage` counts on a CPU package; `None` if it is not counted per package.
    pub(crate) fn on_package(usage: Usage) -> Option<Self> {
        match usage {
            Usage::CpuTime => Some(Quantity::Time),
            Usage::SharedTime => Some(Quantity::Shared),
            Usage::Cycles => Some(Quantity::Cycles),
            Usage::Instructions => Some(Quantity::Instructions),
            Usage::CacheMisses => Some(Quantity::CacheMisses),
            Usage::WeightedCycles => Some(Quantity::WeightedCycles),
            Usage::CoreTime | Usage::GpuTime | Usage::GpuMemory => None,
        }
    }
}

/// An amount of each [`Quantity`].
pub(crate) type Amounts = [u64; 6];
