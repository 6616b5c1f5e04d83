//! The kinds of weights by which energy can be divided, and which features of power each stands for.

use wattrace_api::ResourceKind;

use super::features::Feature;
use crate::config::Weights;

/// What energy is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// Time on CPUs, or on a device.
    Time,
    Cycles,
    Instructions,
    /// Misses of the last-level cache.
    CacheMisses,
    /// CPU time, which weighs less while the core's other CPU was busy.
    SharedCores,
    /// Everything that is counted, with the coefficients that fit the meter.
    Fitted,
}

impl Basis {
    /// The bases to try for a domain of `kind` beside [`Basis::Time`]; the last one is preferred.
    pub(super) fn wanted(weights: Weights, kind: &ResourceKind) -> &'static [Basis] {
        let dram = *kind == ResourceKind::Dram;
        match weights {
            Weights::CpuTime => &[],
            Weights::Fitted if dram => &[Basis::CacheMisses, Basis::Fitted],
            Weights::Fitted => &[Basis::Fitted],
            // Memory draws power when it is accessed, whatever the CPU does meanwhile.
            _ if dram => &[Basis::CacheMisses],
            Weights::Cycles => &[Basis::Cycles],
            Weights::Instructions => &[Basis::Instructions],
            Weights::Smt => &[Basis::SharedCores],
        }
    }

    /// Its name in metrics, which is that of `plugins.attribution.weights` where there is one.
    pub(super) fn name(self) -> &'static str {
        match self {
            Basis::Time => "cpu-time",
            Basis::Cycles => "cycles",
            Basis::Instructions => "instructions",
            Basis::CacheMisses => "cache-misses",
            Basis::SharedCores => "smt",
            Basis::Fitted => "fitted",
        }
    }

    /// The features that power is taken to be a sum of, among those that were `seen`. Empty: the basis does
    /// not apply here.
    pub(super) fn features(self, seen: impl Fn(Feature) -> bool) -> Vec<Feature> {
        let of = |features: &[Feature]| features.iter().copied().filter(|&f| seen(f)).collect();
        match self {
            Basis::Time => vec![Feature::Time],
            Basis::Cycles => of(&[Feature::Cycles]),
            Basis::Instructions => of(&[Feature::Instructions]),
            Basis::CacheMisses => of(&[Feature::CacheMisses]),
            Basis::SharedCores if seen(Feature::Shared) => vec![Feature::Alone, Feature::Shared],
            Basis::SharedCores => Vec::new(),
            Basis::Fitted => {
                let mut all: Vec<Feature> = of(&[
                    Feature::CyclesAlone,
                    Feature::CyclesShared,
                    Feature::FastAlone,
                    Feature::FastShared,
                    Feature::Instructions,
                    Feature::InstructionsFast,
                    Feature::CacheMisses,
                ]);
                match seen(Feature::Shared) {
                    true => all.extend([Feature::Alone, Feature::Shared]),
                    false if all.is_empty() => return Vec::new(),
                    false => all.push(Feature::Time),
                }
                all.extend(of(&[Feature::Awake]));
                all
            }
        }
    }
}
