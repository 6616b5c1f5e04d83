//! When a comparison looks at its runs, and which error each look may make.

use distrs::Normal;

/// The fewest runs a side from which anything can be said: those of the first look.
const FIRST: usize = 5;

/// Half of the error is kept for the last look. With three others each of them gets a sixth, of 5 % just
/// above the smallest error that five runs against five can have: 2 of 252 assignments.
const MAX_LOOKS: usize = 4;

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
    /// `None` for fewer than five runs.
    pub fn new(runs: usize, error: f64) -> Option<Self> {
        if runs < FIRST {
            return None;
        }
        let growth = runs as f64 / FIRST as f64;
        // Looks are at least 1.6 times as far apart as the one before.
        let count = (1 + (1.5 * growth.log2()).floor() as usize).min(MAX_LOOKS);
        let at = |look: usize| match count {
            1 => runs,
            _ => (FIRST as f64 * growth.powf(look as f64 / (count - 1) as f64)).round() as usize,
        };
        let error_of = |look: usize| match count {
            1 => error,
            _ if look + 1 == count => error / 2.0,
            _ => error / 2.0 / (count - 1) as f64,
        };
        let looks = (0..count).map(|look| Look { runs: at(look), error: error_of(look) }).collect();
        Some(Self { looks })
    }

    /// The plan that looks once, after `runs` runs of each side. `None` for fewer than five.
    pub fn once(runs: usize, error: f64) -> Option<Self> {
        (runs >= FIRST).then(|| Self { looks: vec![Look { runs, error }] })
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
            (5, &[5]),
            (7, &[7]),
            (10, &[5, 10]),
            (14, &[5, 8, 14]),
            (20, &[5, 8, 13, 20]),
            (100, &[5, 14, 37, 100]),
        ];
        for (most, expected) in cases {
            let plan = Plan::new(most, 0.05).unwrap();
            assert_eq!(runs(&plan), expected);
            let sum: f64 = plan.looks().iter().map(|look| look.error).sum();
            assert!((sum - 0.05).abs() < 1e-12, "{plan:?}");
        }
        assert_eq!((Plan::new(4, 0.05), Plan::once(4, 0.05)), (None, None));
        assert_eq!(Plan::once(20, 0.05).unwrap().looks(), [Look { runs: 20, error: 0.05 }]);
    }

    #[test]
    fn the_first_look_can_find_something() {
        // Five runs against five have C(10, 5) = 252 assignments, two of which are extreme.
        assert!(Plan::new(20, 0.05).unwrap().looks()[0].error > 2.0 / 252.0);
    }

    #[test]
    fn noise_of_one_percent_lets_twenty_runs_find_one_and_a_quarter_percent() {
        let smallest = Plan::new(20, 0.05).unwrap().smallest_shift(0.01);
        // (2.2414 + 1.6449) · 1 % · √(2 / 20)
        assert!((smallest - 0.012_289).abs() < 1e-5, "{smallest}");
    }
}
