//! Buckets against their definition.

use super::*;

/// The bounds of bucket `index`: above the first, up to the second.
fn bounds(index: i32, scale: i32) -> (f64, f64) {
    let bound = |index: i32| (f64::from(index) / 2f64.powi(scale)).exp2();
    (bound(index), bound(index + 1))
}

fn of(values: &[f64]) -> ExponentialHistogramDataPoint {
    let mut histogram = Histogram::default();
    values.iter().for_each(|&value| histogram.add(value));
    histogram.point()
}

#[test]
fn each_value_is_in_the_bucket_that_the_data_model_names() {
    let mut random = fastrand::Rng::with_seed(1);
    for (most, finest) in [(1.0001, 20), (4.0, 6), (1e3, 4), (1e300, -3)] {
        let values: Vec<f64> = (0..1000).map(|_| 10.0 * f64::powf(most, random.f64())).collect();
        let point = of(&values);
        let Buckets { offset, bucket_counts } = point.positive.unwrap();
        assert!(point.scale >= finest && bucket_counts.len() <= BUCKETS, "{} {most}", point.scale);
        for (at, count) in (offset..).zip(bucket_counts) {
            let (low, high) = bounds(at, point.scale);
            let (low, high) = (low * (1.0 - 1e-12), high * (1.0 + 1e-12));
            let within = values.iter().filter(|&&value| value > low && value <= high).count() as u64;
            assert_eq!(count, within, "bucket {at} of scale {}: {low}..{high}", point.scale);
        }
    }
}

#[test]
fn a_power_of_two_ends_its_bucket_at_every_scale() {
    for (value, scale, expected) in [
        (1.0, 0, -1),
        (2.0, 0, 0),
        (3.0, 0, 1),
        (4.0, 0, 1),
        (4.0, -1, 0),
        (5.0, -1, 1),
        (8.0, 3, 23),
        (0.25, 2, -9),
    ] {
        assert_eq!(index(value, scale), expected, "{value} at {scale}");
    }
    for exponent in -1000..1000 {
        for scale in -10..=20 {
            let (value, next) = (2f64.powi(exponent), 2f64.powi(exponent) * 1.5);
            let expected = ((i64::from(exponent) << 20) - 1) >> (20 - scale);
            assert_eq!(i64::from(index(value, scale)), expected, "2^{exponent} at {scale}");
            assert!(index(next, scale) > index(value, scale) || scale < 0);
        }
    }
}

#[test]
fn count_sum_and_extremes_are_those_of_the_values_and_nonsense_is_none() {
    let point = of(&[5.0, 0.0, 2.5, f64::NAN, -1.0, f64::INFINITY, 1e-310]);
    assert_eq!((point.count, point.zero_count, point.sum), (4, 2, Some(7.5)));
    assert_eq!((point.min, point.max), (Some(0.0), Some(5.0)));
    let buckets = point.positive.unwrap();
    assert_eq!(buckets.bucket_counts.iter().sum::<u64>(), 2);
    let empty = of(&[]);
    assert_eq!((empty.count, empty.min, empty.max), (0, None, None));
    // All of a double's range fits.
    let wide = of(&[f64::MIN_POSITIVE, 1.0, f64::MAX]);
    assert_eq!(wide.positive.unwrap().bucket_counts.iter().sum::<u64>(), 3);
}
