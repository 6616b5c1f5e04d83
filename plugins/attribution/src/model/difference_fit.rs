//! How power changes when usage does, within seconds.
//!
//! Static power is not constant: a package that has worked for a while is warm and leaks more, and it cools
//! when it rests. Over minutes static power rises and falls with the load, so a fit of power *levels* takes
//! the difference for a cost of the load. Over seconds static power hardly moves. So each observation is
//! compared with the mean of the last seconds, and only the differences count: static power cancels out.
//! `learner.rs` weighs differences against levels, which are all there is where the load never varies.

use serde::{Deserialize, Serialize};

use super::constants::DIFFERENCE_SECONDS;
use super::features::{Coefficients, FEATURES, Feature, Features};
use super::nnls::Matrix;
use super::observation::Observation;
use super::recent::RecentMean;

/// The normal equations of a fit to differences.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct DifferenceFit {
    /// Sums of products of the features' differences with each other, and with power's, as parts of the power
    /// that was drawn: errors grow with it.
    features: Matrix,
    watts: Features,
    /// The same of power's with itself, and the number of differences: what fades counts less.
    #[serde(default)]
    squares: f64,
    #[serde(default)]
    count: f64,
    /// The sum of the variances of [`Feature::Awake`], as parts of power's square.
    #[serde(default)]
    awake_variance: f64,
    /// The mean of the last seconds, once there is one. It is not kept across restarts.
    #[serde(skip)]
    recent: Option<RecentMean>,
}

/// How far a fit explains the differences, in squares of parts of the power that was drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changes {
    /// The sum of squares, and how much of it the fit leaves unexplained.
    pub(super) squares: f64,
    pub(super) unexplained: f64,
    /// The part of that which follows from not knowing how long the package was awake.
    pub(super) of_awake: f64,
    /// Their number.
    pub(super) count: f64,
}

impl DifferenceFit {
    /// Adds an observation. Errors are as large as at a power of `least` (above 0) where less is drawn.
    pub(super) fn add(&mut self, observation: &Observation, least: f64) {
        let Observation { rates, watts, seconds, .. } = observation;
        let Some(recent) = &mut self.recent else {
            self.recent = Some(RecentMean::of(observation));
            return;
        };
        let mut difference = [0.0; FEATURES];
        for i in 0..FEATURES {
            difference[i] = rates[i] - recent.rates[i];
        }
        let watts_difference = watts - recent.watts;
        let keep = (-seconds / DIFFERENCE_SECONDS).exp();
        let weight = recent.weight_beside(*watts, least);
        self.squares = self.squares * keep + weight * watts_difference * watts_difference;
        self.count = self.count * keep + 1.0;
        self.awake_variance = self.awake_variance * keep + weight * observation.awake_variance;
        for i in 0..FEATURES {
            self.watts[i] = self.watts[i] * keep + weight * difference[i] * watts_difference;
            for j in 0..FEATURES {
                self.features[i][j] = self.features[i][j] * keep + weight * difference[i] * difference[j];
            }
        }
        recent.follow(observation);
    }

    /// Adds the differences to the normal equations of another fit.
    pub(super) fn add_to(&self, g: &mut Matrix, b: &mut Features) {
        b.iter_mut().zip(self.watts).for_each(|(b, more)| *b += more);
        g.iter_mut().flatten().zip(self.features.iter().flatten()).for_each(|(g, more)| *g += more);
    }

    /// How far `coefficients` explain the differences. Static power has no part in them.
    pub(super) fn changes(&self, coefficients: &Coefficients) -> Changes {
        let mut unexplained = self.squares;
        for i in 1..FEATURES {
            unexplained -= 2.0 * coefficients[i] * self.watts[i];
            for j in 1..FEATURES {
                unexplained += coefficients[i] * coefficients[j] * self.features[i][j];
            }
        }
        Changes {
            squares: self.squares,
            unexplained: unexplained.max(0.0),
            of_awake: coefficients[Feature::Awake as usize].powi(2) * self.awake_variance,
            count: self.count,
        }
    }

    /// The mean of the last seconds.
    pub(super) fn recent(&self) -> Option<&RecentMean> {
        self.recent.as_ref()
    }
}
