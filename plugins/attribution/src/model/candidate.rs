//! A basis with its fitted coefficients, and how well it predicts the domain's power.

use super::basis::Basis;
use super::constants::{
    ERROR_MEMORY, LONG_OBSERVATION, MAX_ERROR, MIN_LEVEL_WEIGHT, MIN_SCORED, STATIC_DRIFT,
    WINDOW_ERROR_MEMORY,
};
use super::correction::{Correction, LastSeconds};
use super::features::{Coefficients, Feature, Features, dynamic_watts, picojoules, watts};
use super::observation::Observation;
use super::recent::RecentMean;
use super::trial::ModelTrial;

/// A basis and what is known of it.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) basis: Basis,
    pub(super) coefficients: Option<Coefficients>,
    /// How it predicts changes of power, beside CPU time.
    pub(super) trial: ModelTrial,
    /// How power differs now from what the coefficients say, by the last seconds.
    correction: Correction,
    /// Standard deviation of static power around its coefficient, as a part of it.
    static_deviation: f64,
    /// Relative error of the power that it predicted for observations.
    observations: MeanError,
    /// How many predictions for observations were compared with the meter.
    scored: u32,
    /// The same error of the coefficients alone, without the correction.
    uncorrected: MeanError,
    /// The same for windows that are much shorter than an observation.
    windows: MeanError,
    /// The same for long observations.
    long: LongErrors,
}

/// A mean over the last errors.
#[derive(Debug, Default)]
struct MeanError {
    mean: f64,
    count: u32,
}

impl MeanError {
    fn add(&mut self, error: f64, memory: u32) {
        self.count = (self.count + 1).min(memory);
        self.mean += (error - self.mean) / f64::from(self.count);
    }
}

/// The relative error of the energy that was predicted for long observations.
#[derive(Debug, Default)]
struct LongErrors {
    errors: MeanError,
    /// Of the one that is not long enough yet: its length, s, and what was predicted and measured, J.
    seconds: f64,
    predicted: f64,
    measured: f64,
}

impl LongErrors {
    /// Adds an observation of so many `seconds`, for which this power was predicted and measured, W.
    fn add(&mut self, predicted: f64, measured: f64, seconds: f64) {
        self.seconds += seconds;
        self.predicted += predicted * seconds;
        self.measured += measured * seconds;
        if self.seconds >= LONG_OBSERVATION.as_secs_f64() {
            self.errors.add(relative_error(self.predicted, self.measured), ERROR_MEMORY);
            (self.seconds, self.predicted, self.measured) = (0.0, 0.0, 0.0);
        }
    }
}

/// By how much `predicted` differs from `measured`, as a part of that.
fn relative_error(predicted: f64, measured: f64) -> f64 {
    ((predicted - measured).abs() / measured.max(f64::MIN_POSITIVE)).min(MAX_ERROR)
}

impl Candidate {
    /// A candidate without coefficients. Static power does not drift where it `is_given`.
    pub(super) fn new(basis: Basis, is_given: bool) -> Self {
        Self {
            basis,
            coefficients: None,
            trial: ModelTrial::default(),
            correction: Correction::default(),
            static_deviation: if is_given { 0.0 } else { STATIC_DRIFT },
            observations: MeanError::default(),
            scored: 0,
            uncorrected: MeanError::default(),
            windows: MeanError::default(),
            long: LongErrors::default(),
        }
    }

    /// Mean relative error of the power that it predicted; `None` before the first prediction.
    pub(super) fn error(&self) -> Option<f64> {
        (self.scored > 0).then_some(self.observations.mean)
    }

    /// Mean relative error of the power that it predicted; 0 before the first prediction.
    pub(super) fn mean_error(&self) -> f64 {
        self.observations.mean
    }

    /// Mean relative error of the energy that it predicted for long observations; 0 before the first.
    pub(super) fn long_error(&self) -> f64 {
        self.long.errors.mean
    }

    /// Mean relative error of the energy that it predicted for short windows; `None` before there were
    /// enough.
    pub(super) fn window_error(&self) -> Option<f64> {
        (self.windows.count >= MIN_SCORED).then_some(self.windows.mean)
    }

    /// Whether enough predictions were compared with the meter.
    pub(super) fn is_scored(&self) -> bool {
        self.scored >= MIN_SCORED
    }

    /// The part of the recent error of power, 0 to 1, that is static power's drift rather than the model's
    /// error. It follows from how large each of the two is expected to be.
    fn drift_part(&self, recent: Option<&RecentMean>) -> f64 {
        let (Some(coefficients), Some(recent)) = (self.coefficients, recent) else { return 0.0 };
        if !self.is_scored() {
            return 0.0;
        }
        let drift = STATIC_DRIFT * coefficients[Feature::Always as usize];
        let error = self.observations.mean * recent.watts;
        let (drift, error) = (drift * drift, error * error);
        if drift > 0.0 { drift / (drift + error) } else { 0.0 }
    }

    /// The weight of levels of power beside differences, above 0 to 1. Static power's drift disturbs levels
    /// but not differences; the model's own errors are in both.
    pub(super) fn level_weight(&self, recent: Option<&RecentMean>) -> f64 {
        (1.0 - self.drift_part(recent)).max(MIN_LEVEL_WEIGHT)
    }

    /// Static power now, W; `None` without coefficients.
    pub(super) fn static_watts(&self) -> Option<f64> {
        let mean = self.coefficients?[Feature::Always as usize];
        Some((mean * (1.0 + self.correction.of_static)).max(0.0))
    }

    /// What features cost; `None` where energy is divided by something else, or nothing is learnt yet.
    pub(super) fn costs(&self) -> Option<&Coefficients> {
        self.coefficients.as_ref().filter(|_| self.basis == Basis::Fitted)
    }

    /// What a package draws while anything runs on it, W; 0 where that is not known to cost something.
    pub(super) fn awake_watts(&self) -> f64 {
        self.coefficients.as_ref().map_or(0.0, |of| of[Feature::Awake as usize])
    }

    /// The dynamic energy that it predicts for the features of a window, µJ; `None` without coefficients.
    pub(super) fn dynamic_energy(&self, features: &Features) -> Option<f64> {
        Some(picojoules(&self.coefficients?, features) * 1e-6 * self.dynamic_factor())
    }

    /// Dynamic power now over what the coefficients say.
    fn dynamic_factor(&self) -> f64 {
        (1.0 + self.correction.of_dynamic).max(0.0)
    }

    /// The power that it predicts for features per second, W; `None` without coefficients.
    pub(super) fn predict(&self, rates: &Features) -> Option<f64> {
        Some(self.static_watts()? + dynamic_watts(&self.coefficients?, rates) * self.dynamic_factor())
    }

    /// Takes new coefficients, and corrects their predictions by the last seconds, of which a part is left
    /// `unexplained` ([`LastSeconds::correction`]). Power is expected to differ from them as much as
    /// predictions usually do.
    pub(super) fn renew(&mut self, coefficients: Option<Coefficients>, last: &LastSeconds, unexplained: f64) {
        let expected = [self.static_deviation, self.uncorrected.mean];
        self.coefficients = coefficients;
        self.correction =
            coefficients.map(|c| last.correction(&c, expected, unexplained)).unwrap_or_default();
    }

    /// The part of a short window's error, 0 to 1, that comes from a meter that is early or late rather than
    /// from the model. The meter's part averages out over an observation, the model's does not.
    pub(super) fn meter_part(&self) -> f64 {
        let (windows, observations) = (self.windows.mean, self.observations.mean);
        if self.windows.count < MIN_SCORED || !self.is_scored() || windows <= observations {
            return 0.0;
        }
        1.0 - (observations / windows).powi(2)
    }

    /// Static power is known from now on: the errors so far, which are mostly its, count until the next one.
    pub(super) fn restart_errors(&mut self) {
        self.observations.count = 0;
        self.uncorrected.count = 0;
        self.long.errors.count = 0;
    }

    /// Scores the prediction for an observation.
    pub(super) fn score(&mut self, observation: &Observation) {
        let (Some(coefficients), Some(predicted)) = (self.coefficients, self.predict(&observation.rates))
        else {
            return;
        };
        let measured = observation.watts;
        let uncorrected = watts(&coefficients, &observation.rates);
        self.scored = self.scored.saturating_add(1);
        self.observations.add(relative_error(predicted, measured), ERROR_MEMORY);
        self.uncorrected.add(relative_error(uncorrected, measured), ERROR_MEMORY);
        self.long.add(predicted, measured, observation.seconds);
    }

    /// Scores the prediction for a short window.
    pub(super) fn score_window(&mut self, predicted: f64, measured: f64) {
        let error = (predicted - measured).abs() / measured.max(predicted);
        if error.is_finite() {
            self.windows.add(error, WINDOW_ERROR_MEMORY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_meter_counts_to_the_next_observation_is_no_error_of_a_long_one() {
        let mut long = LongErrors::default();
        for n in 0..100 {
            let off = if n % 2 == 0 { 1.2 } else { 0.8 };
            long.add(10.0, 10.0 * off, 0.1);
        }
        assert!(long.errors.count == 10 && long.errors.mean < 1e-9, "{long:?}");
        (0..100).for_each(|_| long.add(11.0, 10.0, 1.0));
        assert!((long.errors.mean - 0.1).abs() < 0.01, "{long:?}");
    }
}
