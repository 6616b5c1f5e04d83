//! The time from one update of a meter's counter to the next, as measured on real machines (9,997 updates
//! each): no meter updates exactly once a millisecond, and some do so in two rhythms.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// How the time between updates varies around its mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateInterval {
    /// Not at all.
    #[default]
    Constant,
    /// With a standard deviation of 2.8 %.
    KnightsLanding,
    /// With a standard deviation of 4.2 %.
    Broadwell,
    /// With one of 27 %: mostly after seven eighths of the mean, the others after one and a half times the
    /// mean; a few after almost three times. The median is 0.88 of the mean, the 99th percentile 1.65.
    IceLake,
}

impl UpdateInterval {
    /// The time to the next update in nanoseconds, where it is `mean` on average.
    pub(crate) fn next(self, mean: u64, random: &mut Random) -> u64 {
        let factor = match self {
            UpdateInterval::Constant => return mean,
            UpdateInterval::KnightsLanding => 1.0 + 0.028 * random.normal(),
            UpdateInterval::Broadwell => 1.0 + 0.042 * random.normal(),
            UpdateInterval::IceLake => match random.unit() {
                part if part < 0.81 => random.between(0.85, 0.90),
                part if part < 0.991 => random.between(1.35, 1.65),
                _ => random.between(1.68, 2.83),
            },
        };
        ((mean as f64 * factor) as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean, standard deviation, median, 99th percentile and maximum of 9,997 intervals, ms.
    fn measured(kind: UpdateInterval) -> [f64; 5] {
        let mut random = Random::new(11);
        let mut all: Vec<f64> = (0..9_997).map(|_| kind.next(1_000_000, &mut random) as f64 * 1e-6).collect();
        all.sort_by(f64::total_cmp);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / all.len() as f64;
        [mean, variance.sqrt(), all[all.len() / 2], all[all.len() * 99 / 100], all[all.len() - 1]]
    }

    fn assert_near(found: f64, expected: f64, by: f64) {
        assert!((found - expected).abs() <= by, "{found} for {expected}");
    }

    #[test]
    fn intervals_vary_as_they_did_on_real_machines() {
        assert_eq!(measured(UpdateInterval::Constant), [1.0, 0.0, 1.0, 1.0, 1.0]);
        for (kind, deviation) in [(UpdateInterval::KnightsLanding, 0.028), (UpdateInterval::Broadwell, 0.042)]
        {
            let [mean, found, ..] = measured(kind);
            assert_near(mean, 1.0, 0.002);
            assert_near(found, deviation, 0.002);
        }
        let [mean, deviation, median, late, latest] = measured(UpdateInterval::IceLake);
        assert_near(mean, 1.0, 0.01);
        assert_near(deviation, 0.27, 0.02);
        assert_near(median, 0.88, 0.01);
        assert_near(late, 1.65, 0.05);
        assert_near(latest, 2.83, 0.1);
    }
}
