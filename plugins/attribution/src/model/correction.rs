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

use super::constants::UNEXPLAINED_ERROR;
use super::features::{Coefficients, FEATURES, Feature, Features};
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

/// The last seconds: the normal equations of power by features, as means. Errors count as parts of power.
#[derive(Clone, Debug, Default)]
pub(super) struct LastSeconds {
    features: Matrix,
    watts: Features,
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

    /// How static and dynamic power differ from what `coefficients` say. `deviations` are the standard
    /// deviations that are expected of them, as parts; one of 0 is known not to differ.
    pub(super) fn correction(&self, coefficients: &Coefficients, deviations: [f64; 2]) -> Correction {
        let mut dynamic = *coefficients;
        dynamic[STATIC] = 0.0;
        let dot = |a: &Features, b: &Features| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let row = |i: usize| dot(&self.features[i], &dynamic);
        // The equations of the two parts' errors, in units of their deviations.
        let [s, d] = [deviations[0] * coefficients[STATIC], deviations[1]];
        let rest = UNEXPLAINED_ERROR * UNEXPLAINED_ERROR;
        let squares = (0..FEATURES).map(|i| dynamic[i] * row(i)).sum::<f64>();
        let of_static =
            self.watts[STATIC] - coefficients[STATIC] * self.features[STATIC][STATIC] - row(STATIC);
        let of_dynamic = dot(&self.watts, &dynamic) - coefficients[STATIC] * row(STATIC) - squares;
        let (ss, sd, dd) =
            (s * s * self.features[STATIC][STATIC] + rest, s * d * row(STATIC), d * d * squares + rest);
        let (static_error, dynamic_error, determinant) = (s * of_static, d * of_dynamic, ss * dd - sd * sd);
        let correction = Correction {
            of_static: deviations[0] * (dd * static_error - sd * dynamic_error) / determinant,
            of_dynamic: d * (ss * dynamic_error - sd * static_error) / determinant,
        };
        let is_finite = correction.of_static.is_finite() && correction.of_dynamic.is_finite();
        if is_finite { correction } else { Correction::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The correction after a minute of seconds in which CPU time is each of `loads` in turn: coefficients
    /// say 10 W of static power and 10 W per CPU, and they differ by `parts` from what is drawn.
    fn corrected(loads: &[f64], parts: [f64; 2], deviations: [f64; 2]) -> [f64; 2] {
        let mut coefficients = [0.0; FEATURES];
        (coefficients[STATIC], coefficients[Feature::Time as usize]) = (10.0, 10.0);
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
        let Correction { of_static, of_dynamic } = seconds.correction(&coefficients, deviations);
        [of_static, of_dynamic]
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
        let [of_static, of_dynamic] = corrected(&[1.0], [0.0, 0.04], [0.03, 0.03]);
        assert!((of_static - of_dynamic).abs() < 1e-6, "{of_static} {of_dynamic}");
        assert!((of_static - 0.02).abs() < 0.002, "{of_static}");
        let [of_static, of_dynamic] = corrected(&[1.0], [0.0, 0.04], [0.03, 0.3]);
        assert!(of_static < 0.001 && (of_dynamic - 0.04).abs() < 0.001, "{of_static} {of_dynamic}");
    }

    #[test]
    fn what_is_known_is_not_corrected_and_nothing_is_before_the_first_observation() {
        let [of_static, of_dynamic] = corrected(&[1.0, 3.0], [0.05, 0.0], [0.0, 0.1]);
        assert_eq!(of_static, 0.0);
        assert!(of_dynamic > 0.01, "{of_dynamic}");
        let nothing = LastSeconds::default().correction(&[1.0; FEATURES], [0.03, 0.1]);
        assert_eq!(nothing, Correction::default());
        let unknown = LastSeconds::default().correction(&[f64::NAN; FEATURES], [0.03, 0.1]);
        assert_eq!(unknown, Correction::default());
    }
}
