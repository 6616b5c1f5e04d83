//! By how much kinds of code, and single consumers, cost more or less than the counters say.
//!
//! What an instruction does is not counted. But programs that look alike to the counters (`code.rs`) are
//! often alike in that, too. So beside the coefficients, which all code has in common, each kind has an
//! *effect*: the part by which its instructions and cache misses cost more. What a core draws to run at all
//! is the same for any code. The consumers that use the most have an effect of their own beside that of their
//! kind, since their data differ. When consumers come and go, power changes by more or less than the
//! coefficients predict for them. A regression of what is left of these changes gives the effects:
//!
//! ```text
//! change of power − coefficients · change of features
//!     =  Σ effect(kind) · change of the power predicted for what it executes
//!     +  Σ effect(consumer) · change of the power predicted for what it executes
//! ```
//!
//! There are few observations for each, so the effects are expected to be small: normally distributed around
//! 0, with a variance that is learnt, too (a mixed model with random effects). What the observations do not
//! determine stays near 0, and the covariance that remains says how far off the effects may be
//! (`cost_variances.rs`). The sums are in `effect_sums.rs`. The model takes the effects from power before
//! coefficients are fitted to it, so both fits share what they explain.

use super::constants::{
    ALONE, CODE_SPREAD, EXPECTED_CODES, KEPT_CODES, KEPT_CONSUMERS, MAX_EFFECT, MIN_CODE_ERROR, OWN_SPREAD,
};
use super::effect_sums::{EFFECTS, EffectSums, Effects, Expected, Posterior, UNKNOWNS, Unknowns};
use super::features::{Coefficients, Features};
use super::nnls::Matrix;
use super::observation::Observation;
use super::own_places::{OwnPlaces, Place};
use super::predicted::{ByOwn, Own, Predicted};
use super::recent::{RecentMean, kept};
use crate::code::{ByCode, Code};

/// The expected square of a consumer's own effect.
pub(super) const OWN_VARIANCE: f64 = OWN_SPREAD * OWN_SPREAD;

/// The effects, and what they are learnt from. The first are those of kinds of code, then come those of
/// consumers.
#[derive(Clone, Debug)]
pub(crate) struct CodeCosts {
    /// The kinds of code that are kept, by effect.
    codes: Vec<Code>,
    /// The consumers that have an effect of their own.
    places: OwnPlaces,
    sums: EffectSums,
    /// The mean of the last seconds, once there is one.
    recent: Option<Recent>,
    /// The energy that was predicted for what each effect is of in the last seconds, µJ.
    energy: Effects,
    /// The part by which what each kind and each consumer executes costs more.
    of_code: ByCode,
    of_own: ByOwn,
    /// How far off the effects and the coefficients are: their covariances.
    pub(super) covariance: [Unknowns; UNKNOWNS],
    /// The variance of effects among kinds of code.
    pub(super) spread: f64,
    /// The variance of what is left unexplained of an observation's power, as a part of it.
    noise: f64,
}

#[derive(Clone, Copy, Debug)]
struct Recent {
    mean: RecentMean,
    powers: Effects,
}

impl Default for CodeCosts {
    fn default() -> Self {
        Self {
            codes: Vec::with_capacity(KEPT_CODES),
            places: OwnPlaces::default(),
            sums: EffectSums::default(),
            recent: None,
            energy: [0.0; EFFECTS],
            of_code: ByCode::default(),
            of_own: [0.0; KEPT_CONSUMERS],
            covariance: [[0.0; UNKNOWNS]; UNKNOWNS],
            spread: CODE_SPREAD * CODE_SPREAD,
            noise: CODE_SPREAD * CODE_SPREAD,
        }
    }
}

impl CodeCosts {
    /// How much more is drawn than the coefficients predict, of which `powers` are for what is executed; in
    /// the same unit.
    pub(super) fn beyond(&self, powers: &Predicted) -> f64 {
        let of_own = powers.by_own.iter().zip(self.of_own).map(|(power, effect)| power * effect);
        powers.by_code.dot(&self.of_code) + of_own.sum::<f64>()
    }

    /// The own effect of the consumer in `slot`, if it has one.
    pub(crate) fn own(&self, slot: usize) -> Option<Own> {
        self.places.of(slot)
    }

    /// The part by which what a consumer that runs `code` executes costs more than is predicted.
    pub(super) fn effect(&self, code: Code, own: Option<Own>) -> f64 {
        self.of_code.of(code) + own.map_or(0.0, |own| self.of_own[own.place()])
    }

    /// The consumer in `slot` has ended: another may get its number.
    pub(super) fn end_consumer(&mut self, slot: usize) {
        self.places.end_consumer(slot);
    }

    /// Adds an observation, for which `powers` were predicted, W. Errors are as large as at a power of
    /// `least` (above 0) where less is drawn.
    pub(super) fn add(&mut self, observation: &Observation, powers: &Predicted, least: f64) {
        let &Observation { rates, watts, seconds, .. } = observation;
        let mut drawn = [0.0; EFFECTS];
        for (code, power) in powers.by_code.all() {
            drawn[self.effect_of(code)] = power;
        }
        drawn[KEPT_CODES..].copy_from_slice(&powers.by_own);
        let keep = kept(seconds);
        self.energy.iter_mut().zip(drawn).for_each(|(sum, watts)| *sum = *sum * keep + watts * seconds * 1e6);
        match &mut self.recent {
            Some(recent) => {
                // What those without an effect of their own differ from their kinds is noise.
                let rest = OWN_VARIANCE * powers.without_own * powers.without_own;
                let weight = 1.0 / (self.noise / recent.mean.weight_beside(watts, least) + rest);
                let changes: Effects = std::array::from_fn(|effect| drawn[effect] - recent.powers[effect]);
                let features: Features = std::array::from_fn(|f| rates[f] - recent.mean.rates[f]);
                self.sums.add(&changes, &features, watts - recent.mean.watts, weight, seconds);
                recent.mean.follow(observation);
                recent
                    .powers
                    .iter_mut()
                    .zip(changes)
                    .for_each(|(mean, change)| *mean += change * (1.0 - keep));
            }
            None => self.recent = Some(Recent { mean: RecentMean { rates, watts }, powers: drawn }),
        }
        for place in 0..KEPT_CONSUMERS {
            if self.places.at(place) == Place::Ended {
                self.free(place);
            }
        }
        if let Some((slot, power)) = powers.largest {
            self.admit(slot, power * seconds * 1e6);
        }
    }

    /// Starts again: what was learnt is beside coefficients that are not in use.
    pub(super) fn forget(&mut self) {
        if self.recent.is_some() {
            *self = Self::default();
        }
    }

    /// How many kinds of code have an effect.
    pub(super) fn kept_codes(&self) -> usize {
        self.codes.len()
    }

    /// The effect of `code`, if it is kept.
    pub(super) fn kept_effect_of(&self, code: Code) -> Option<usize> {
        self.codes.iter().position(|kept| *kept == code)
    }

    /// The effect of `code`. If all are taken, the kind that cost the least of late makes room.
    fn effect_of(&mut self, code: Code) -> usize {
        if let Some(effect) = self.kept_effect_of(code) {
            return effect;
        }
        if self.codes.len() < KEPT_CODES {
            self.codes.push(code);
            return self.codes.len() - 1;
        }
        let least = least_of(&self.energy[..KEPT_CODES]);
        self.of_code.set(self.codes[least], 0.0);
        self.codes[least] = code;
        self.integrate_out(least, self.spread);
        least
    }

    /// Gives the consumer in `slot`, for whose execution `energy` was predicted of late, an effect of its
    /// own, if there is a place or one of less energy.
    fn admit(&mut self, slot: usize, energy: f64) {
        let place = self.places.first_free().unwrap_or_else(|| least_of(&self.energy[KEPT_CODES..]));
        if matches!(self.places.at(place), Place::Taken(_)) {
            if self.energy[KEPT_CODES + place] >= energy {
                return;
            }
            self.free(place);
        }
        self.places.give(place, slot);
        self.energy[KEPT_CODES + place] = energy;
    }

    fn free(&mut self, place: usize) {
        self.places.free(place);
        self.of_own[place] = 0.0;
        self.integrate_out(KEPT_CODES + place, OWN_VARIANCE);
    }

    fn integrate_out(&mut self, effect: usize, variance: f64) {
        self.sums.integrate_out(effect, variance);
        self.energy[effect] = 0.0;
        self.covariance[effect] = [0.0; UNKNOWNS];
        self.covariance.iter_mut().for_each(|row| row[effect] = 0.0);
        if let Some(recent) = &mut self.recent {
            recent.powers[effect] = 0.0;
        }
    }

    /// Fits the effects to what `coefficients` leave of the changes. `levels` is what levels of power say of
    /// the coefficients, as in [`Expected`]. `noise` is the variance of what remains unexplained of an
    /// observation's power, as a part of it.
    pub(super) fn fit(&mut self, coefficients: &Coefficients, levels: &Matrix, noise: f64) {
        self.noise = noise.max(MIN_CODE_ERROR * MIN_CODE_ERROR);
        let own = self.places.taken().map(|place| KEPT_CODES + place);
        let kept: Vec<usize> = (0..self.codes.len()).chain(own).collect();
        let squares =
            std::array::from_fn(|effect| if effect < KEPT_CODES { self.spread } else { OWN_VARIANCE });
        let expected = Expected { squares: &squares, coefficients, levels, noise: self.noise };
        let Some(Posterior { effects, covariance }) = self.sums.posterior(&kept, &expected) else {
            // Sums that are not numbers stay so: it starts again.
            *self = Self::default();
            return;
        };
        self.covariance = covariance;
        // What one kind alone costs is the coefficients' to explain.
        let energy = &self.energy[..KEPT_CODES];
        let is_alone = energy.iter().copied().fold(0.0, f64::max) >= ALONE * energy.iter().sum::<f64>();
        for &effect in &kept {
            let value = if is_alone { 0.0 } else { effects[effect].clamp(-MAX_EFFECT, MAX_EFFECT) };
            match effect.checked_sub(KEPT_CODES) {
                None => self.of_code.set(self.codes[effect], value),
                Some(place) => self.of_own[place] = value,
            }
        }
        // The expectation stands for a few kinds of code that were seen before.
        let squares: f64 =
            (0..self.codes.len()).map(|at| effects[at].powi(2) + self.covariance[at][at]).sum();
        let expected = EXPECTED_CODES * CODE_SPREAD * CODE_SPREAD;
        self.spread = (expected + squares) / (EXPECTED_CODES + self.codes.len() as f64);
    }
}

/// The number of the smallest value; 0 if there is none.
fn least_of(values: &[f64]) -> usize {
    (0..values.len()).min_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::features::{FEATURES, Feature};
    use crate::model::predicted::ByKind;

    /// Three kinds of code.
    fn kinds() -> [Code; 3] {
        [1, 4, 16].map(|cycles| Code::of(&[1, 0, cycles, 4, 0, 0]).unwrap())
    }

    /// A program: the slot of its consumer, the kind of its code, and by which part it costs more.
    type Program = (usize, Code, f64);

    /// A consumer of each kind.
    fn one_of_each(parts: [f64; 3]) -> Vec<Program> {
        kinds().into_iter().zip(parts).enumerate().map(|(slot, (code, part))| (slot, code, part)).collect()
    }

    /// Coefficients of 10 W per CPU.
    fn coefficients() -> Coefficients {
        let mut coefficients = [0.0; FEATURES];
        coefficients[Feature::Time as usize] = 10.0;
        coefficients
    }

    fn observe(costs: &mut CodeCosts, powers: &Predicted, cpus: f64, watts: f64) {
        let mut rates = [0.0; FEATURES];
        rates[Feature::Time as usize] = cpus;
        let observation = Observation { rates, utilisation: 0.5, watts, seconds: 0.1, awake_variance: 0.0 };
        costs.add(&observation, powers, 1.0);
        costs.fit(&coefficients(), &[[0.0; FEATURES]; FEATURES], 1e-5);
    }

    /// Adds so many seconds, in which each of `programs` comes and goes.
    fn learn(costs: &mut CodeCosts, programs: &[Program], seconds: u32) {
        let mut random = 7_u64;
        for _ in 0..seconds * 10 {
            let (mut powers, mut cpus, mut watts) = (Predicted::default(), 0.0, 20.0);
            for &(slot, code, part) in programs {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let busy = f64::from((random >> 48) as u16 % 3) / 2.0;
                powers.add(slot, costs.own(slot), code, 10.0 * busy);
                cpus += busy;
                watts += 10.0 * busy * (1.0 + part);
            }
            observe(costs, &powers, cpus, watts);
        }
    }

    /// What is learnt in so many seconds from a consumer of each kind, which costs more by `parts`.
    fn learnt(parts: [f64; 3], seconds: u32) -> CodeCosts {
        let mut costs = CodeCosts::default();
        learn(&mut costs, &one_of_each(parts), seconds);
        costs
    }

    /// The standard error of what the consumer in `slot` costs beside that of another in a window of both.
    fn error(costs: &CodeCosts, slots: [usize; 2], codes: [Code; 2]) -> f64 {
        let (mut by_code, mut by_own, mut squares) = (ByCode::default(), ByOwn::default(), 0.0);
        let mut kinds = ByKind::default();
        for (slot, code) in slots.into_iter().zip(codes) {
            by_code.add(code, 0.5);
            if let Some(effect) = costs.kept_effect_of(code) {
                kinds.add(effect, &coefficients().map(|c| c / 100.0), 1.0, 1.0);
            }
            match costs.own(slot) {
                Some(own) => by_own[own.place()] += 0.5,
                None => squares += 0.25,
            }
        }
        costs.variances(&kinds, by_code, &by_own, squares).of(codes[0], costs.own(slots[0]), 0.5).sqrt()
    }

    #[test]
    fn programs_cost_what_power_changes_by_when_they_come_and_go() {
        // Coefficients that fit all code best are right on average.
        let parts = [0.05, -0.08, 0.03];
        let costs = learnt(parts, 20);
        for (slot, code, part) in one_of_each(parts) {
            let effect = costs.effect(code, costs.own(slot));
            assert!((effect - part).abs() < 0.003, "{effect} for {part}");
        }
        let mut powers = Predicted::default();
        kinds()
            .into_iter()
            .take(2)
            .enumerate()
            .for_each(|(slot, code)| powers.add(slot, costs.own(slot), code, 10.0));
        assert!((costs.beyond(&powers) - 10.0 * (0.05 - 0.08)).abs() < 0.05, "{}", costs.beyond(&powers));
    }

    #[test]
    fn consumers_of_one_kind_are_distinguished_and_a_new_one_gets_what_the_kind_costs() {
        let [code, other, _] = kinds();
        let mut costs = CodeCosts::default();
        let programs = [(0, code, 0.06), (1, code, 0.04), (2, other, -0.05), (3, other, -0.05)];
        learn(&mut costs, &programs, 30);
        for (slot, code, part) in programs {
            let effect = costs.effect(code, costs.own(slot));
            assert!((effect - part).abs() < 0.004, "{effect} for {part}");
        }
        // The two of the kind end. What they say of it stays, and another one is known less well.
        let before = error(&costs, [0, 2], [code, other]);
        [0, 1].into_iter().for_each(|slot| costs.end_consumer(slot));
        learn(&mut costs, &programs[2..], 1);
        let (effect, after) = (costs.effect(code, costs.own(9)), error(&costs, [9, 2], [code, other]));
        assert!((0.03..0.06).contains(&effect), "{effect}");
        assert!(after > 2.0 * before, "{before} {after}");
    }

    #[test]
    fn of_several_that_start_at_once_the_first_does_not_explain_what_all_of_them_have() {
        let [code, other, _] = kinds();
        let mut costs = CodeCosts::default();
        // One program comes and goes. Then three of another kind, which are alike, start and run all the
        // time. They get effects one after the other, the largest first.
        for second in 0..44_u32 {
            let (beside, ran) = (f64::from(second % 2), f64::from(u8::from(second >= 40)));
            let mut powers = Predicted::default();
            powers.add(9, costs.own(9), other, 10.0 * beside);
            for (slot, cpus) in [(0, 0.5), (1, 0.3), (2, 0.2)].into_iter().filter(|_| ran > 0.0) {
                powers.add(slot, costs.own(slot), code, 10.0 * cpus);
            }
            let mut rates = [0.0; FEATURES];
            rates[Feature::Time as usize] = beside + ran;
            let watts = 20.0 + 10.0 * beside + 10.6 * ran;
            let observation =
                Observation { rates, utilisation: 0.5, watts, seconds: 1.0, awake_variance: 0.0 };
            costs.add(&observation, &powers, 1.0);
            costs.fit(&coefficients(), &[[0.0; FEATURES]; FEATURES], 1e-6);
        }
        let [first, second] = [0, 1].map(|slot| costs.effect(code, costs.own(slot)));
        let known = error(&costs, [0, 1], [code; 2]) / (OWN_VARIANCE / 2.0).sqrt();
        assert!(known > 0.85 && (first - second).abs() < 0.002, "{first} {second} {known}");
    }

    #[test]
    fn a_program_is_the_less_certain_the_less_it_was_seen_and_alone_it_is_certain() {
        let [a, b, _] = kinds();
        let [unseen, little, much] =
            [0, 1, 20].map(|seconds| error(&learnt([0.05, -0.05, 0.0], seconds), [0, 1], [a, b]));
        // Two consumers of two kinds, of which nothing is known: half of the difference.
        let expected = ((CODE_SPREAD * CODE_SPREAD + OWN_VARIANCE) / 2.0).sqrt();
        assert!((unseen - expected).abs() < 1e-9, "{unseen} {expected}");
        assert!(little < 0.8 * unseen && much < 0.5 * little, "{unseen} {little} {much}");
        let costs = learnt([0.0; 3], 1);
        let (mut by_code, mut by_own) = (ByCode::default(), ByOwn::default());
        by_code.add(a, 1.0);
        let own = costs.own(0).expect("it uses the most");
        by_own[own.place()] = 1.0;
        let mut kinds = ByKind::default();
        kinds.add(costs.kept_effect_of(a).expect("it is kept"), &coefficients().map(|c| c / 100.0), 1.0, 1.0);
        assert!(costs.variances(&kinds, by_code, &by_own, 0.0).of(a, Some(own), 1.0) < 1e-12);
    }

    #[test]
    fn a_kind_that_runs_alone_costs_what_the_coefficients_say() {
        let mut costs = CodeCosts::default();
        for second in 0..100 {
            let busy = f64::from(second % 2);
            let mut powers = Predicted::default();
            powers.add(0, costs.own(0), kinds()[0], 10.0 * busy);
            observe(&mut costs, &powers, busy, 20.0 + 11.0 * busy);
        }
        assert_eq!(costs.effect(kinds()[0], costs.own(0)), 0.0);
    }

    #[test]
    fn differences_that_are_larger_than_expected_are_learnt_to_be() {
        assert!(learnt([0.2, -0.2, 0.0], 20).spread > 2.0 * CODE_SPREAD * CODE_SPREAD);
        assert!(learnt([0.001, -0.001, 0.0], 20).spread < CODE_SPREAD * CODE_SPREAD);
    }

    #[test]
    fn the_kind_and_the_consumer_that_cost_the_least_of_late_make_room_for_others() {
        let mut costs = learnt([0.05, -0.08, 0.0], 20);
        let many =
            (0..KEPT_CODES as u32).map(|n| Code::of(&[1, 0, 1 << 10, 1 << (n % 12), 1 << (n / 12), 0]));
        for (n, code) in many.map(Option::unwrap).enumerate() {
            let mut powers = Predicted::default();
            let kinds = kinds().into_iter().enumerate();
            kinds.for_each(|(slot, code)| powers.add(slot, costs.own(slot), code, 10.0));
            powers.add(10 + n, costs.own(10 + n), code, 0.1 * n as f64);
            observe(&mut costs, &powers, 3.0, 50.1);
        }
        assert_eq!(costs.codes.len(), KEPT_CODES);
        kinds().into_iter().for_each(|code| assert!(costs.codes.contains(&code), "{code:?} was dropped"));
        (0..3).for_each(|slot| assert!(costs.own(slot).is_some(), "{slot} was dropped"));
        let last = 10 + KEPT_CODES - 1;
        assert!(costs.own(last).is_some() && costs.own(10).is_none());
        assert_eq!((0..=last).filter_map(|slot| costs.own(slot)).count(), KEPT_CONSUMERS);
    }

    #[test]
    fn a_consumer_that_has_ended_leaves_its_number_to_another() {
        let mut costs = learnt([0.05, -0.08, 0.0], 20);
        costs.end_consumer(0);
        assert_eq!(costs.own(0), None);
        let is_ended = |place: &usize| costs.places.at(*place) == Place::Ended;
        let place = (0..KEPT_CONSUMERS).find(is_ended).expect("its place");
        learn(&mut costs, &one_of_each([0.0, -0.08, 0.0])[1..], 1);
        assert_eq!((costs.places.at(place), costs.of_own[place]), (Place::Free, 0.0));
    }
}
