//! How much somebody used, and what a model makes of it: amounts are whole numbers as counted, features are
//! what power is taken to be a sum of. `learner.rs` fits the features' coefficients.

use wattrace_api::metric::{CONSUMER_COUNTS, CONSUMER_CPU_TIME, CONSUMER_SHARED_TIME};

/// What is counted of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Quantity {
    /// Nanoseconds.
    Time,
    /// The part of them in which the other CPU of the core was busy.
    Shared,
    Cycles,
    Instructions,
    /// Of the last-level cache.
    Misses,
}

impl Quantity {
    /// The quantity that a metric of usage tells, on packages.
    pub(crate) fn of(metric: &str) -> Option<Self> {
        let [cycles, instructions, misses] = &CONSUMER_COUNTS;
        let told = [
            (&CONSUMER_CPU_TIME, Quantity::Time),
            (&CONSUMER_SHARED_TIME, Quantity::Shared),
            (cycles, Quantity::Cycles),
            (instructions, Quantity::Instructions),
            (misses, Quantity::Misses),
        ];
        told.into_iter().find(|(m, _)| m.name == metric).map(|(_, quantity)| quantity)
    }
}

/// By [`Quantity`].
pub(crate) type Amounts = [u64; 5];

/// What power may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Feature {
    /// Time passes: static power.
    Always,
    /// CPU time, s.
    Time,
    /// CPU time while the other CPU of the core was idle, and while it was busy, s.
    Alone,
    Shared,
    /// 10⁹ cycles.
    Cycles,
    /// Those while the other CPU of the core was idle, and while it was busy: two threads share what a core's
    /// clock costs.
    CyclesAlone,
    CyclesShared,
    /// The same · (cycles per second)², since voltage rises with frequency and power with its square.
    FastAlone,
    FastShared,
    /// 10⁹ instructions.
    Instructions,
    /// Instructions · (cycles per second)².
    InstructionsFast,
    /// 10⁶ misses.
    Misses,
}

pub(crate) const FEATURES: usize = 12;

/// By [`Feature`].
pub(crate) type Features = [f64; FEATURES];

/// What a user's amounts add to its domain's features. Homogeneous: half the amounts, half the features.
pub(crate) fn features(amounts: &Amounts) -> Features {
    let [ns, shared_ns, cycles, instructions, misses] = amounts.map(|amount| amount as f64);
    let (time, shared) = (ns * 1e-9, shared_ns.min(ns) * 1e-9);
    let (cycles, instructions) = (cycles * 1e-9, instructions * 1e-9);
    // Cycles are not counted apart: they are taken to pass as fast beside another thread as alone.
    let (speed, beside) = if ns > 0.0 { (cycles / time, shared / time) } else { (0.0, 0.0) };
    let (cycles_shared, fast) = (cycles * beside, speed * speed);
    [
        0.0,
        time,
        time - shared,
        shared,
        cycles,
        cycles - cycles_shared,
        cycles_shared,
        (cycles - cycles_shared) * fast,
        cycles_shared * fast,
        instructions,
        instructions * fast,
        misses * 1e-6,
    ]
}
