//! The terms that the power model takes power to be a sum of, computed from the amounts that are counted.
//! `learner.rs` fits their coefficients.

use super::constants::MAX_GHZ;
use crate::amounts::Amounts;

/// A term of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Feature {
    /// Time passes: static power.
    Always,
    /// CPU time, s.
    Time,
    /// CPU time while the other CPU of the core was idle, s.
    Alone,
    /// CPU time while the other CPU of the core was busy, s.
    Shared,
    /// 10⁹ cycles.
    Cycles,
    /// 10⁹ cycles while the other CPU of the core was idle.
    CyclesAlone,
    /// 10⁹ cycles while it was busy: two threads share the cost of a core's clock.
    CyclesShared,
    /// `CyclesAlone` · (10⁹ cycles per second)²: voltage rises with frequency, and power with its square.
    FastAlone,
    /// `CyclesShared` · (10⁹ cycles per second)².
    FastShared,
    /// 10⁹ instructions.
    Instructions,
    /// `Instructions` · (10⁹ cycles per second)².
    InstructionsFast,
    /// 10⁶ misses of the last-level cache.
    CacheMisses,
    /// Time in which anything ran on the package, s: where nothing runs it sleeps. No consumer's alone:
    /// `awake.rs` divides it.
    Awake,
}

/// Number of features.
pub(super) const FEATURES: usize = 13;

/// A value of each [`Feature`].
pub(super) type Features = [f64; FEATURES];

/// Watts per unit of each feature's rate, or joules per unit of the feature.
pub(super) type Coefficients = Features;

/// The features of a consumer's amounts, but for [`Feature::Awake`]. Homogeneous: half the amounts give half
/// the features.
pub(super) fn features(amounts: &Amounts) -> Features {
    let [ns, shared_ns, cycles, instructions, misses] = amounts.map(|amount| amount as f64);
    let (time, shared) = (ns * 1e-9, shared_ns.min(ns) * 1e-9);
    let (cycles, instructions) = (cycles * 1e-9, instructions * 1e-9);
    // Cycles are not counted separately while the core is shared: the clock is taken to be the same then.
    let (ghz, shared_part) = if ns > 0.0 { (cycles / time, shared / time) } else { (0.0, 0.0) };
    let ghz = ghz.min(MAX_GHZ);
    let (cycles_shared, fast) = (cycles * shared_part, ghz * ghz);
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
        0.0,
    ]
}

/// The power that `coefficients` predict for features per second.
pub(super) fn watts(coefficients: &Coefficients, rates: &Features) -> f64 {
    coefficients.iter().zip(rates).map(|(c, rate)| c * rate).sum()
}

/// The dynamic power that `coefficients` predict for features per second.
pub(super) fn dynamic_watts(coefficients: &Coefficients, rates: &Features) -> f64 {
    coefficients.iter().zip(rates).skip(1).map(|(c, rate)| c * rate).sum()
}

/// The dynamic energy that `coefficients` predict for features, in whole picojoules.
pub(super) fn picojoules(coefficients: &Coefficients, features: &Features) -> u64 {
    (dynamic_watts(coefficients, features) * 1e12) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_no_cpu_has_is_not_believed() {
        let fast = |cycles: u64| features(&[1_000_000_000, 0, cycles, 0, 0])[Feature::FastAlone as usize];
        assert!((fast(3_000_000_000) - 27.0).abs() < 1e-9, "{}", fast(3_000_000_000));
        assert!((fast(24_000_000_000) - 24.0 * 64.0).abs() < 1e-9, "{}", fast(24_000_000_000));
    }
}
