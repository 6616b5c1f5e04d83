//! How much of what predictions miss is expected: effects and coefficients are not known exactly
//! (`effect_sums.rs`), and what mixtures of code cost is new in each window. The rest of it is noise.
//!
//! A part that is taken for noise counts twice: it makes what is learnt look less certain, and so it is
//! learnt more slowly.

use super::constants::DIFFERENCE_SECONDS;
use super::effect_sums::{UNKNOWNS, Unknowns, covariance_with};

/// A sum over the last minutes, as the learner has it of what is missed: over observations, or over long ones
/// that several are added up to.
#[derive(Clone, Debug)]
pub(super) struct ExpectedError {
    /// The length from which an observation is complete, s.
    least: f64,
    /// The changes of the one that is not yet, each times its length, W·s.
    changes: Unknowns,
    /// The variance of what mixtures cost in it, W²·s².
    of_mixtures: f64,
    seconds: f64,
    /// Variances of observations, as parts of power's square.
    sum: f64,
}

impl ExpectedError {
    /// That of observations which are added up until they last for `least` seconds.
    pub(super) fn over(least: f64) -> Self {
        Self { least, changes: [0.0; UNKNOWNS], of_mixtures: 0.0, seconds: 0.0, sum: 0.0 }
    }

    /// Adds an observation of so many `seconds` before it is learnt: how much more than recently each
    /// unknown was a part of, and the variance of what mixtures cost, W². `weight` makes squares of power
    /// parts of it.
    pub(super) fn add(
        &mut self,
        changes: &Unknowns,
        of_mixtures: f64,
        weight: f64,
        seconds: f64,
        covariance: &[Unknowns; UNKNOWNS],
    ) {
        self.changes.iter_mut().zip(changes).for_each(|(sum, change)| *sum += change * seconds);
        self.of_mixtures += of_mixtures * seconds * seconds;
        self.seconds += seconds;
        if self.seconds < self.least {
            return;
        }
        let (_, of_unknowns) = covariance_with(&self.changes, covariance);
        let mean = (of_unknowns + self.of_mixtures) / (self.seconds * self.seconds);
        let keep = (-self.seconds / DIFFERENCE_SECONDS).exp();
        *self = Self { sum: self.sum * keep + weight * mean, ..Self::over(self.least) };
    }

    /// The sum.
    pub(super) fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_expected_as_far_as_it_changes_over_a_long_observation() {
        let mut covariance = [[0.0; UNKNOWNS]; UNKNOWNS];
        (covariance[0][0], covariance[1][1]) = (0.04, 0.09);
        (covariance[0][1], covariance[1][0]) = (0.03, 0.03);
        let mut expected = ExpectedError::over(0.99);
        // Over a second, the first comes and goes, and the second is there for half of it.
        for tenth in 0..10 {
            assert_eq!(expected.sum(), 0.0);
            let mut changes = [0.0; UNKNOWNS];
            (changes[0], changes[1]) =
                (if tenth % 2 == 0 { 8.0 } else { -8.0 }, if tenth < 5 { 2.0 } else { 0.0 });
            expected.add(&changes, 10.0, 0.5, 0.1, &covariance);
        }
        // (0.09 · 1 W² + 10 observations of 10 W² over a tenth of a second each) · 0.5
        assert!((expected.sum() - 0.5 * (0.09 + 1.0)).abs() < 1e-9, "{}", expected.sum());
        // A minute later it has faded, and what changes together counts as such.
        let changes = std::array::from_fn(|unknown| if unknown < 2 { 1.0 } else { 0.0 });
        expected.add(&changes, 0.0, 1.0, DIFFERENCE_SECONDS, &covariance);
        let faded = 0.5 * 1.09 * (-1.0_f64).exp();
        assert!((expected.sum() - faded - 0.19).abs() < 1e-9, "{}", expected.sum());
    }
}
