//! The terms that the power model takes power to be a sum of, computed from the amounts that are counted.
//! `learner.rs` fits their coefficients.

use wattrace_api::weighted_cycles;

use super::constants::LEAST_EXECUTED;
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
    /// `CyclesAlone`, each weighted by the square of its clock in GHz: voltage rises with the clock, and
    /// power with its square.
    FastAlone,
    /// The same of `CyclesShared`.
    FastShared,
    /// 10⁹ instructions.
    Instructions,
    /// `Instructions`, weighted as the cycles are on average.
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
    let [ns, shared_ns, cycles, instructions, misses, weighted] = *amounts;
    // A source that does not weight cycles knows one clock: the mean.
    let weighted = if weighted > 0 { weighted } else { weighted_cycles(cycles, ns) };
    let giga = |amount: u64| amount as f64 * 1e-9;
    let (time, shared) = (giga(ns), giga(shared_ns.min(ns)));
    let (cycles, weighted, instructions) = (giga(cycles), giga(weighted), giga(instructions));
    // Cycles are not counted separately while the core is shared: the clock is taken to be the same then.
    let shared_part = if ns > 0 { shared / time } else { 0.0 };
    let square = if cycles > 0.0 { weighted / cycles } else { 0.0 };
    let (cycles_shared, weighted_shared) = (cycles * shared_part, weighted * shared_part);
    [
        0.0,
        time,
        time - shared,
        shared,
        cycles,
        cycles - cycles_shared,
        cycles_shared,
        weighted - weighted_shared,
        weighted_shared,
        instructions,
        instructions * square,
        misses as f64 * 1e-6,
        0.0,
    ]
}

/// How many terms `coefficients` have: those of 0 were not fitted.
pub(super) fn terms(coefficients: &Coefficients) -> f64 {
    coefficients.iter().filter(|coefficient| **coefficient > 0.0).count() as f64
}

/// The power that `coefficients` predict for features per second.
pub(super) fn watts(coefficients: &Coefficients, rates: &Features) -> f64 {
    coefficients.iter().zip(rates).map(|(c, rate)| c * rate).sum()
}

/// The dynamic power that `coefficients` predict for features per second.
pub(super) fn dynamic_watts(coefficients: &Coefficients, rates: &Features) -> f64 {
    coefficients.iter().zip(rates).skip(1).map(|(c, rate)| c * rate).sum()
}

/// The part of [`dynamic_watts`] that depends on what is executed: instructions and cache misses, or
/// `LEAST_EXECUTED` of what a core draws where that is more. The rest is drawn by any code that runs.
pub(super) fn executed_watts(coefficients: &Coefficients, rates: &Features) -> f64 {
    const EXECUTED: [Feature; 3] = [Feature::Instructions, Feature::InstructionsFast, Feature::CacheMisses];
    let watts = |feature: Feature| coefficients[feature as usize] * rates[feature as usize];
    let of_core = dynamic_watts(coefficients, rates) - watts(Feature::Awake);
    EXECUTED.map(watts).iter().sum::<f64>().max(LEAST_EXECUTED * of_core)
}

/// The mean square of the clock, GHz², at which cycles of these features ran; 0 without cycles.
pub(super) fn mean_square_clock(features: &Features) -> f64 {
    let [cycles, alone, shared] =
        [Feature::Cycles, Feature::FastAlone, Feature::FastShared].map(|f| features[f as usize]);
    if cycles > 0.0 { (alone + shared) / cycles } else { 0.0 }
}

/// The part of [`dynamic_watts`] that is drawn because cycles and instructions ran at another clock than one
/// of this `square`, GHz²: below 0 if it was lower.
pub(super) fn clock_watts(coefficients: &Coefficients, rates: &Features, square: f64) -> f64 {
    const FAST: [[Feature; 2]; 3] = [
        [Feature::FastAlone, Feature::CyclesAlone],
        [Feature::FastShared, Feature::CyclesShared],
        [Feature::InstructionsFast, Feature::Instructions],
    ];
    let watts = |[fast, all]: [Feature; 2]| {
        coefficients[fast as usize] * (rates[fast as usize] - square * rates[all as usize])
    };
    FAST.map(watts).iter().sum()
}

/// The dynamic energy that `coefficients` predict for features, pJ.
pub(super) fn picojoules(coefficients: &Coefficients, features: &Features) -> f64 {
    dynamic_watts(coefficients, features) * 1e12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_executed_even_where_the_fit_gives_all_to_cycles() {
        let watts = |cycles: f64, instructions: f64| {
            let of = |pairs: [(Feature, f64); 3]| {
                let mut all = [0.0; FEATURES];
                pairs.into_iter().for_each(|(feature, value)| all[feature as usize] = value);
                all
            };
            let costs = [cycles, instructions, 10.0];
            let features = [Feature::Cycles, Feature::Instructions, Feature::Awake];
            let coefficients = of(std::array::from_fn(|n| (features[n], costs[n])));
            executed_watts(&coefficients, &of(features.map(|feature| (feature, 2.0))))
        };
        assert_eq!(watts(3.0, 2.0), 4.0);
        assert_eq!(watts(5.0, 0.0), LEAST_EXECUTED * 10.0);
    }

    #[test]
    fn what_a_clock_adds_is_nothing_at_the_mean_clock_and_less_than_nothing_below() {
        // A second at 2 GHz, half of it on a shared core, in which a cycle costs 1 J and 0.1 J for each GHz².
        let features = features(&[1_000_000_000, 500_000_000, 2_000_000_000, 3_000_000_000, 0, 0]);
        let mut coefficients = [0.0; FEATURES];
        for (fast, all) in [
            (Feature::FastAlone, Feature::CyclesAlone),
            (Feature::FastShared, Feature::CyclesShared),
            (Feature::InstructionsFast, Feature::Instructions),
        ] {
            (coefficients[fast as usize], coefficients[all as usize]) = (0.1, 1.0);
        }
        let square = mean_square_clock(&features);
        assert!((square - 4.0).abs() < 1e-9, "{square}");
        let added = [4.0, 1.0, 9.0].map(|square| clock_watts(&coefficients, &features, square));
        // Two cycles and three instructions.
        assert!(added.iter().zip([0.0, 1.5, -2.5]).all(|(a, b)| (a - b).abs() < 1e-9), "{added:?}");
        assert_eq!(mean_square_clock(&[0.0; FEATURES]), 0.0);
    }

    #[test]
    fn cycles_are_weighted_by_the_clock_at_which_each_ran_or_by_the_mean_if_that_is_all_there_is() {
        // A second at 3 GHz and one at 1 GHz, half of the time on a shared core.
        let amounts = [2_000_000_000, 1_000_000_000, 4_000_000_000, 2_000_000_000, 0];
        let of = |weighted: u64| {
            let [ns, shared, cycles, instructions, misses] = amounts;
            let all = features(&[ns, shared, cycles, instructions, misses, weighted]);
            [Feature::FastAlone, Feature::FastShared, Feature::InstructionsFast].map(|f| all[f as usize])
        };
        let near = |found: [f64; 3], all: [f64; 3]| {
            assert!(found.iter().zip(all).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}, not {all:?}");
        };
        near(of(28_000_000_000), [14.0, 14.0, 14.0]);
        near(of(0), [8.0, 8.0, 8.0]);
    }
}
