//! How far off what consumers cost is in one window, beside each other: the covariances of the effects and of
//! the coefficients (`code_costs.rs`), for what ran in it. What is wrong in all alike cancels.
//!
//! By its features and its effects, a consumer costs more than predicted by the part
//!
//! ```text
//! features for each joule · errors of the coefficients + executed part · (effect(kind) + effect(consumer))
//! ```
//!
//! The features for each joule, and the part of it that is predicted for what is executed, are those of its
//! kind on average: consumers of one kind are alike to the counters, so this needs no matrix for each
//! consumer.

use super::code_costs::CodeCosts;
use super::constants::KEPT_CODES;
use super::effect_sums::{EFFECTS, UNKNOWNS, Unknowns, covariance_with};
use super::features::Features;
use super::predicted::{ByKind, ByOwn, Own};
use crate::code::{ByCode, Code};

/// The executed part of a kind that is not kept.
const ALL: f64 = 1.0;

/// The variances of one window.
#[derive(Clone, Debug)]
pub(crate) struct CostVariances<'a> {
    costs: &'a CodeCosts,
    by_code: ByCode,
    /// Of the kinds that have an effect, by it.
    kinds: Vec<Kind>,
    /// The covariance of each unknown with the mean of the window.
    with_all: Unknowns,
    /// The variance of that mean.
    of_all: f64,
}

/// What a kind of code costs beyond what is predicted: its effect, and what is wrong with its features.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    per_joule: Features,
    /// The part of its energy that is predicted for what it executes, 0 to 1.
    executed: f64,
    variance: f64,
    /// What consumers of it without an effect of their own vary by.
    of_small: f64,
    /// The covariance with the mean of the window.
    with_all: f64,
}

impl CodeCosts {
    /// How far off costs are beside each other in a window, in which `kinds` ran. `by_code` are the parts of
    /// its energy that each kind of code has, `by_own` the executed parts of consumers with an effect of
    /// their own, and `of_small` is the variance of the mean that is the others' ([`Self::of_small`]).
    pub(crate) fn variances(
        &self,
        kinds: &ByKind,
        by_code: ByCode,
        by_own: &ByOwn,
        of_small: f64,
    ) -> CostVariances<'_> {
        // Without hardware counters no kind is known. The rest would come to the same, and costs a twentieth
        // of closing the books of a window of 1 ms.
        if by_code.all().next().is_none() {
            let (kinds, with_all) = (Vec::new(), [0.0; UNKNOWNS]);
            return CostVariances { costs: self, by_code, kinds, with_all, of_all: of_small };
        }
        let mut mean: Unknowns = [0.0; UNKNOWNS];
        mean[KEPT_CODES..EFFECTS].copy_from_slice(by_own);
        let mut found = vec![Kind::default(); self.kept_codes()];
        // Nothing is known of kinds that are not kept: they vary as kinds do, each on its own.
        let mut of_others = of_small;
        for (code, part) in by_code.all() {
            let Some(effect) = self.kept_effect_of(code) else {
                of_others += part * part * self.spread;
                continue;
            };
            let (per_joule, executed) = (kinds.per_joule(effect), kinds.executed(effect));
            let of_small = self.small_variance(Some(effect));
            found[effect] = Kind { per_joule, executed, of_small, ..Kind::default() };
            mean[effect] += part * executed;
            mean[EFFECTS..].iter_mut().zip(per_joule).for_each(|(sum, feature)| *sum += part * feature);
        }
        let (with_all, of_mean) = covariance_with(&mean, &self.covariance);
        let of_all = of_mean + of_others;
        for (code, _) in by_code.all() {
            let Some(effect) = self.kept_effect_of(code) else { continue };
            let kind = &mut found[effect];
            let with = |unknown: usize| self.with_kind(unknown, effect, kind);
            let of_features = (EFFECTS..UNKNOWNS).zip(kind.per_joule).filter(|(_, part)| *part != 0.0);
            let of_features = of_features.map(|(unknown, part)| part * with(unknown)).sum::<f64>();
            let variance = kind.executed * with(effect) + of_features;
            let with_all = kind.executed * with_all[effect] + dot(&kind.per_joule, &with_all[EFFECTS..]);
            (kind.variance, kind.with_all) = (variance, with_all);
        }
        CostVariances { costs: self, by_code, kinds: found, with_all, of_all }
    }

    /// The part of the energy of `code`, 0 to 1, that is predicted for what it executes: all of it where the
    /// kind is not kept.
    pub(crate) fn executed_part(&self, kinds: &ByKind, code: Code) -> f64 {
        self.kept_effect_of(code).map_or(ALL, |effect| kinds.executed(effect))
    }

    /// The variance of a window's mean by a consumer without an effect of its own, which ran `code` and has
    /// this `part` of the energy.
    pub(crate) fn of_small(&self, kinds: &ByKind, code: Code, part: f64) -> f64 {
        let effect = self.kept_effect_of(code);
        let executed = part * effect.map_or(ALL, |effect| kinds.executed(effect));
        executed * executed * self.small_variance(effect)
    }

    /// The covariance of an unknown with what a kind costs, which has this effect.
    fn with_kind(&self, unknown: usize, effect: usize, kind: &Kind) -> f64 {
        let row = &self.covariance[unknown];
        kind.executed * row[effect] + dot(&kind.per_joule, &row[EFFECTS..])
    }
}

impl CostVariances<'_> {
    /// The variance of what the window's consumers together cost more or less than is predicted, as a part of
    /// it.
    pub(crate) fn of_mean(&self) -> f64 {
        self.of_all
    }

    /// The variance of what a consumer costs beside the mean of the window, as a part of it. It ran `code`,
    /// and has this `part` of the energy.
    pub(crate) fn of(&self, code: Code, own: Option<Own>, part: f64) -> f64 {
        let costs = self.costs;
        let kind = costs.kept_effect_of(code).map(|effect| (effect, &self.kinds[effect]));
        let (of_kind, with_kind, executed, of_small) = match kind {
            Some((_, kind)) => (kind.variance, kind.with_all, kind.executed, kind.of_small),
            None => (costs.spread, self.by_code.of(code) * costs.spread, ALL, costs.small_variance(None)),
        };
        let (of_own, with_own) = match own.map(|own| KEPT_CODES + own.place()) {
            Some(own) => {
                let with_kind = kind.map_or(0.0, |(effect, kind)| costs.with_kind(own, effect, kind));
                (executed * costs.covariance[own][own] + 2.0 * with_kind, self.with_all[own])
            }
            None => (executed * of_small, part * executed * of_small),
        };
        let (of_own, with_own) = (executed * of_own, executed * with_own);
        (of_kind + of_own - 2.0 * (with_kind + with_own) + self.of_all).max(0.0)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Ran;
    use crate::model::code_costs::OWN_VARIANCE;
    use crate::model::features::{FEATURES, Feature};
    use crate::model::noise::Noise;
    use crate::model::observation::Observation;
    use crate::model::predicted::Predicted;

    /// Two kinds of code: the second has two instructions for each cycle, the first a half.
    fn codes() -> [Code; 2] {
        [2, 8].map(|instructions| Code::of(&[1, 0, 4, instructions, 0, 0]).expect("both are counted"))
    }

    fn features(time: f64, instructions: f64) -> Features {
        let mut features = [0.0; FEATURES];
        (features[Feature::Time as usize], features[Feature::Instructions as usize]) = (time, instructions);
        features
    }

    /// What the two consumers of [`errors`] draw for their instructions, W.
    const EXECUTED: [f64; 2] = [2.0, 8.0];

    /// The standard errors of what two consumers cost beside each other, after a minute in which they came
    /// and went, together or each by itself. Both draw 10 W, one of them by its instructions. The
    /// coefficients are known from levels or not. The third is how much kinds were learnt to differ.
    fn errors(together: bool, are_known: bool) -> [f64; 3] {
        let mut levels = [[0.0; FEATURES]; FEATURES];
        (0..FEATURES).for_each(|f| levels[f][f] = if are_known { 1e9 } else { 0.0 });
        let (mut costs, coefficients) = (CodeCosts::default(), features(2.0, 2.0));
        let each = [features(4.0, 1.0), features(1.0, 4.0)];
        let mut kinds = ByKind::default();
        for second in 0..60_u32 {
            let ran = [second % 2, second / if together { 1 } else { 2 } % 2].map(f64::from);
            let (mut powers, mut rates) = (Predicted::default(), [0.0; FEATURES]);
            for slot in 0..2 {
                powers.add(slot, costs.own(slot), Ran::pure(codes()[slot]), EXECUTED[slot] * ran[slot]);
                rates.iter_mut().zip(each[slot]).for_each(|(sum, feature)| *sum += feature * ran[slot]);
            }
            let watts = 20.0 + 10.0 * (ran[0] + ran[1]);
            let observation =
                Observation { rates, utilisation: 0.5, watts, seconds: 1.0, awake_variance: 0.0 };
            costs.add(&observation, &powers, 1.0);
            costs.fit(&coefficients, &levels, Noise::of(1e-6, 1e-6));
        }
        let (mut by_code, mut by_own) = (ByCode::default(), ByOwn::default());
        for (slot, code) in codes().into_iter().enumerate() {
            by_code.add(code, 0.5);
            by_own[costs.own(slot).expect("there is a place").place()] = 0.5 * EXECUTED[slot] / 10.0;
            let effect = costs.kept_effect_of(code).expect("it is kept");
            kinds.add(effect, &each[slot], 10.0, EXECUTED[slot]);
        }
        let variances = costs.variances(&kinds, by_code, &by_own, 0.0);
        let error = |slot: usize| variances.of(codes()[slot], costs.own(slot), 0.5).sqrt();
        [error(0), error(1), costs.spread.sqrt()]
    }

    #[test]
    fn what_only_changed_together_is_as_uncertain_as_coefficients_are() {
        let ([one, other, _], [apart, ..]) = (errors(true, false), errors(false, false));
        assert!((one - other).abs() < 1e-9, "half of the energy each: {one} {other}");
        // Time and instructions cost half as much or twice as much as is taken: one consumer's 0.8 · 50 % and
        // 0.2 · 50 % against the other's 0.2 · 50 % and 0.8 · 50 %.
        assert!((0.2..0.3).contains(&one), "{one}");
        assert!(apart < 0.005, "{apart}");
    }

    #[test]
    fn what_code_draws_to_run_at_all_is_no_matter_of_its_kind() {
        // What both draw together is known: one's error is the other's. Where one executes for a fifth of its
        // energy, that part of it is what may differ.
        let [one, other, spread] = errors(true, true);
        let expected = spread.hypot(OWN_VARIANCE.sqrt()) * 0.2 * 0.8 / 0.2_f64.hypot(0.8);
        assert!((one - other).abs() < 1e-9 && (0.8..1.2).contains(&(one / expected)), "{one} {expected}");
    }
}
