//! The sums from which effects on power are learnt (`code_costs.rs`): a linear regression of changes of power
//! on changes of the features and of what each effect is a part of, with an expectation for the effects.
//!
//! An effect that is no longer followed is *integrated out*: what the observations say of the others, given
//! that this one is unknown, stays in the sums. Dropping its row would leave them as if it had been zero.

use super::cholesky::Cholesky;
use super::constants::{DIFFERENCE_SECONDS, KEPT_CODES, KEPT_CONSUMERS};
use super::features::{Coefficients, FEATURES, Features};

/// Effects that are learnt at a time.
pub(super) const EFFECTS: usize = KEPT_CODES + KEPT_CONSUMERS;
/// Columns after those of the effects: the features, and power.
const POWER: usize = EFFECTS + FEATURES;
const COLUMNS: usize = POWER + 1;

/// A value for each effect.
pub(super) type Effects = [f64; EFFECTS];

/// Sums of products of the effects' changes with all changes, each divided by the variance of the
/// observation's error.
#[derive(Clone, Debug)]
pub(super) struct EffectSums([[f64; COLUMNS]; EFFECTS]);

/// What is known of effects: their values, and their covariances.
pub(super) struct Posterior {
    pub(super) found: Effects,
    pub(super) covariance: [Effects; EFFECTS],
}

impl Default for EffectSums {
    fn default() -> Self {
        Self([[0.0; COLUMNS]; EFFECTS])
    }
}

impl EffectSums {
    /// Adds an observation of so many `seconds`: how much more than recently each effect was a part of, the
    /// features, and power. `weight` is one over the variance of its error.
    pub(super) fn add(
        &mut self,
        effects: &Effects,
        features: &Features,
        watts: f64,
        weight: f64,
        seconds: f64,
    ) {
        let keep = (-seconds / DIFFERENCE_SECONDS).exp();
        let mut changes = [0.0; COLUMNS];
        changes[..EFFECTS].copy_from_slice(effects);
        changes[EFFECTS..POWER].copy_from_slice(features);
        changes[POWER] = watts;
        for (row, change) in self.0.iter_mut().zip(effects) {
            let weighted = weight * change;
            row.iter_mut().zip(changes).for_each(|(sum, other)| *sum = *sum * keep + weighted * other);
        }
    }

    /// Integrates out an effect whose expected square is `variance`. Its place is free then.
    pub(super) fn integrate_out(&mut self, effect: usize, variance: f64) {
        let row = self.0[effect];
        let pivot = row[effect] + 1.0 / variance;
        for (other, sums) in self.0.iter_mut().enumerate() {
            let part = row[other] / pivot;
            if part != 0.0 {
                sums.iter_mut().zip(row).for_each(|(sum, of)| *sum -= part * of);
            }
            sums[effect] = 0.0;
        }
        self.0[effect] = [0.0; COLUMNS];
    }

    /// What the changes that `coefficients` leave over say of the effects in `kept`, whose expected squares
    /// are `variances`. `None` if the sums are no numbers.
    pub(super) fn posterior(
        &self,
        kept: &[usize],
        coefficients: &Coefficients,
        variances: &Effects,
    ) -> Option<Posterior> {
        let (mut matrix, mut left) = ([[0.0; EFFECTS]; EFFECTS], [0.0; EFFECTS]);
        for &effect in kept {
            let row = &self.0[effect];
            kept.iter().for_each(|&other| matrix[effect][other] = row[other]);
            matrix[effect][effect] += 1.0 / variances[effect];
            let predicted = coefficients.iter().zip(&row[EFFECTS..POWER]).skip(1);
            left[effect] = row[POWER] - predicted.map(|(c, sum)| c * sum).sum::<f64>();
        }
        let factor = Cholesky::of(&matrix, kept)?;
        let found = factor.solve(&left);
        let covariance = factor.inverse();
        found.iter().all(|value| value.is_finite()).then_some(Posterior { found, covariance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_the_others_stays_when_an_effect_is_integrated_out() {
        let (mut sums, mut random) = (EffectSums::default(), 7_u64);
        let truth = [0.1, -0.05, 0.03];
        for _ in 0..5 {
            let mut effects = [0.0; EFFECTS];
            for effect in effects.iter_mut().take(truth.len()) {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *effect = f64::from((random >> 48) as u16) / 65535.0 - 0.5;
            }
            let watts = effects.iter().zip(truth).map(|(change, effect)| change * effect).sum();
            sums.add(&effects, &[0.0; FEATURES], watts, 1e6, 0.1);
        }
        let variances = [0.01; EFFECTS];
        let posterior = |sums: &EffectSums, kept: &[usize]| {
            sums.posterior(kept, &[0.0; FEATURES], &variances).expect("finite")
        };
        let all = posterior(&sums, &[0, 1, 2]);
        sums.integrate_out(2, variances[2]);
        let rest = posterior(&sums, &[0, 1]);
        for a in 0..2 {
            assert!((rest.found[a] - all.found[a]).abs() < 1e-12, "{:?}", rest.found);
            for b in 0..2 {
                assert!((rest.covariance[a][b] - all.covariance[a][b]).abs() < 1e-12);
            }
        }
        assert!((all.found[0] - truth[0]).abs() < 0.02, "{:?}", all.found);
    }

    #[test]
    fn sums_that_are_no_numbers_say_nothing() {
        let mut sums = EffectSums::default();
        sums.add(&[1.0; EFFECTS], &[0.0; FEATURES], f64::NAN, 1.0, 0.1);
        assert!(sums.posterior(&[0, 1], &[0.0; FEATURES], &[0.01; EFFECTS]).is_none());
    }
}
