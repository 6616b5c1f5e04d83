//! The distributions of Wilcoxon's rank statistics where both sides are the same: exact for small samples,
//! normal for larger ones. `shift.rs` turns them into intervals.

use distrs::Normal;

/// Up to how many values the distribution is exact.
const EXACT: usize = 50;

/// The distribution of a statistic that counts: it is symmetric.
pub(crate) enum Statistic {
    /// The probability of each value.
    Exact(Vec<f64>),
    Normal {
        mean: f64,
        stddev: f64,
    },
}

/// Of the signed-rank statistic of `count` differences: the number of pairs of them whose sum is positive.
pub(crate) fn signed_rank(count: usize) -> Statistic {
    if count > EXACT {
        return normal_signed_rank(count);
    }
    // Each rank counts with a probability of a half.
    let mut probability = vec![0.0; count * (count + 1) / 2 + 1];
    probability[0] = 1.0;
    for rank in 1..=count {
        for value in (0..probability.len()).rev() {
            let without = probability[value];
            let with = value.checked_sub(rank).map_or(0.0, |rest| probability[rest]);
            probability[value] = (without + with) / 2.0;
        }
    }
    Statistic::Exact(probability)
}

fn normal_signed_rank(count: usize) -> Statistic {
    let n = count as f64;
    let variance = n * (n + 1.0) * (2.0 * n + 1.0) / 24.0;
    Statistic::Normal { mean: n * (n + 1.0) / 4.0, stddev: variance.sqrt() }
}

/// Of the rank-sum statistic: the number of pairs of one of `a` and one of `b` values in which the second is
/// larger.
pub(crate) fn rank_sum(a: usize, b: usize) -> Statistic {
    let (of_a, of_b) = (a as f64, b as f64);
    if a + b > EXACT {
        let variance = of_a * of_b * (of_a + of_b + 1.0) / 12.0;
        return Statistic::Normal { mean: of_a * of_b / 2.0, stddev: variance.sqrt() };
    }
    // ways[chosen][value]: the ways to choose so many of the places seen so far for B.
    let mut ways = vec![vec![0.0; a * b + 1]; b + 1];
    ways[0][0] = 1.0;
    for place in 0..a + b {
        for chosen in (1..=b.min(place + 1)).rev() {
            // Those of the places before that are A's are below.
            let below = place + 1 - chosen;
            for value in below..=a * b {
                ways[chosen][value] += ways[chosen - 1][value - below];
            }
        }
    }
    let mut ways = ways.pop().unwrap_or_default();
    let all: f64 = ways.iter().sum();
    ways.iter_mut().for_each(|ways| *ways /= all);
    Statistic::Exact(ways)
}

impl Statistic {
    /// How many of the smallest values, and of the largest ones, have a probability of at most `error` in
    /// all.
    pub(crate) fn excluded(&self, error: f64) -> usize {
        match self {
            Self::Exact(probability) => {
                let mut sum = 0.0;
                let is_within = |p: &&f64| {
                    sum += **p;
                    sum <= error / 2.0 + 1e-12
                };
                probability.iter().take_while(is_within).count()
            }
            Self::Normal { mean, stddev } => {
                (Normal::ppf(error / 2.0, *mean, *stddev) + 0.5).floor().max(0.0) as usize
            }
        }
    }

    /// How many values to exclude at either end for an interval of about one standard deviation to either
    /// side, and how many standard deviations it is. 0: there are too few values for any.
    pub(crate) fn about_one_deviation(&self) -> (usize, f64) {
        let excluded = self.excluded(0.32);
        let outside = match self {
            Self::Exact(probability) => probability[..excluded].iter().sum(),
            Self::Normal { mean, stddev } => Normal::cdf(excluded as f64 - 0.5, *mean, *stddev),
        };
        (excluded, -Normal::ppf(outside, 0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(statistic: Statistic) -> Vec<f64> {
        match statistic {
            Statistic::Exact(probability) => probability,
            Statistic::Normal { .. } => panic!("it is normal"),
        }
    }

    #[test]
    fn small_samples_have_the_counts_of_all_orders() {
        // Sums of the ranks 1, 2 and 3.
        let expected = [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0].map(|ways| ways / 8.0);
        assert_eq!(exact(signed_rank(3)), expected);
        // Two of four places.
        let expected = [1.0, 1.0, 2.0, 1.0, 1.0].map(|ways| ways / 6.0);
        assert_eq!(exact(rank_sum(2, 2)), expected);
    }

    #[test]
    fn critical_values_are_those_of_tables() {
        // One more than the table's largest value of the statistic at which the sides differ.
        assert_eq!([6, 8, 10, 20].map(|n| signed_rank(n).excluded(0.05)), [1, 4, 9, 53]);
        assert_eq!([(5, 5), (8, 10), (20, 20)].map(|(a, b)| rank_sum(a, b).excluded(0.05)), [3, 18, 128]);
        assert_eq!((signed_rank(5).excluded(0.05), rank_sum(3, 3).excluded(0.05)), (0, 0));
    }

    #[test]
    fn the_normal_distribution_continues_the_exact_one() {
        let [exact, normal] = [signed_rank(EXACT), normal_signed_rank(EXACT)].map(|s| s.excluded(0.05));
        assert!(exact.abs_diff(normal) <= 1, "{exact} {normal}");
        let (excluded, deviations) = signed_rank(200).about_one_deviation();
        assert!(excluded > 0 && (0.95..1.05).contains(&deviations), "{excluded} {deviations}");
    }
}
