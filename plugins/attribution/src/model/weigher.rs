//! The weights by which the dynamic energy of one window is divided.

use super::PowerModel;
use super::awake::Awake;
use super::basis::Basis;
use super::features::{
    Coefficients, Feature, clock_watts, executed_watts, features, mean_square_clock, picojoules,
};
use super::predicted::{ByKind, Own};
use crate::amounts::{Amounts, Quantity};
use crate::code::Code;

/// What weighs the consumers of a window, and their threads.
pub(crate) struct Weigher<'a> {
    model: &'a PowerModel,
    /// Who kept the package awake, if that costs something.
    awake: Option<Awake>,
    /// The mean square of the clock in the last seconds, GHz².
    square_clock: f64,
}

/// What a consumer weighs in a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight {
    pub(crate) weight: u64,
    /// The part of it, 0 to 1, that it has because it kept the package awake.
    pub(crate) awake: f32,
    /// The part of it that it has because its clock was higher than the mean of the last seconds; below 0 if
    /// it was lower.
    pub(crate) clock: f32,
}

impl PowerModel {
    /// That of a window of `ns`, in which consumers ran for these `times`, ns.
    pub(crate) fn weigher(&self, ns: u64, times: impl Iterator<Item = u64>) -> Weigher<'_> {
        let costs = self.candidate().awake_watts() > 0.0;
        let square_clock = self.learner.recent().map_or(0.0, |recent| mean_square_clock(&recent.rates));
        Weigher { model: self, awake: costs.then(|| Awake::of(ns, times)), square_clock }
    }
}

impl Weigher<'_> {
    /// The own effect of the consumer in `slot`, if it has one.
    pub(crate) fn own(&self, slot: usize) -> Option<Own> {
        self.model.codes.own(slot)
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
    ) -> Weight {
        let candidate = self.model.candidate();
        let time = amounts[Quantity::Time as usize];
        let weight = match candidate.basis {
            Basis::Time => time,
            Basis::Cycles => amounts[Quantity::Cycles as usize],
            Basis::Instructions => amounts[Quantity::Instructions as usize],
            Basis::CacheMisses => amounts[Quantity::CacheMisses as usize],
            Basis::SharedCores => {
                let shared = amounts[Quantity::Shared as usize].min(time);
                time - shared + (shared as f64 * self.model.smt_factor()) as u64
            }
            Basis::Fitted => match &candidate.coefficients {
                Some(coefficients) => return self.fitted(coefficients, amounts, code, own, kinds),
                None => time,
            },
        };
        Weight { weight, awake: 0.0, clock: 0.0 }
    }

    /// The energy that is predicted for `amounts`, as a weight.
    fn fitted(
        &self,
        coefficients: &Coefficients,
        amounts: &Amounts,
        code: Option<Code>,
        own: Option<Own>,
        kinds: Option<&mut ByKind>,
    ) -> Weight {
        let mut features = features(amounts);
        let time = amounts[Quantity::Time as usize];
        let awake = self.awake.as_ref().map_or(0.0, |awake| awake.share(time));
        features[Feature::Awake as usize] = awake;
        let mut picojoules = picojoules(coefficients, &features);
        if let Some(code) = code {
            let codes = &self.model.codes;
            let executed = executed_watts(coefficients, &features);
            if let (Some(kinds), Some(effect)) = (kinds, codes.kept_effect_of(code)) {
                kinds.add(effect, &features, picojoules * 1e-12, executed);
            }
            picojoules += executed * 1e12 * codes.effect(code, own);
        }
        let weight = picojoules as u64;
        let part = |of: f64| (of / weight.max(1) as f64).min(1.0) as f32;
        let clock = part(clock_watts(coefficients, &features, self.square_clock) * 1e12);
        let awake =
            if awake > 0.0 { part(coefficients[Feature::Awake as usize] * awake * 1e12) } else { 0.0 };
        Weight { weight, awake, clock }
    }
}
