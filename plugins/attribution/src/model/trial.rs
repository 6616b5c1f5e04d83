//! The trial of a candidate beside CPU time: whether it predicts power significantly worse. `model.rs` does
//! not use a candidate that has lost.
//!
//! Levels of power cannot decide this. Static power drifts, so under a load that hardly varies the candidate
//! looks better whose error happens to cancel the drift, however it divides. So the trial compares predicted
//! *changes* from one observation to the next, as far as they exceed the usual error of both; and a candidate
//! loses only when chance alone would hardly make it look that bad.

use super::constants::{TRIAL_DEVIATIONS, TRIAL_LEAST, TRIAL_MEMORY};

/// How a candidate did beside CPU time since it was last as good.
#[derive(Debug, Default)]
pub(super) struct ModelTrial {
    /// The sum of how much larger its error was: each observation adds from -1 (only the candidate was right)
    /// to 1.
    excess: f64,
    /// The sum of squares: the variance of `excess` if only chance made the difference.
    variance: f64,
}

impl ModelTrial {
    /// Adds the errors of the candidate and of CPU time when power changed, and the usual error of the better
    /// of them, in watts.
    pub(super) fn add(&mut self, candidate: f64, time: f64, usual: f64) {
        let (candidate, time) = (candidate.abs(), time.abs());
        let all = candidate + time + usual;
        if !(all.is_finite() && all > 0.0) {
            return;
        }
        let excess = (candidate - time) / all;
        let keep = 1.0 - 1.0 / TRIAL_MEMORY;
        self.excess = self.excess * keep + excess;
        self.variance = self.variance * keep * keep + excess * excess;
        if self.excess <= 0.0 {
            *self = Self::default();
        }
    }

    /// Whether the candidate did worse than chance explains, and so much worse that it matters.
    pub(super) fn is_lost(&self) -> bool {
        self.excess > (TRIAL_DEVIATIONS * self.variance.sqrt()).max(TRIAL_LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds so many observations; `errors` gives those of the candidate and of CPU time in each. Returns
    /// after how many of them the candidate had lost.
    fn lost(trial: &mut ModelTrial, observations: u32, errors: impl Fn(u32) -> (f64, f64)) -> u32 {
        (0..observations).fold(0, |lost, i| {
            let (candidate, time) = errors(i);
            trial.add(candidate, time, 1.0);
            lost + u32::from(trial.is_lost())
        })
    }

    #[test]
    fn a_candidate_with_larger_errors_loses_and_returns_when_they_are_smaller() {
        let mut trial = ModelTrial::default();
        assert_eq!(lost(&mut trial, 50, |_| (0.1, -9.0)), 0);
        let worse = |i: u32| (if i.is_multiple_of(2) { 8.0 } else { -12.0 }, 5.0);
        assert_eq!(lost(&mut trial, 9, worse), 0, "so few may be chance");
        assert_eq!(lost(&mut trial, 30, worse), 30);
        assert!(lost(&mut trial, 50, |_| (1.0, 2.0)) < 25);
        assert!(!trial.is_lost());
    }

    #[test]
    fn errors_far_below_the_usual_one_decide_nothing() {
        let mut trial = ModelTrial::default();
        lost(&mut trial, 20, |_| (8.0, 5.0));
        assert_eq!(lost(&mut trial, 20, |_| (1e-4, 2e-4)), 20, "power did not change, nor does the verdict");
        assert!(lost(&mut trial, 20, |_| (4.0, 8.0)) < 20);
        assert!(!trial.is_lost());
    }

    #[test]
    fn errors_that_are_hardly_larger_do_not_make_a_candidate_lose_however_often() {
        let mut trial = ModelTrial::default();
        assert_eq!(lost(&mut trial, 1_000, |_| (1.05, 1.0)), 0);
        assert!(lost(&mut trial, 100, |_| (1.5, 1.0)) > 50, "these matter");
    }

    #[test]
    fn random_errors_seldom_make_a_candidate_lose() {
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / f64::from(u32::MAX >> 1)
        };
        let mut trial = ModelTrial::default();
        let lost = (0..100_000).filter(|_| {
            trial.add(random(), random(), 0.2);
            trial.is_lost()
        });
        let lost = lost.count();
        assert!(lost < 1_000, "{lost} of 100,000");
    }
}
