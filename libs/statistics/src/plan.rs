//! When a comparison looks at its runs, and which error each look may make.

use distrs::Normal;

/// The runs a side of the first look: eight pairs have 256 orders, of which two are extreme, just within a
/// sixth of 5 %.
const FIRST: usize = 8;

/// The fewest pairs from which anything can be said with an error of 5 %: of 64 orders two are extreme.
const FEWEST_PAIRS: usize = 6;

/// The fewest runs a side without pairs: of 252 ways to divide ten runs two are extreme.
const FEWEST: usize = 5;

/// With three earlier ones, half of the error is left for the last look.
const MAX_LOOKS: usize = 4;

/// The part of the error that each look but the last may make.
const EARLY: f64 = 1.0 / 6.0;

/// A look at all runs so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Runs of each side.
    pub runs: usize,
    /// Probability with which its interval may miss the truth.
    pub error: f64,
}

/// The looks of a comparison. Their errors sum to the comparison's, so that it may stop at any of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    looks: Vec<Look>,
}

impl Plan {
    /// The plan for at most `runs` runs of each side, and a probability of a false alarm of at most `error`.
    /// `None` for fewer than six runs.
    pub fn new(runs: usize, error: f64) -> Option<Self> {
        if runs < FEWEST_PAIRS {
            return None;
        }
        let growth = runs as f64 / FIRST as f64;
        // Each look has at least 1.5 times as many runs as the one before.
        let count = (1 + (1.6 * growth.log2()).max(0.0).floor() as usize).min(MAX_LOOKS);
        let at = |look: usize| match count {
            1 => runs,
            _ => (FIRST as f64 * growth.powf(look as f64 / (count - 1) as f64)).round() as usize,
        };
        let error_of = |look: usize| match look + 1 == count {
            true => error * (1.0 - EARLY * (count - 1) as f64),
            false => error * EARLY,
        };
        let looks = (0..count).map(|look| Look { runs: at(look), error: error_of(look) }).collect();
        Some(Self { looks })
    }

    /// The plan that looks once, after `runs` runs of each side. `None` for fewer than five. Five are enough
    /// only if they are not pairs.
    pub fn once(runs: usize, error: f64) -> Option<Self> {
        (runs >= FEWEST).then(|| Self { looks: vec![Look { runs, error }] })
    }

    /// In order of their runs.
    pub fn looks(&self) -> &[Look] {
        &self.looks
    }

    /// The last one.
    pub fn last(&self) -> Look {
        self.looks[self.looks.len() - 1]
    }

    /// The smallest shift that the plan's last look finds in 95 of 100 comparisons, if the runs of a side
    /// have the standard deviation `stddev`.
    pub fn smallest_shift(&self, stddev: f64) -> f64 {
        (self.last_quantile() + quantile(0.95)) * self.last_deviation(stddev)
    }

    /// Half the width that the last look's interval will have.
    pub(crate) fn last_half_width(&self, stddev: f64) -> f64 {
        self.last_quantile() * self.last_deviation(stddev)
    }

    /// The standard deviation of the difference of the means at the last look.
    fn last_deviation(&self, stddev: f64) -> f64 {
        stddev * (2.0 / self.last().runs as f64).sqrt()
    }

    fn last_quantile(&self) -> f64 {
        quantile(1.0 - self.last().error / 2.0)
    }
}

/// Of the standard normal distribution.
fn quantile(p: f64) -> f64 {
    Normal::ppf(p, 0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(plan: &Plan) -> Vec<usize> {
        plan.looks().iter().map(|look| look.runs).collect()
    }

    #[test]
    fn looks_grow_geometrically_and_their_errors_sum_to_the_plans() {
        let cases: [(usize, &[usize]); 6] = [
            (6, &[6]),
            (12, &[12]),
            (13, &[8, 13]),
            (16, &[8, 16]),
            (20, &[8, 13, 20]),
            (100, &[8, 19, 43, 100]),
        ];
        for (most, expected) in cases {
            let plan = Plan::new(most, 0.05).unwrap();
            assert_eq!(runs(&plan), expected);
            let sum: f64 = plan.looks().iter().map(|look| look.error).sum();
            assert!((sum - 0.05).abs() < 1e-12, "{plan:?}");
        }
        assert_eq!((Plan::new(5, 0.05), Plan::once(4, 0.05)), (None, None));
        assert_eq!(Plan::once(20, 0.05).unwrap().looks(), [Look { runs: 20, error: 0.05 }]);
    }

    #[test]
    fn the_first_look_can_find_something() {
        assert!(Plan::new(20, 0.05).unwrap().looks()[0].error > 2.0 / 256.0);
    }

    #[test]
    fn noise_of_one_percent_lets_twenty_runs_find_little_more_than_one_percent() {
        let smallest = Plan::new(20, 0.05).unwrap().smallest_shift(0.01);
        // (2.1280 + 1.6449) · 1 % · √(2 / 20)
        assert!((smallest - 0.011_931).abs() < 1e-5, "{smallest}");
    }
}
