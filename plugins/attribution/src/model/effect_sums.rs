//! The sums from which effects on power are learnt (`code_costs.rs`): a linear regression of changes of power
//! on changes of the features and of what each effect is a part of, with an expectation for the effects.
//!
//! The unknowns are the effects and how far off the coefficients are. Both are found together, because what
//! kinds of code cost and what their features cost are hard to tell apart.
//!
//! An effect that is no longer followed is *integrated out*: what the observations say of the others, given
//! that this one is unknown, stays in the sums. Dropping its row would leave them as if it had been zero.

use super::cholesky::Cholesky;
use super::constants::{COEFFICIENT_ERROR, DIFFERENCE_SECONDS, KEPT_CODES, KEPT_CONSUMERS, LEAST_MISSES};
use super::features::{Coefficients, FEATURES, Feature, Features};
use super::nnls::Matrix;

/// Effects that are learnt at a time.
pub(super) const EFFECTS: usize = KEPT_CODES + KEPT_CONSUMERS;
/// They and the coefficients, which come after them.
pub(super) const UNKNOWNS: usize = EFFECTS + FEATURES;
/// The column after those of the unknowns: power.
const POWER: usize = UNKNOWNS;
const COLUMNS: usize = POWER + 1;

/// A value for each effect.
pub(super) type Effects = [f64; EFFECTS];
/// A value for each unknown.
pub(super) type Unknowns = [f64; UNKNOWNS];

/// Sums of products of the unknowns' changes with all changes, each divided by the variance of the
/// observation's noise.
#[derive(Clone, Debug)]
pub(super) struct EffectSums {
    sums: [[f64; COLUMNS]; UNKNOWNS],
    /// The last row of changes, with what it carried of those before.
    row: [f64; COLUMNS],
}

/// What is known of the unknowns beside the sums.
pub(super) struct Expected<'a> {
    /// The expected squares of the effects.
    pub(super) squares: &'a Effects,
    /// What the coefficients are taken to be. They may be off by `COEFFICIENT_ERROR` of themselves, that of
    /// cache misses by as much of `LEAST_MISSES` at least; others of 0 are not.
    pub(super) coefficients: &'a Coefficients,
    /// What levels of power say of how far off they may be: the inverse of a covariance.
    pub(super) levels: &'a Matrix,
}

/// The unknowns that are these effects and features.
pub(super) fn unknowns(effects: &Effects, features: &Features) -> Unknowns {
    let mut all = [0.0; UNKNOWNS];
    all[..EFFECTS].copy_from_slice(effects);
    all[EFFECTS..].copy_from_slice(features);
    all
}

/// The covariance of each unknown with the sum of so much `of` each, and the variance of that sum.
pub(super) fn covariance_with(of: &Unknowns, covariance: &[Unknowns; UNKNOWNS]) -> (Unknowns, f64) {
    let mut with = [0.0; UNKNOWNS];
    for (part, row) in of.iter().zip(covariance).filter(|(part, _)| **part != 0.0) {
        with.iter_mut().zip(row).for_each(|(sum, covariance)| *sum += part * covariance);
    }
    (with, of.iter().zip(with).map(|(part, with)| part * with).sum())
}

/// What is known of the unknowns: the effects, and the covariances of all.
pub(super) struct Posterior {
    pub(super) effects: Effects,
    pub(super) covariance: [Unknowns; UNKNOWNS],
}

impl Default for EffectSums {
    fn default() -> Self {
        Self { sums: [[0.0; COLUMNS]; UNKNOWNS], row: [0.0; COLUMNS] }
    }
}

impl EffectSums {
    /// Adds an observation of so many `seconds`: how much more than recently each unknown was a part of, and
    /// power. `weight` is one over the variance of its noise, of which the next one gives back the part
    /// `carried` ([`Noise`](super::noise::Noise)).
    pub(super) fn add(&mut self, unknowns: &Unknowns, watts: f64, weight: f64, carried: f64, seconds: f64) {
        let keep = (-seconds / DIFFERENCE_SECONDS).exp();
        let changes = unknowns.iter().copied().chain([watts]);
        self.row.iter_mut().zip(changes).for_each(|(sum, change)| *sum = *sum * carried + change);
        let changes = self.row;
        for (row, change) in self.sums.iter_mut().zip(changes) {
            let weighted = weight * change;
            row.iter_mut().zip(changes).for_each(|(sum, other)| *sum = *sum * keep + weighted * other);
        }
    }

    /// Integrates out an effect whose expected square is `variance`. Its place is free then.
    pub(super) fn integrate_out(&mut self, effect: usize, variance: f64) {
        let row = self.sums[effect];
        let pivot = row[effect] + 1.0 / variance;
        for (other, sums) in self.sums.iter_mut().enumerate() {
            let part = row[other] / pivot;
            if part != 0.0 {
                sums.iter_mut().zip(row).for_each(|(sum, of)| *sum -= part * of);
            }
            sums[effect] = 0.0;
        }
        self.sums[effect] = [0.0; COLUMNS];
        self.row[effect] = 0.0;
    }

    /// What the sums say of the effects in `kept`, and of the coefficients. `None` if they are no numbers.
    pub(super) fn posterior(&self, kept: &[usize], expected: &Expected<'_>) -> Option<Posterior> {
        let &Expected { squares, coefficients, levels } = expected;
        const MISSES: usize = Feature::CacheMisses as usize;
        let may_cost = |f: usize| match f {
            MISSES if self.sums[EFFECTS + f][EFFECTS + f] > 0.0 => coefficients[f].max(LEAST_MISSES),
            _ => coefficients[f],
        };
        let costly = (1..FEATURES).filter(|&f| may_cost(f) > 0.0);
        let unknowns: Vec<usize> = kept.iter().copied().chain(costly.map(|f| EFFECTS + f)).collect();
        let (mut matrix, mut left) = ([[0.0; UNKNOWNS]; UNKNOWNS], [0.0; UNKNOWNS]);
        for &unknown in &unknowns {
            let row = &self.sums[unknown];
            unknowns.iter().for_each(|&other| matrix[unknown][other] = row[other]);
            let square = match unknown.checked_sub(EFFECTS) {
                None => squares[unknown],
                Some(feature) => {
                    let others = matrix[unknown][EFFECTS..].iter_mut();
                    others.zip(levels[feature]).for_each(|(sum, level)| *sum += level);
                    (COEFFICIENT_ERROR * may_cost(feature)).powi(2)
                }
            };
            matrix[unknown][unknown] += 1.0 / square;
            let predicted = coefficients.iter().zip(&row[EFFECTS..POWER]).skip(1);
            left[unknown] = row[POWER] - predicted.map(|(c, sum)| c * sum).sum::<f64>();
        }
        let factor = Cholesky::of(&matrix, &unknowns)?;
        let found = factor.solve(&left);
        let effects = std::array::from_fn(|effect| found[effect]);
        found
            .iter()
            .all(|value| value.is_finite())
            .then(|| Posterior { effects, covariance: factor.inverse() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LEVELS: Matrix = [[0.0; FEATURES]; FEATURES];

    fn expected<'a>(squares: &'a Effects, coefficients: &'a Coefficients) -> Expected<'a> {
        Expected { squares, coefficients, levels: &NO_LEVELS }
    }

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
            sums.add(&unknowns(&effects, &[0.0; FEATURES]), watts, 1e6, 0.0, 0.1);
        }
        let variances = [0.01; EFFECTS];
        let posterior = |sums: &EffectSums, kept: &[usize]| {
            sums.posterior(kept, &expected(&variances, &[0.0; FEATURES])).expect("finite")
        };
        let all = posterior(&sums, &[0, 1, 2]);
        sums.integrate_out(2, variances[2]);
        let rest = posterior(&sums, &[0, 1]);
        // Nor does what the last observation carries count for another that gets its place.
        let mut next = sums.clone();
        next.add(&[0.0; UNKNOWNS], 0.0, 1e6, 0.9, 0.1);
        assert!(next.sums[2].iter().all(|sum| *sum == 0.0));
        for a in 0..2 {
            assert!((rest.effects[a] - all.effects[a]).abs() < 1e-12, "{:?}", rest.effects);
            for b in 0..2 {
                assert!((rest.covariance[a][b] - all.covariance[a][b]).abs() < 1e-12);
            }
        }
        assert!((all.effects[0] - truth[0]).abs() < 0.02, "{:?}", all.effects);
    }

    #[test]
    fn sums_that_are_no_numbers_say_nothing() {
        let mut sums = EffectSums::default();
        sums.add(&unknowns(&[1.0; EFFECTS], &[0.0; FEATURES]), f64::NAN, 1.0, 0.0, 0.1);
        assert!(sums.posterior(&[0, 1], &expected(&[0.01; EFFECTS], &[0.0; FEATURES])).is_none());
    }

    #[test]
    fn an_effect_that_changes_with_a_coefficient_is_as_unknown_as_that_is() {
        let time = Feature::Time as usize;
        let coefficients = std::array::from_fn(|f| if f == time { 10.0 } else { 0.0 });
        let sums = |together: bool| {
            let mut sums = EffectSums::default();
            // One consumer, which draws 10 W by prediction and 11 W in fact, and other CPU time beside it,
            // which comes and goes with it or alone.
            for second in 0..40 {
                let (one, all) =
                    (f64::from(second % 2), f64::from(second / if together { 1 } else { 2 } % 2));
                let (mut effects, mut features) = ([0.0; EFFECTS], [0.0; FEATURES]);
                (effects[0], features[time]) = (10.0 * one, one + all);
                sums.add(&unknowns(&effects, &features), 11.0 * one + 10.0 * all, 1e4, 0.0, 1.0);
            }
            sums
        };
        let of = |together: bool, levels: &Matrix| {
            let squares = [0.01; EFFECTS];
            let expected = Expected { levels, ..expected(&squares, &coefficients) };
            sums(together).posterior(&[0], &expected).expect("finite")
        };
        let (apart, together) = (of(false, &NO_LEVELS), of(true, &NO_LEVELS));
        let error = |of: &Posterior| of.covariance[0][0].sqrt();
        assert!((apart.effects[0] - 0.1).abs() < 0.003 && error(&apart) < 0.003, "{}", apart.effects[0]);
        assert!(together.effects[0] < 0.01 && error(&together) > 0.05, "{}", together.effects[0]);
        // What levels say of the coefficient determines the effect.
        let mut levels = NO_LEVELS;
        levels[time][time] = 1e6;
        let known = of(true, &levels);
        assert!((known.effects[0] - 0.1).abs() < 0.003 && error(&known) < 0.003, "{}", known.effects[0]);
    }

    #[test]
    fn what_misses_cost_is_unknown_where_the_fit_gives_them_nothing() {
        let (time, misses) = (Feature::Time as usize, Feature::CacheMisses as usize);
        let coefficients = std::array::from_fn(|f| if f == time { 10.0 } else { 0.0 });
        let error = |per_second: f64| {
            let (mut sums, mut features) = (EffectSums::default(), [0.0; FEATURES]);
            (features[time], features[misses]) = (1.0, per_second);
            sums.add(&unknowns(&[0.0; EFFECTS], &features), 10.0, 1e4, 0.0, 1.0);
            let squares = [0.01; EFFECTS];
            let posterior = sums.posterior(&[], &expected(&squares, &coefficients)).expect("finite");
            posterior.covariance[EFFECTS + misses][EFFECTS + misses].sqrt()
        };
        assert_eq!(error(0.0), 0.0, "nothing missed");
        assert!((error(1e-3) / (COEFFICIENT_ERROR * LEAST_MISSES) - 1.0).abs() < 0.01, "{}", error(1e-3));
    }

    #[test]
    fn what_comes_and_goes_fast_is_seen_with_the_noise_that_the_next_observation_gives_back() {
        // One comes and goes with each observation, the other with every tenth.
        let errors = |carried: f64| {
            let mut sums = EffectSums::default();
            for n in 0..200_u32 {
                let mut effects = [0.0; EFFECTS];
                effects[0] = f64::from(n % 2) - 0.5;
                effects[1] = f64::from(n / 10 % 2) - 0.5;
                let watts = 0.1 * effects[0] - 0.05 * effects[1];
                sums.add(&unknowns(&effects, &[0.0; FEATURES]), watts, 100.0, carried, 0.1);
            }
            let squares = [1.0; EFFECTS];
            let posterior = sums.posterior(&[0, 1], &expected(&squares, &[0.0; FEATURES])).expect("finite");
            let [fast, slow] = [0, 1].map(|effect| posterior.effects[effect]);
            assert!((fast - 0.1).abs() < 0.01 && (slow + 0.05).abs() < 0.01, "{fast} {slow}");
            [0, 1].map(|effect| posterior.covariance[effect][effect].sqrt())
        };
        let ([fast, slow], [fast_late, slow_late]) = (errors(0.0), errors(0.8));
        assert!((fast / slow - 1.0).abs() < 0.05, "{fast} {slow}");
        assert!(fast_late > 1.5 * fast && slow_late < 0.5 * slow, "{fast_late} {fast} {slow_late} {slow}");
    }
}
