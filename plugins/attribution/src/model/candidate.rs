//! A basis with its fitted coefficients, and how well it predicts the domain's power.

use super::basis::Basis;
use super::constants::{ERROR_MEMORY, MAX_ERROR, MIN_SCORED, STATIC_DRIFT, WINDOW_ERROR_MEMORY};
use super::difference_fit::RecentMean;
use super::features::{Coefficients, Feature, watts};
use super::observation::Observation;
use super::trial::ModelTrial;

/// A basis and what is known of it.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) basis: Basis,
    pub(super) coefficients: Option<Coefficients>,
    /// How it predicts changes of power, beside CPU time.
    pub(super) trial: ModelTrial,
    /// Relative error of the power that it predicted for observations.
    observations: MeanError,
    /// The same for windows that are much shorter than an observation.
    windows: MeanError,
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

impl Candidate {
    /// A candidate without coefficients.
    pub(super) fn new(basis: Basis) -> Self {
        Self {
            basis,
            coefficients: None,
            trial: ModelTrial::default(),
            observations: MeanError::default(),
            windows: MeanError::default(),
        }
    }

    /// Mean relative error of the power that it predicted; `None` before the first prediction.
    pub(super) fn error(&self) -> Option<f64> {
        (self.observations.count > 0).then_some(self.observations.mean)
    }

    /// Mean relative error of the power that it predicted; 0 before the first prediction.
    pub(super) fn mean_error(&self) -> f64 {
        self.observations.mean
    }

    /// Whether enough predictions were compared with the meter.
    pub(super) fn is_scored(&self) -> bool {
        self.observations.count >= MIN_SCORED
    }

    /// The part of the recent error of power, 0 to 1, that is static power's drift rather than the model's
    /// error. It follows from how large each of the two is expected to be.
    pub(super) fn drift_part(&self, recent: Option<&RecentMean>) -> f64 {
        let (Some(coefficients), Some(recent)) = (self.coefficients, recent) else { return 0.0 };
        if !self.is_scored() {
            return 0.0;
        }
        let drift = STATIC_DRIFT * coefficients[Feature::Always as usize];
        let error = self.observations.mean * recent.watts;
        let (drift, error) = (drift * drift, error * error);
        if drift > 0.0 { drift / (drift + error) } else { 0.0 }
    }

    /// By how much static power differs now from its coefficient, W.
    pub(super) fn drift(&self, recent: Option<&RecentMean>) -> f64 {
        let (Some(coefficients), Some(now)) = (self.coefficients, recent) else { return 0.0 };
        (now.watts - watts(&coefficients, &now.rates)) * self.drift_part(recent)
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

    /// Scores the prediction for an observation; `drift` is static power's, W.
    pub(super) fn score(&mut self, observation: &Observation, drift: f64) {
        let Some(coefficients) = self.coefficients else { return };
        let predicted = watts(&coefficients, &observation.rates) + drift;
        let error = (predicted - observation.watts).abs() / observation.watts.max(f64::MIN_POSITIVE);
        self.observations.add(error.min(MAX_ERROR), ERROR_MEMORY);
    }

    /// Scores the prediction for a short window.
    pub(super) fn score_window(&mut self, predicted: f64, measured: f64) {
        let error = (predicted - measured).abs() / measured.max(predicted);
        if error.is_finite() {
            self.windows.add(error, WINDOW_ERROR_MEMORY);
        }
    }
}
