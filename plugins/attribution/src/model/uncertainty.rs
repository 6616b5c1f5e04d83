//! How far off the model may be: standard errors, renewed with every observation. `books/spread.rs` makes the
//! intervals of consumers' energy of them.
//!
//! **Static power** is off as `static_power.rs` says until the observations show it. Then its drift remains,
//! as far as the model's error lets it be seen. **What use costs** depends on the code, which no counter
//! shows. When a consumer comes or goes, power changes by what it draws: what the fit leaves unexplained of
//! such changes, beyond the meter's noise, is how much consumers deviate. **The meter** is early or late, as
//! far as short windows vary more than observations do.
//!
//! A meter that somebody tampers with (noise, steps, filters) leaves more unexplained, and all intervals grow.

use super::PowerModel;
use super::constants::{
    DEFAULT_DEVIATION, DEVIATION_SECONDS, FIT_REDUNDANCY, LASTING, MAX_DEVIATION, MEAN_TO_STANDARD,
    METER_EDGE, MIN_DEVIATION, MIN_SIGNAL, STATIC_DRIFT,
};
use super::observation::{Observation, ObservedWindow};

/// Standard errors of what the books take from the model in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Uncertainty {
    /// Of the static energy, µJ.
    pub(crate) static_energy: f64,
    /// Of what a consumer's use costs, as a part of it.
    pub(crate) deviation: f64,
    /// Of the energy that the meter counts to the wrong one of two windows, at an edge, µJ.
    pub(crate) edge_energy: f64,
}

/// The standard errors as of the last observation.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandardErrors {
    /// Of static power, W; `None` before the first observation.
    static_watts: Option<f64>,
    deviation: f64,
    /// How often `deviation` was observed.
    observed: f64,
    /// Of the time at which the meter is read, s.
    edge: f64,
    /// The length of the last window, s.
    window: f64,
}

impl Default for StandardErrors {
    fn default() -> Self {
        let edge = METER_EDGE.as_secs_f64();
        Self { static_watts: None, deviation: DEFAULT_DEVIATION, observed: 0.0, edge, window: 0.0 }
    }
}

impl PowerModel {
    /// The standard errors in `window`.
    pub(crate) fn uncertainty(&self, window: &ObservedWindow) -> Uncertainty {
        let errors = &self.errors;
        let energy = window.microjoules as f64;
        let seconds = window.ns as f64 * 1e-9;
        let static_energy = match (errors.static_watts, self.given_watts) {
            (_, Some(_)) => 0.0,
            (Some(watts), None) => watts * seconds * 1e6,
            (None, None) => energy * self.prior.static_part_error(window.utilisation()),
        };
        // Static energy takes its part of the meter's error in short windows.
        let dynamic_part = 1.0 - self.static_part(window) * self.candidate().meter_part();
        let edge_energy = energy * dynamic_part * (errors.edge / seconds.max(errors.edge));
        Uncertainty { static_energy, deviation: errors.deviation, edge_energy }
    }

    /// The part of a window's energy that is static, 0 to 1.
    fn static_part(&self, window: &ObservedWindow) -> f64 {
        (self.static_energy(window) / (window.microjoules as f64).max(1.0)).clamp(0.0, 1.0)
    }

    /// Renews the standard errors once an observation, which ended with `window`, is learnt.
    pub(super) fn renew_errors(&mut self, observation: &Observation, window: &ObservedWindow) {
        let candidate = self.candidate();
        let mut errors = self.errors;
        errors.window = window.ns as f64 * 1e-9;
        errors.edge = match candidate.window_error() {
            // Two edges make a window's error.
            Some(error) if candidate.meter_part() > 0.0 => {
                let of_meter = MEAN_TO_STANDARD * error * candidate.meter_part().sqrt();
                of_meter * errors.window / std::f64::consts::SQRT_2
            }
            _ => METER_EDGE.as_secs_f64(),
        };
        let noise = std::f64::consts::SQRT_2 * errors.edge / observation.seconds;
        errors.static_watts = self.static_watts_error(noise);
        if let Some(deviation) = self.observed_deviation(noise) {
            errors.observed += 1.0;
            // A geometric mean: the first fits are off by orders of magnitude.
            let part = (observation.seconds / DEVIATION_SECONDS).max(1.0 / errors.observed).min(1.0);
            errors.deviation = errors.deviation.powf(1.0 - part) * deviation.powf(part);
        }
        self.errors = errors;
    }

    /// The standard error of static power, W. `noise` is the meter's in an observation, as a part of power.
    fn static_watts_error(&self, noise: f64) -> Option<f64> {
        let known = self.static_error()?;
        if !self.learner.outweighs(&self.prior) {
            return Some(known);
        }
        let (Some(watts), Some(recent)) = (self.static_power(), self.learner.recent()) else {
            return Some(known);
        };
        let error = MEAN_TO_STANDARD * self.candidate().mean_error();
        let error = (error * error - noise * noise).max(0.0).sqrt() * recent.watts;
        let drift = STATIC_DRIFT * watts;
        let both = error.hypot(drift);
        Some(if both > 0.0 { (error * drift / both).min(known) } else { 0.0 })
    }

    /// How much consumers deviate from what their use costs, as a part of it; `None` where power changed too
    /// little to show it.
    fn observed_deviation(&self, noise: f64) -> Option<f64> {
        let coefficients = self.candidate().coefficients.as_ref()?;
        let fitted = coefficients.iter().filter(|c| **c > 0.0).count() as f64;
        let changes = self.learner.changes(coefficients);
        let of_meter = changes.count * noise * noise;
        if changes.count < FIT_REDUNDANCY * fitted || changes.squares < MIN_SIGNAL * of_meter {
            return None;
        }
        // What was fitted looks better on what it was fitted to than it is.
        let unexplained = changes.unexplained * changes.count / (changes.count - fitted);
        let variance = (unexplained - of_meter).max(0.0) / changes.squares;
        Some(LASTING * variance.sqrt())
            .filter(|deviation| deviation.is_finite())
            .map(|deviation| deviation.clamp(MIN_DEVIATION, MAX_DEVIATION))
    }
}
