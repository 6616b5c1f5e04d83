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
    CODE_SPREAD, ENDED_POWER, EXPECTED_CODES, KEPT_CODES, KEPT_CONSUMERS, LONG_OBSERVATION, MAX_EFFECT,
    MIXED_SPREAD, OWN_SPREAD, UNMIXED_SPREAD, UNMIXED_SPREAD_OF_SMALL,
};
use super::effect_sums::{EFFECTS, EffectSums, Effects, Expected, Posterior, UNKNOWNS, Unknowns, unknowns};
use super::expected_error::ExpectedError;
use super::features::{Coefficients, Features};
use super::mixtures::Mixtures;
use super::nnls::Matrix;
use super::noise::Noise;
use super::observation::Observation;
use super::own_places::{OwnPlaces, Place};
use super::predicted::{ByOwn, Own, Predicted};
use super::recent::{RecentMean, kept};
use crate::code::{ByCode, Code};

/// The expected square of a consumer's own effect where nothing was learnt of mixtures.
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
    mixtures: Mixtures,
    /// Of observations, and of long ones.
    expected_errors: [ExpectedError; 2],
    noise: Noise,
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
            mixtures: Mixtures::default(),
            expected_errors: [0.0, LONG_OBSERVATION.as_secs_f64()].map(ExpectedError::over),
            noise: Noise { variance: CODE_SPREAD * CODE_SPREAD, carried: 0.0 },
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

    /// The own effect of the consumer in `slot`. It gets one if it has none and a place is free: were it to
    /// get one later than others that started with it, theirs would explain what it had from the beginning.
    pub(super) fn own_or_new(&mut self, slot: usize) -> Option<Own> {
        self.places.of(slot).or_else(|| {
            let place = self.places.first_free()?;
            let effect = KEPT_CODES + place;
            self.covariance[effect][effect] = self.own_variance(place);
            Some(self.places.give(place, slot))
        })
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
        // What those without an effect of their own differ from their kinds is noise, and so is what mixtures
        // cost.
        let rest = self.unmixed_variance(UNMIXED_SPREAD, None) * powers.without_own * powers.without_own;
        match &mut self.recent {
            Some(recent) => {
                let of_mixtures = (MIXED_SPREAD * powers.mixed_root).powi(2);
                let per_power = recent.mean.weight_beside(watts, least);
                let Noise { variance, carried } = self.noise;
                let weight = 1.0 / (variance / per_power + rest + of_mixtures);
                let changes: Effects = std::array::from_fn(|effect| drawn[effect] - recent.powers[effect]);
                let features: Features = std::array::from_fn(|f| rates[f] - recent.mean.rates[f]);
                let unknowns = unknowns(&changes, &features);
                for expected in &mut self.expected_errors {
                    expected.add(&unknowns, of_mixtures, per_power, seconds, &self.covariance);
                }
                self.sums.add(&unknowns, watts - recent.mean.watts, weight, carried, seconds);
                for (effect, &code) in self.codes.iter().enumerate() {
                    let part = powers.mixed.of(code) / drawn[effect].max(f64::MIN_POSITIVE);
                    self.mixtures.add(effect, changes[effect], part, seconds);
                }
                self.places.ran(&powers.own_codes);
                let part = recent.mean.follow(observation);
                recent.powers.iter_mut().zip(changes).for_each(|(mean, change)| *mean += change * part);
            }
            None => self.recent = Some(Recent { mean: RecentMean::of(observation), powers: drawn }),
        }
        self.free_ended();
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
        self.mixtures.forget(least);
        self.integrate_out(least, self.spread);
        least
    }

    /// Frees the places of consumers that have ended. As long as changes are those from a mean that holds
    /// what one drew, its own effect is in all of them.
    fn free_ended(&mut self) {
        let Some(Recent { mean, powers }) = self.recent else { return };
        for (place, &power) in powers[KEPT_CODES..].iter().enumerate() {
            if self.places.at(place) == Place::Ended && power <= ENDED_POWER * mean.watts {
                self.free(place);
            }
        }
    }

    /// Gives the consumer in `slot`, for whose execution `energy` was predicted of late, an effect of its
    /// own, if there is a place or one of less energy.
    fn admit(&mut self, slot: usize, energy: f64) {
        let place = self.places.first_free().unwrap_or_else(|| least_of(&self.energy[KEPT_CODES..]));
        if self.places.at(place) != Place::Free {
            if self.energy[KEPT_CODES + place] >= energy {
                return;
            }
            self.free(place);
        }
        self.places.give(place, slot);
        self.energy[KEPT_CODES + place] = energy;
    }

    fn free(&mut self, place: usize) {
        let variance = self.own_variance(place);
        self.places.free(place);
        self.of_own[place] = 0.0;
        self.integrate_out(KEPT_CODES + place, variance);
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

    /// The expected square of the effect of the consumer at `place`.
    fn own_variance(&self, place: usize) -> f64 {
        let effect = self.places.code(place).and_then(|code| self.kept_effect_of(code));
        self.unmixed_variance(UNMIXED_SPREAD, effect)
    }

    /// The expected square of what a consumer without an effect of its own differs by from its kind, which
    /// has this effect; from any kind if `None`.
    pub(super) fn small_variance(&self, effect: Option<usize>) -> f64 {
        self.unmixed_variance(UNMIXED_SPREAD_OF_SMALL, effect)
    }

    fn unmixed_variance(&self, spread: f64, effect: Option<usize>) -> f64 {
        let share = effect.map_or_else(|| self.mixtures.share(), |effect| self.mixtures.share_of(effect));
        OWN_VARIANCE + spread * spread * share
    }

    /// The part of what the learner finds unexplained that is expected ([`ExpectedError::sum`]): of
    /// observations, and of long ones.
    pub(super) fn expected_errors(&self) -> [f64; 2] {
        [0, 1].map(|at| self.expected_errors[at].sum())
    }

    /// Fits the effects to what `coefficients` leave of the changes, which `noise` disturbs. `levels` is what
    /// levels of power say of the coefficients, as in [`Expected`].
    pub(super) fn fit(&mut self, coefficients: &Coefficients, levels: &Matrix, noise: Noise) {
        self.noise = noise;
        let own = self.places.used().map(|place| KEPT_CODES + place);
        let kept: Vec<usize> = (0..self.codes.len()).chain(own).collect();
        let squares = std::array::from_fn(|effect| {
            effect.checked_sub(KEPT_CODES).map_or(self.spread, |place| self.own_variance(place))
        });
        let expected = Expected { squares: &squares, coefficients, levels };
        let Some(Posterior { effects, covariance }) = self.sums.posterior(&kept, &expected) else {
            // Sums that are not numbers stay so: it starts again.
            *self = Self::default();
            return;
        };
        self.covariance = covariance;
        for &effect in &kept {
            let value = effects[effect].clamp(-MAX_EFFECT, MAX_EFFECT);
            match effect.checked_sub(KEPT_CODES) {
                None => self.of_code.set(self.codes[effect], value),
                Some(place) => self.of_own[place] = value,
            }
        }
        // The expectation stands for some kinds of code that were seen before. Mixtures cost what is in the
        // middle: how far kinds differ is seen of the part that was learnt of single ones.
        let (mut squares, mut seen) = (EXPECTED_CODES * CODE_SPREAD * CODE_SPREAD, EXPECTED_CODES);
        for (at, effect) in effects.iter().enumerate().take(self.codes.len()) {
            let single = 1.0 - self.mixtures.share_of(at);
            squares += single * (effect * effect + self.covariance[at][at]);
            seen += single;
        }
        self.spread = squares / seen;
    }
}

/// The number of the smallest value; 0 if there is none.
fn least_of(values: &[f64]) -> usize {
    (0..values.len()).min_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0)
}

#[cfg(test)]
#[path = "code_costs_tests.rs"]
mod tests;
