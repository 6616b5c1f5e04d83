//! What an interval says about the question of a comparison, and whether more runs could answer it.

use distrs::Normal;

use crate::plan::Plan;
use crate::shift::Shift;
use crate::summary::Interval;

/// What a comparison asks. Shifts are in the unit of the compared values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Question {
    /// Is B above or below A, or are both the same to within `by`?
    Differs {
        /// The smallest shift that matters.
        by: f64,
    },
    /// Is B above A by more than `limit`?
    Exceeds {
        /// The largest shift that is allowed.
        limit: f64,
    },
}

/// What the runs have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// B is above A.
    More,
    /// B is below A.
    Less,
    /// The two are the same, to within what the question asks.
    Same,
    /// B is above A by more than the limit.
    Exceeded,
    /// B is not above A by more than the limit.
    Held,
}

/// Below this chance of an answer a comparison is not worth its remaining runs.
const SLIM_CHANCE: f64 = 0.05;

impl Question {
    /// The answer, if the interval gives one.
    pub fn answer(&self, interval: Interval) -> Option<Answer> {
        let Interval { low, high } = interval;
        match *self {
            Question::Differs { .. } if low > 0.0 => Some(Answer::More),
            Question::Differs { .. } if high < 0.0 => Some(Answer::Less),
            Question::Differs { by } if low > -by && high < by => Some(Answer::Same),
            Question::Exceeds { limit } if low > limit => Some(Answer::Exceeded),
            Question::Exceeds { limit } if high <= limit => Some(Answer::Held),
            _ => None,
        }
    }

    /// Whether the last look of `plan` will hardly answer: with a chance of less than 5 %, given the shift
    /// and the noise of the first `runs` runs. Stopping then raises no false alarm.
    pub fn is_hopeless(&self, shift: &Shift, runs: usize, plan: &Plan) -> bool {
        let last = plan.last().runs;
        if runs >= last {
            return self.answer(shift.interval).is_none();
        }
        // How far the estimate will still move.
        let spread = shift.stddev * (2.0 / runs as f64 - 2.0 / last as f64).sqrt();
        let half = plan.last_half_width(shift.stddev);
        if spread <= 0.0 {
            return false;
        }
        let below = |value| Normal::cdf(value, shift.estimate, spread);
        let between = |low, high| f64::max(below(high) - below(low), 0.0);
        let chance = match *self {
            Question::Differs { by } => 1.0 - between(-half, half) + between(half - by, by - half),
            Question::Exceeds { limit } => 1.0 - between(limit - half, limit + half),
        };
        chance < SLIM_CHANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, high: f64) -> Interval {
        Interval { low, high }
    }

    #[test]
    fn an_interval_answers_when_it_leaves_one_possibility() {
        let differs = Question::Differs { by: 0.02 };
        let answers = [(0.01, 0.03), (-0.03, -0.01), (-0.01, 0.015), (-0.01, 0.03), (0.001, 0.01)]
            .map(|(low, high)| differs.answer(interval(low, high)));
        let expected = [Some(Answer::More), Some(Answer::Less), Some(Answer::Same), None, Some(Answer::More)];
        assert_eq!(answers, expected);
        let exceeds = Question::Exceeds { limit: 0.02 };
        let answers = [(0.021, 0.05), (-0.1, 0.02), (0.01, 0.03)]
            .map(|(low, high)| exceeds.answer(interval(low, high)));
        assert_eq!(answers, [Some(Answer::Exceeded), Some(Answer::Held), None]);
    }

    #[test]
    fn a_comparison_is_hopeless_when_noise_hides_what_it_asks() {
        let plan = Plan::new(20, 0.05).unwrap();
        let shift = |estimate, stddev| Shift { estimate, interval: interval(-1.0, 1.0), stddev };
        let differs = Question::Differs { by: 0.02 };
        // At the last look the interval will be ± 0.7 % wide with noise of 1 %, and ± 21 % with 30 %.
        assert!(!differs.is_hopeless(&shift(0.0, 0.01), 13, &plan), "it will show that nothing changed");
        assert!(differs.is_hopeless(&shift(0.01, 0.30), 13, &plan));
        assert!(!differs.is_hopeless(&shift(0.25, 0.30), 13, &plan), "a large shift may still be found");
        let exceeds = Question::Exceeds { limit: 0.02 };
        assert!(exceeds.is_hopeless(&shift(0.02, 0.05), 13, &plan), "the shift is at the limit");
        assert!(!exceeds.is_hopeless(&shift(-0.01, 0.02), 8, &plan));
        assert!(exceeds.is_hopeless(&shift(0.02, 0.01), 20, &plan), "no runs are left");
    }
}
