//! How power differs now from what coefficients say: static and dynamic power, each by a part of itself.
//!
//! Coefficients describe minutes and more. Within that time a package warms up and leaks more, and code runs,
//! at a clock or a voltage, that costs more than the counters tell. Both show as an error of predicted power.
//! Which of the two it is, the last seconds tell as far as the load varied in them; for the rest, that of
//! which a larger error is expected takes more of it.
//!
//! All consumers' weights differ by the same factor then, so it does not change how dynamic energy is
//! divided. It tells static from dynamic power, and makes predictions right. `learner.rs` has the last
//! seconds, which all candidates share.

use super::constants::{CODE_SPREAD, MAX_LASTING, MIN_UNEXPLAINED, RECENT_SECONDS};
use super::features::{Coefficients, FEATURES, Feature, Features, dynamic_watts};
use super::nnls::Matrix;
use super::observation::Observation;
use super::recent::kept;

const STATIC: usize = Feature::Always as usize;

/// By how much power differs from what coefficients say, as parts of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Correction {
    pub(super) of_static: f64,
    pub(super) of_dynamic: f64,
}

/// How surely the last seconds show each of the two: one over the variance. 0 where the load did not vary.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Precisions {
    /// Of static power, 1/W².
    pub(super) of_static: f64,
    /// Of dynamic power, as a part of it.
    pub(super) of_dynamic: f64,
}

/// The last seconds: the normal equations of power by features, as means. Errors count as parts of power.
#[derive(Clone, Debug, Default)]
pub(super) struct LastSeconds {
    features: Matrix,
    watts: Features,
}

/// Weighted means over the last seconds: of one, of the dynamic power that coefficients say, and of its
/// square.
struct Sums {
    count: f64,
    dynamic: f64,
    squares: f64,
}

impl LastSeconds {
    /// Adds an observation. Errors are as large as at a power of `least` (above 0) where less is drawn.
    pub(super) fn add(&mut self, observation: &Observation, least: f64) {
        let Observation { rates, watts, seconds, .. } = observation;
        let keep = kept(*seconds);
        let weight = (1.0 - keep) * watts.max(least).powi(-2);
        for i in 0..FEATURES {
            self.watts[i] = self.watts[i] * keep + weight * rates[i] * watts;
            for j in 0..FEATURES {
                self.features[i][j] = self.features[i][j] * keep + weight * rates[i] * rates[j];
            }
        }
    }

    /// How static and dynamic power differ from what `coefficients` say. Their standard deviations are
    /// expected to be `expected`, the first as a part of static power, the second as a part of all power; of
    /// dynamic power that is a larger part, but no larger than kinds of code differ by. One of 0 is known not
    /// to differ. `unexplained` is the standard deviation of what coefficients leave unexplained of power
    /// over a second, as a part of it. It may last for all of these seconds, up to `MAX_LASTING`.
    pub(super) fn correction(
        &self,
        coefficients: &Coefficients,
        expected: [f64; 2],
        unexplained: f64,
    ) -> Correction {
        let Sums { count, dynamic, squares } = self.sums(coefficients);
        let rest = unexplained.clamp(MIN_UNEXPLAINED, MAX_LASTING).powi(2);
        let usual_watts = (squares / count.max(f64::MIN_POSITIVE)).sqrt();
        let all_over_dynamic = (coefficients[STATIC] + usual_watts) / usual_watts.max(f64::MIN_POSITIVE);
        let [static_part, part_of_all] = expected;
        // The equations of the two parts' errors, in units of their deviations.
        let s = static_part * coefficients[STATIC];
        let d = part_of_all.max((part_of_all * all_over_dynamic).min(CODE_SPREAD));
        let of_static = self.watts[STATIC] - coefficients[STATIC] * count - dynamic;
        let of_dynamic = dynamic_watts(coefficients, &self.watts) - coefficients[STATIC] * dynamic - squares;
        let (ss, sd, dd) = (s * s * count + rest, s * d * dynamic, d * d * squares + rest);
        let (static_error, dynamic_error, determinant) = (s * of_static, d * of_dynamic, ss * dd - sd * sd);
        let correction = Correction {
            of_static: static_part * (dd * static_error - sd * dynamic_error) / determinant,
            of_dynamic: d * (ss * dynamic_error - sd * static_error) / determinant,
        };
        let is_finite = correction.of_static.is_finite() && correction.of_dynamic.is_finite();
        if is_finite { correction } else { Correction::default() }
    }

    /// How surely the last seconds tell static power from a dynamic power that is off by an unknown factor,
    /// and the reverse. `noise` is the variance of what `coefficients` leave unexplained of power over a
    /// second, as a part of it.
    pub(super) fn precisions(&self, coefficients: &Coefficients, noise: f64) -> Precisions {
        let Sums { count, dynamic, squares } = self.sums(coefficients);
        let seconds = RECENT_SECONDS / noise.max(f64::MIN_POSITIVE);
        let left = |of: f64, other: f64| (of - dynamic * dynamic / other.max(f64::MIN_POSITIVE)).max(0.0);
        Precisions { of_static: seconds * left(count, squares), of_dynamic: seconds * left(squares, count) }
    }

    fn sums(&self, coefficients: &Coefficients) -> Sums {
        let row = |i: usize| dynamic_watts(coefficients, &self.features[i]);
        let squares = (0..FEATURES).filter(|&i| i != STATIC).map(|i| coefficients[i] * row(i)).sum();
        Sums { count: self.features[STATIC][STATIC], dynamic: row(STATIC), squares }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 W of static power and 10 W per CPU.
    fn coefficients() -> Coefficients {
        let mut coefficients = [0.0; FEATURES];
        (coefficients[STATIC], coefficients[Feature::Time as usize]) = (10.0, 10.0);
        coefficients
    }

    /// A minute of seconds in which CPU time is each of `loads` in turn. What is drawn differs by `parts`
    /// from what [`coefficients`] say.
    fn minute(loads: &[f64], parts: [f64; 2]) -> LastSeconds {
        let mut seconds = LastSeconds::default();
        for second in 0..60 {
            let mut rates = [0.0; FEATURES];
            (rates[STATIC], rates[Feature::Time as usize]) = (1.0, loads[second % loads.len()]);
            let dynamic = 10.0 * rates[Feature::Time as usize];
            let watts = 10.0 * (1.0 + parts[0]) + dynamic * (1.0 + parts[1]);
            seconds.add(
                &Observation { rates, utilisation: 0.5, watts, seconds: 1.0, awake_variance: 0.0 },
                1e-3,
            );
        }
        seconds
    }

    /// The correction after [`minute`].
    fn corrected(loads: &[f64], parts: [f64; 2], expected: [f64; 2]) -> [f64; 2] {
        let Correction { of_static, of_dynamic } =
            minute(loads, parts).correction(&coefficients(), expected, 0.005);
        [of_static, of_dynamic]
    }

    #[test]
    fn static_power_is_known_as_far_as_the_load_varied() {
        // Power is off by 0.1 % of itself from second to second.
        let precisions = |loads: &[f64]| minute(loads, [0.0; 2]).precisions(&coefficients(), 1e-6);
        let error = |loads: &[f64]| 1.0 / precisions(loads).of_static.sqrt();
        // Half of the seconds draw 10 W, each with an error of 10 mW. 15 seconds count.
        let (often, constant) = (error(&[0.0, 1.0]), error(&[1.0]));
        assert!((often / (0.01 / 7.5_f64.sqrt()) - 1.0).abs() < 0.05, "{often}");
        assert!(constant > 1e3, "{constant}");
        assert!(error(&[0.9, 1.1]) > 3.0 * often);
    }

    #[test]
    fn dynamic_power_is_known_as_far_as_the_load_varied() {
        let error =
            |loads: &[f64]| 1.0 / minute(loads, [0.0; 2]).precisions(&coefficients(), 1e-6).of_dynamic.sqrt();
        // The difference of 10 W between two levels is off by 10 mW at one and 20 mW at the other, for 7.5
        // seconds each.
        let (often, constant) = (error(&[0.0, 1.0]), error(&[1.0]));
        let expected = 1e-3_f64.hypot(2e-3) / 7.5_f64.sqrt();
        assert!((often / expected - 1.0).abs() < 0.05, "{often} {expected}");
        assert!(constant > 1e3, "{constant}");
        assert!(error(&[0.9, 1.1]) > 3.0 * often);
    }

    #[test]
    fn a_load_that_varies_tells_static_from_dynamic_errors() {
        for parts in [[0.02, 0.0], [0.0, 0.1], [0.03, -0.08], [0.0, 0.0]] {
            let found = corrected(&[0.0, 1.0, 4.0], parts, [0.03, 0.1]);
            for (found, part) in found.iter().zip(parts) {
                assert!((found - part).abs() < 0.005, "{found:?} for {parts:?}");
            }
        }
    }

    #[test]
    fn under_a_constant_load_the_larger_expected_error_takes_more() {
        let [of_static, of_dynamic] = corrected(&[1.0], [0.0, 0.04], [0.03, 0.015]);
        assert!((of_static - of_dynamic).abs() < 1e-6, "{of_static} {of_dynamic}");
        assert!((of_static - 0.02).abs() < 0.002, "{of_static}");
        let [of_static, of_dynamic] = corrected(&[1.0], [0.0, 0.04], [0.03, 0.3]);
        assert!(of_static < 0.001 && (of_dynamic - 0.04).abs() < 0.001, "{of_static} {of_dynamic}");
    }

    #[test]
    fn a_small_load_is_corrected_by_a_larger_part_but_no_more_than_code_differs() {
        // A load of a tenth of all power, of which predictions are 0.5 % off.
        let of_small = |part: f64| corrected(&[0.0, 0.1], [0.0, part], [0.03, 0.005])[1];
        let small = of_small(0.02);
        assert!((0.002..0.02).contains(&small), "{small}");
        let [tiny, large] = [of_small(2.0), corrected(&[0.0, 1e-6], [0.0, 1e3], [0.03, 0.005])[1]];
        assert!(tiny < 2.0 && large.abs() < CODE_SPREAD, "{tiny} {large}");
    }

    #[test]
    fn what_is_known_is_not_corrected_and_nothing_is_before_the_first_observation() {
        let [of_static, of_dynamic] = corrected(&[1.0, 3.0], [0.05, 0.0], [0.0, 0.1]);
        assert_eq!(of_static, 0.0);
        assert!(of_dynamic > 0.01, "{of_dynamic}");
        let nothing = LastSeconds::default().correction(&[1.0; FEATURES], [0.03, 0.1], 0.0);
        assert_eq!(nothing, Correction::default());
        let unknown = LastSeconds::default().correction(&[f64::NAN; FEATURES], [0.03, 0.1], 0.0);
        assert_eq!(unknown, Correction::default());
    }
}
