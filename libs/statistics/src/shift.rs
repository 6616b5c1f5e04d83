//! By how much one side is above the other: Hodges and Lehmann's estimate, and the interval that inverts
//! Wilcoxon's tests.
//!
//! Of a comparison, a run of each side makes a pair, in random order. A machine's speed drifts: neighbours,
//! the clock and the temperature change it within seconds. The two runs of a pair have most of that in
//! common, so the difference within a pair says more than the values. If B is A plus a constant, the
//! difference minus the constant is as likely to have one sign as the other, whatever the noise looks like:
//! Wilcoxon's signed-rank test is exact. Ranks give a run that something else disturbed little weight.
//!
//! Samples of different times have no pairs: there, Wilcoxon's rank-sum test takes their place.

use crate::rank::{self, Statistic};
use crate::summary::{Interval, quantile};

/// A run of each side, one right after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Value of side A.
    pub a: f64,
    /// Value of side B.
    pub b: f64,
    /// Whether B ran first: the order is random.
    pub b_first: bool,
}

/// By how much B is above A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The median of the means of any two differences.
    pub estimate: f64,
    /// What the shift may be.
    pub interval: Interval,
    /// The standard deviation of a run, less what the runs of a pair have in common. Outliers have little
    /// influence on it.
    pub stddev: f64,
}

/// The shift from A to B of `pairs`, in the order in which they ran. Its interval misses the true shift with
/// a probability of at most `error`, half of it on each side. `None` if there is no pair, or a value is not
/// finite.
pub fn paired_shift(pairs: &[Pair], error: f64) -> Option<Shift> {
    let differences = without_drift(pairs);
    if differences.is_empty() || differences.iter().any(|d| !d.is_finite()) {
        return None;
    }
    let count = differences.len();
    let mut means = Vec::with_capacity(count * (count + 1) / 2);
    for (at, d) in differences.iter().enumerate() {
        means.extend(differences[at..].iter().map(|e| (d + e) / 2.0));
    }
    Some(invert(means, &rank::signed_rank(count), error, (count as f64 / 2.0).sqrt()))
}

/// The shift from `a` to `b`, values of different times. Its interval misses the true shift with a
/// probability of at most `error` if nothing else changed in between. `None` if a side has no value, or a
/// value is not finite.
pub fn unpaired_shift(a: &[f64], b: &[f64], error: f64) -> Option<Shift> {
    if a.is_empty() || b.is_empty() || a.iter().chain(b).any(|v| !v.is_finite()) {
        return None;
    }
    let differences = a.iter().flat_map(|a| b.iter().map(move |b| b - a)).collect();
    let runs = (1.0 / a.len() as f64 + 1.0 / b.len() as f64).recip();
    Some(invert(differences, &rank::rank_sum(a.len(), b.len()), error, runs.sqrt()))
}

/// B minus A of each pair, less the drift from its first run to its second: that between its mean and the
/// mean of the pair before or after, whichever is smaller, if both are in the same direction. So a disturbed
/// run does not spread to its neighbours. The mean of a pair is the same in either order, so this leaves the
/// signs as random as they were.
fn without_drift(pairs: &[Pair]) -> Vec<f64> {
    let mean = |at: usize| (pairs[at].a + pairs[at].b) / 2.0;
    let drift = |at: usize| {
        if at == 0 || at + 1 == pairs.len() {
            return 0.0;
        }
        // The means are two runs apart.
        let (before, after) = ((mean(at) - mean(at - 1)) / 2.0, (mean(at + 1) - mean(at)) / 2.0);
        match before * after > 0.0 {
            true if before.abs() < after.abs() => before,
            true => after,
            false => 0.0,
        }
    };
    let difference = |(at, pair): (usize, &Pair)| {
        let drift = if pair.b_first { -drift(at) } else { drift(at) };
        pair.b - pair.a - drift
    };
    pairs.iter().enumerate().map(difference).collect()
}

/// The shift whose possible values are `candidates`: a test's `statistic` is the number of them above the
/// true shift. `runs` turns the standard deviation of the estimate into that of a run.
fn invert(mut candidates: Vec<f64>, statistic: &Statistic, error: f64, runs: f64) -> Shift {
    candidates.sort_by(f64::total_cmp);
    let ends = |excluded: usize| {
        let low = excluded.checked_sub(1).map_or(f64::NEG_INFINITY, |at| candidates[at]);
        let high = excluded.checked_sub(1).map_or(f64::INFINITY, |at| candidates[candidates.len() - 1 - at]);
        Interval { low, high }
    };
    // The interval of about one standard deviation.
    let (excluded, deviations) = statistic.about_one_deviation();
    let Interval { low, high } = ends(excluded);
    let deviation = if excluded > 0 { (high - low) / 2.0 / deviations } else { 0.0 };
    Shift {
        estimate: quantile(&candidates, 0.5),
        interval: ends(statistic.excluded(error)),
        stddev: deviation * runs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(differences: &[f64]) -> Vec<Pair> {
        let order = [false, true, true, false, true].into_iter().cycle();
        differences.iter().zip(order).map(|(d, b_first)| Pair { a: 10.0, b: 10.0 + d, b_first }).collect()
    }

    #[test]
    fn differences_have_the_estimate_and_the_interval_of_textbooks() {
        // R: wilcox.test(x, conf.int = TRUE, conf.level = 0.95), of paired values that do not drift. The
        // values are the differences of Hollander and Wolfe's depression scores.
        let before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
        #[expect(clippy::approx_constant, reason = "a score that happens to be near π")]
        let after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
        let differences: Vec<f64> = before.iter().zip(after).map(|(b, a)| b - a).collect();
        let mut means = Vec::new();
        for (at, d) in differences.iter().enumerate() {
            means.extend(differences[at..].iter().map(|e| (d + e) / 2.0));
        }
        let found = invert(means, &rank::signed_rank(9), 0.05, 1.0);
        assert!((found.estimate - 0.46).abs() < 1e-9, "{found:?}");
        assert!((found.interval.low - 0.01).abs() < 1e-9, "{found:?}");
        assert!((found.interval.high - 0.786).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn samples_of_different_times_are_compared_by_the_rank_sum_test() {
        // Of 252 ways to divide the ten values, the error allows one at each end.
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0], [11.0, 12.0, 13.0, 14.0, 15.0]);
        let found = unpaired_shift(&a, &b, 0.008).unwrap();
        assert_eq!((found.estimate, found.interval), (10.0, Interval { low: 6.0, high: 14.0 }));
        let found = unpaired_shift(&a[..3], &b[..3], 0.05).unwrap();
        assert_eq!(found.interval, Interval { low: f64::NEG_INFINITY, high: f64::INFINITY });
        assert_eq!((unpaired_shift(&[], &b, 0.05), unpaired_shift(&a, &[f64::NAN], 0.05)), (None, None));
    }

    #[test]
    fn too_few_pairs_for_the_error_bound_nothing() {
        let found = paired_shift(&pairs(&[1.0, 1.1, 0.9, 1.0, 1.05]), 0.05).unwrap();
        assert!((found.estimate - 1.0).abs() < 0.05, "{found:?}");
        assert_eq!(found.interval, Interval { low: f64::NEG_INFINITY, high: f64::INFINITY });
        assert_eq!(paired_shift(&[], 0.05), None);
    }

    #[test]
    fn a_drift_and_a_run_that_was_disturbed_move_the_shift_little() {
        let noise = [0.02, -0.01, 0.0, 0.01, -0.02, 0.01, -0.01, 0.0, 0.02, -0.02, 0.01, 0.0, -0.01, 0.02];
        let mut pairs = pairs(&noise.map(|n| 1.0 + n));
        for (at, pair) in pairs.iter_mut().enumerate() {
            // Half a unit from run to run.
            let (first, second) = (at as f64, at as f64 + 0.5);
            (pair.a, pair.b) = match pair.b_first {
                true => (pair.a + second, pair.b + first),
                false => (pair.a + first, pair.b + second),
            };
        }
        let found = paired_shift(&pairs, 0.05).unwrap();
        assert!((found.estimate - 1.0).abs() < 0.01 && found.stddev < 0.25, "{found:?}");
        pairs[4].b += 100.0;
        let found = paired_shift(&pairs, 0.05).unwrap();
        assert!((found.estimate - 1.0).abs() < 0.02, "{found:?}");
        assert!(found.interval.low > 0.6 && found.interval.high < 1.4, "{found:?}");
    }

    #[test]
    fn the_deviation_is_that_of_a_run() {
        let mut random = fastrand::Rng::with_seed(3);
        // Sums of twelve uniform values: a standard deviation of 1.
        let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let pairs: Vec<Pair> =
            (0..400).map(|at| Pair { a: normal(), b: normal(), b_first: at % 3 == 0 }).collect();
        let paired = paired_shift(&pairs, 0.05).unwrap().stddev;
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().map(|pair| (pair.a, pair.b)).unzip();
        let unpaired = unpaired_shift(&a, &b[..100], 0.05).unwrap().stddev;
        assert!((0.9..1.15).contains(&paired) && (0.9..1.1).contains(&unpaired), "{paired} {unpaired}");
    }
}
