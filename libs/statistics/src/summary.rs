//! One sample: mean, median, standard deviation, the mean's interval, and outliers.

use distrs::StudentsT;
use serde::Serialize;

/// A range of values, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end; `-inf` if there are too few values to bound it.
    pub low: f64,
    /// The upper end; `inf` if there are too few values to bound it.
    pub high: f64,
}

impl Interval {
    /// The interval with both ends changed by `change`, which must be increasing.
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self { low: change(self.low), high: change(self.high) }
    }
}

/// A sample, summed up. All values have the unit of the sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Number of values.
    pub count: usize,
    /// The arithmetic mean.
    pub mean: f64,
    /// The middle value, or the mean of both middle ones.
    pub median: f64,
    /// The sample's standard deviation; `None` for one value.
    pub stddev: Option<f64>,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// Student's 95 % interval of the mean; `None` for one value.
    pub ci95: Option<Interval>,
    /// Indices of the values that are far from the others: see [`outliers`].
    pub outliers: Vec<usize>,
}

impl Summary {
    /// Sums up `values`. `None` if there is none, or one is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let degrees = count as f64 - 1.0;
        let stddev =
            (count > 1).then(|| (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / degrees).sqrt());
        let ci95 = stddev.map(|stddev| {
            let half = StudentsT::ppf(0.975, degrees) * stddev / (count as f64).sqrt();
            Interval { low: mean - half, high: mean + half }
        });
        Some(Self {
            count,
            mean,
            median: quantile(&sorted, 0.5),
            stddev,
            min: sorted[0],
            max: sorted[count - 1],
            ci95,
            outliers: outliers(values),
        })
    }
}

/// The quantile `p` of values in ascending order, interpolated; NaN without values.
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = p.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    sorted[below] + part * (sorted[(below + 1).min(last)] - sorted[below])
}

/// The median absolute deviation of a normal distribution, in standard deviations.
const MAD_OF_NORMAL: f64 = 0.6745;

/// From how many standard deviations on a value is an outlier. The deviation is itself estimated from few
/// values, so that 3.5, as for large samples, would name ordinary ones.
const OUTLIER: f64 = 5.0;

/// Below how many values nothing is called an outlier.
const MIN_FOR_OUTLIERS: usize = 5;

/// Indices of values that are more than five standard deviations away from the median. The standard deviation
/// comes from the median absolute deviation, on which outliers have little influence.
pub fn outliers(values: &[f64]) -> Vec<usize> {
    if values.len() < MIN_FOR_OUTLIERS {
        return Vec::new();
    }
    let median_of = |values: &mut [f64]| {
        values.sort_by(f64::total_cmp);
        quantile(values, 0.5)
    };
    let median = median_of(&mut values.to_vec());
    let mut distances: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
    let scale = median_of(&mut distances) / MAD_OF_NORMAL;
    (0..values.len()).filter(|&at| scale > 0.0 && (values[at] - median).abs() > OUTLIER * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_summed_up_as_textbooks_do() {
        let of = Summary::of(&[4.0, 2.0, 8.0, 6.0]).unwrap();
        assert_eq!((of.count, of.mean, of.median, of.min, of.max), (4, 5.0, 5.0, 2.0, 8.0));
        assert!((of.stddev.unwrap() - 2.581_988_9).abs() < 1e-6);
        // The quantile of Student's t with three degrees of freedom is 3.182446.
        let interval = of.ci95.unwrap();
        assert!((interval.high - 5.0 - 3.182_446 * 2.581_988_9 / 2.0).abs() < 1e-5, "{interval:?}");
        assert!((interval.low + interval.high - 10.0).abs() < 1e-9);
    }

    #[test]
    fn one_value_has_no_spread_and_none_has_no_summary() {
        let one = Summary::of(&[3.0]).unwrap();
        assert_eq!((one.mean, one.median, one.stddev, one.ci95), (3.0, 3.0, None, None));
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let sorted = [1.0, 2.0, 4.0];
        let at = [0.0, 0.25, 0.5, 0.75, 1.0].map(|p| quantile(&sorted, p));
        assert_eq!(at, [1.0, 1.5, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn a_value_far_from_the_others_is_an_outlier_and_it_does_not_hide_a_second_one() {
        assert_eq!(outliers(&[1.0, 1.1, 9.0, 0.9, 1.0, 1.05, 0.95, 8.0, 1.0]), [2, 7]);
        assert_eq!(outliers(&[1.0, 1.1, 1.2, 0.9, 1.3]), []);
        assert_eq!(outliers(&[1.0, 1.0, 1.0, 1.0, 5.0]), [], "without any spread nothing is far");
    }
}
