//! Static power from levels of power: a straight line through what was drawn at each utilisation, with its
//! standard error, alone and blended with the [`Prior`]. `learner.rs` has the levels.

use super::constants::{DRIFT_RANGE, STATIC_DRIFT};
use super::prior::Prior;

/// The least variance of utilisation that is no rounding error.
const LEAST_SPREAD: f64 = 1e-20;

/// What is known of static power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StaticPower {
    /// Its most probable value, W.
    pub(crate) watts: f64,
    /// Its standard error, W; 0 where it is given.
    pub(crate) error: f64,
}

/// The power that was drawn at a utilisation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    /// In observations.
    pub(super) weight: f64,
    pub(super) utilisation: f64,
    pub(super) watts: f64,
}

/// The line of least squares through levels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Observations.
    pub(super) weight: f64,
    /// Mean utilisation, and its variance.
    utilisation: f64,
    spread: f64,
    /// Mean power, W.
    watts: f64,
    /// Covariance of utilisation and power, W.
    covariance: f64,
    /// The variance of the mean power, W².
    variance: f64,
}

impl Line {
    /// The line through `levels`, whose power varies by `noise` (W²) from one observation to the next; `None`
    /// without levels.
    ///
    /// Noise averages out over observations. What the line does not explain and static power's drift do not:
    /// they average out over levels only.
    pub(super) fn through(levels: impl Iterator<Item = Level> + Clone, noise: f64) -> Option<Self> {
        let sum = |of: &dyn Fn(&Level) -> f64| levels.clone().map(|l| l.weight * of(&l)).sum::<f64>();
        let weight = sum(&|_| 1.0);
        if weight <= 0.0 {
            return None;
        }
        let (utilisation, watts) = (sum(&|l| l.utilisation) / weight, sum(&|l| l.watts) / weight);
        let spread = sum(&|l| (l.utilisation - utilisation).powi(2)) / weight;
        let spread = if spread < LEAST_SPREAD { 0.0 } else { spread };
        let covariance = sum(&|l| (l.utilisation - utilisation) * (l.watts - watts)) / weight;
        let slope = if spread > 0.0 { covariance / spread } else { 0.0 };
        let unexplained =
            sum(&|l| (l.watts - watts - slope * (l.utilisation - utilisation)).powi(2)) / weight;
        let count = weight * weight / sum(&|l| l.weight);
        // Static power drifts as the package warms up and cools, which dynamic power makes it do.
        let dynamic = if spread > 0.0 { (slope * utilisation).clamp(0.0, watts) } else { watts };
        let drift = STATIC_DRIFT * watts.min(DRIFT_RANGE * dynamic);
        let variance = noise / weight + (unexplained + drift * drift) / count;
        Some(Self { weight, utilisation, spread, watts, covariance, variance })
    }

    /// The standard error of static power where the line alone shows it, as a part of mean power; `None` if
    /// it was observed at one load only.
    ///
    /// It does not matter how much of the machine varied, but how far the loads lie from idleness compared
    /// with how much they differ.
    pub(super) fn relative_error(&self) -> Option<f64> {
        let variance = self.variance * (1.0 + self.utilisation.powi(2) / self.spread);
        Some(variance.sqrt() / self.watts).filter(|error| error.is_finite())
    }

    /// The standard error of static power where only mean power and the prior are known, as a part of mean
    /// power.
    pub(super) fn relative_error_of(&self, prior: &Prior) -> f64 {
        prior.static_part_error(self.utilisation)
    }

    /// Static power from the line and the prior, each by how sure it is.
    ///
    /// The prior is a pseudo-observation that adds the equation "static power is `share` of the power at full
    /// load" to those of the line: the surer the line is, the less it counts.
    pub(super) fn with_prior(&self, prior: &Prior) -> StaticPower {
        let Self { utilisation: u, spread, watts, covariance, .. } = *self;
        let full = watts / prior.over_full(u);
        // Both variances are in the unit of mean power, so that neither underflows.
        let line = 1.0 / self.variance.max((1e-6 * watts).powi(2)).max(f64::MIN_POSITIVE);
        let expected = 1.0 / (prior.error * full).powi(2).max(f64::MIN_POSITIVE);
        let (of_static, of_dynamic) = (1.0 - prior.share, -prior.share);
        let static_static = line + expected * of_static * of_static;
        let static_dynamic = line * u + expected * of_static * of_dynamic;
        let dynamic_dynamic = line * (u * u + spread) + expected * of_dynamic * of_dynamic;
        let determinant = static_static * dynamic_dynamic - static_dynamic * static_dynamic;
        let (level, change) = (line * watts, line * (u * watts + covariance));
        let found = (dynamic_dynamic * level - static_dynamic * change) / determinant;
        let error = (dynamic_dynamic / determinant).sqrt();
        if !(found.is_finite() && error.is_finite()) {
            return StaticPower { watts: watts * prior.static_part(u), error: watts };
        }
        StaticPower { watts: found.clamp(0.0, watts), error: error.min(watts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIOR: Prior = Prior { share: 0.2, error: 0.15 };

    fn line(levels: &[(f64, f64, f64)]) -> Line {
        let level = |&(weight, utilisation, watts): &_| Level { weight, utilisation, watts };
        Line::through(levels.iter().map(level), 0.01).unwrap()
    }

    #[test]
    fn one_load_is_divided_as_expected_and_the_error_says_how_far_off_that_may_be() {
        let StaticPower { watts, error } = line(&[(20.0, 0.5, 30.0)]).with_prior(&PRIOR);
        assert!((watts - 10.0).abs() < 0.01, "{watts}");
        assert!((5.0..7.0).contains(&error), "{error}");
        let StaticPower { watts, error } = line(&[(5.0, 0.02, 10.8)]).with_prior(&PRIOR);
        assert!((watts - 10.0).abs() < 0.05 && error < 0.9, "{watts} ± {error}: nearly idle");
    }

    #[test]
    fn one_load_without_noise_shows_nothing_of_static_power_whatever_the_weight() {
        for weight in 1..1000 {
            let level = Level { weight: f64::from(weight) * 0.9999, utilisation: 0.95, watts: 29.3 };
            let line = Line::through([level].into_iter(), 0.0).unwrap();
            assert_eq!(line.relative_error(), None, "{line:?}");
        }
    }

    #[test]
    fn the_prior_fades_as_loads_differ() {
        // 30 W at no load and 20 W more at full load: not what is expected.
        let truth = |u: f64| (10.0, u, 30.0 + 20.0 * u);
        let of = |loads: &[f64]| {
            let levels: Vec<_> = loads.iter().map(|&u| truth(u)).collect();
            line(&levels).with_prior(&PRIOR)
        };
        let [one, two, four] = [&[0.5][..], &[0.5, 1.0], &[0.0, 0.2, 0.5, 1.0]].map(of);
        assert!((one.watts - 40.0 / 3.0).abs() < 0.1, "{one:?}");
        assert!(two.watts > 25.0 && (30.0 - two.watts).abs() < 2.0 * two.error, "{two:?}");
        assert!((four.watts - 30.0).abs() < 0.7 && four.error < 1.0, "{four:?}");
        assert!(one.error > two.error && two.error > four.error, "{one:?} {two:?} {four:?}");
    }

    #[test]
    fn static_power_is_between_zero_and_the_mean() {
        assert_eq!(line(&[(9.0, 0.2, 30.0), (9.0, 0.8, 10.0)]).with_prior(&PRIOR).watts, 20.0);
        assert_eq!(line(&[(9.0, 0.5, 10.0), (9.0, 1.0, 90.0)]).with_prior(&PRIOR).watts, 0.0);
        let nothing = line(&[(9.0, 0.5, 0.0)]).with_prior(&PRIOR);
        assert_eq!((nothing.watts, nothing.error), (0.0, 0.0));
    }
}
