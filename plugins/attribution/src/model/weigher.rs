//! The weights by which the dynamic energy of one window is divided.

use super::PowerModel;
use super::awake::Awake;
use super::basis::Basis;
use super::features::{Feature, executed_watts, features, picojoules};
use super::predicted::{ByKind, Own};
use crate::amounts::{Amounts, Quantity};
use crate::code::Code;

/// What weighs the consumers of a window, and their threads.
pub(crate) struct Weigher<'a> {
    model: &'a PowerModel,
    /// Who kept the package awake, if that costs something.
    awake: Option<Awake>,
}

impl PowerModel {
    /// That of a window of `ns`, in which consumers ran for these `times`, ns.
    pub(crate) fn weigher(&self, ns: u64, times: impl Iterator<Item = u64>) -> Weigher<'_> {
        let coefficients = self.candidate().coefficients.as_ref();
        let costs = coefficients.is_some_and(|of| of[Feature::Awake as usize] > 0.0);
        Weigher { model: self, awake: costs.then(|| Awake::of(ns, times)) }
    }
}

impl Weigher<'_> {
    /// The own effect of the consumer in `slot`, if it has one.
    pub(crate) fn own(&self, slot: usize) -> Option<Own> {
        self.model.codes.own(slot)
    }

    /// The part of this `weight`, 0 to 1, that a consumer has because it kept the package awake; it used
    /// `amounts`.
    pub(crate) fn awake_part(&self, amounts: &Amounts, weight: u64) -> f32 {
        let Some(awake) = &self.awake else { return 0.0 };
        let watts =
            self.model.candidate().coefficients.as_ref().map_or(0.0, |of| of[Feature::Awake as usize]);
        let picojoules = watts * awake.share(amounts[Quantity::Time as usize]) * 1e12;
        (picojoules / weight.max(1) as f64).min(1.0) as f32
    }

    /// The weight of `amounts` that a consumer used which ran `code` and has this effect of its `own`.
    /// Weights are comparable within a domain and window only. If `kinds` are given, what it used is added to
    /// what its kind of code did, as far as that has an effect.
    pub(crate) fn weigh(
        &self,
        amounts: &Amounts,
        code: Option<Code>,
        own: Option<Own>,
        kinds: Option<&mut ByKind>,
    ) -> u64 {
        let candidate = self.model.candidate();
        let time = amounts[Quantity::Time as usize];
        match candidate.basis {
            Basis::Time => time,
            Basis::Cycles => amounts[Quantity::Cycles as usize],
            Basis::Instructions => amounts[Quantity::Instructions as usize],
            Basis::CacheMisses => amounts[Quantity::CacheMisses as usize],
            Basis::SharedCores => {
                let shared = amounts[Quantity::Shared as usize].min(time);
                time - shared + (shared as f64 * self.model.smt_factor()) as u64
            }
            Basis::Fitted => match &candidate.coefficients {
                Some(coefficients) => {
                    let mut features = features(amounts);
                    features[Feature::Awake as usize] =
                        self.awake.as_ref().map_or(0.0, |awake| awake.share(time));
                    let picojoules = picojoules(coefficients, &features);
                    let Some(code) = code else { return picojoules as u64 };
                    let codes = &self.model.codes;
                    let executed = executed_watts(coefficients, &features);
                    if let (Some(kinds), Some(effect)) = (kinds, codes.kept_effect_of(code)) {
                        kinds.add(effect, &features, picojoules * 1e-12, executed);
                    }
                    (picojoules + executed * 1e12 * codes.effect(code, own)) as u64
                }
                None => time,
            },
        }
    }
}
