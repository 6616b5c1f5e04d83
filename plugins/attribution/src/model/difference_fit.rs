//! How power changes when usage does, within seconds.
//!
//! Static power is not constant: a package that has worked for a while is warm and leaks more, and it cools
//! when it rests. Over minutes static power rises and falls with the load, so a fit of power *levels* takes
//! the difference for a cost of the load. Over seconds static power hardly moves. So each observation is
//! compared with the mean of the last seconds, and only the differences count: static power cancels out.
//! `learner.rs` weighs differences against levels, which are all there is where the load never varies.

use serde::{Deserialize, Serialize};

use super::constants::{DIFFERENCE_SECONDS, RECENT_SECONDS};
use super::features::{FEATURES, Features};
use super::nnls::Matrix;
use super::observation::Observation;

/// The normal equations of a fit to differences.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct DifferenceFit {
    /// Sums of products of the features' differences with each other, and with power's.
    features: Matrix,
    watts: Features,
    /// The mean of the last seconds, once there is one. It is not kept across restarts.
    #[serde(skip)]
    recent: Option<RecentMean>,
}

/// How the machine was used in the last seconds, on average.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentMean {
    pub(super) rates: Features,
    pub(super) watts: f64,
}

impl DifferenceFit {
    /// Adds an observation.
    pub(super) fn add(&mut self, observation: &Observation) {
        let Observation { rates, watts, seconds, .. } = observation;
        let Some(recent) = &mut self.recent else {
            self.recent = Some(RecentMean { rates: *rates, watts: *watts });
            return;
        };
        let mut difference = [0.0; FEATURES];
        for i in 0..FEATURES {
            difference[i] = rates[i] - recent.rates[i];
        }
        let watts_difference = watts - recent.watts;
        let keep = (-seconds / DIFFERENCE_SECONDS).exp();
        for i in 0..FEATURES {
            self.watts[i] = self.watts[i] * keep + difference[i] * watts_difference;
            for j in 0..FEATURES {
                self.features[i][j] = self.features[i][j] * keep + difference[i] * difference[j];
            }
        }
        let part = 1.0 - (-seconds / RECENT_SECONDS).exp();
        recent.rates.iter_mut().zip(difference).for_each(|(mean, d)| *mean += d * part);
        recent.watts += watts_difference * part;
    }

    /// Adds the differences to the normal equations of another fit.
    pub(super) fn add_to(&self, g: &mut Matrix, b: &mut Features) {
        b.iter_mut().zip(self.watts).for_each(|(b, more)| *b += more);
        g.iter_mut().flatten().zip(self.features.iter().flatten()).for_each(|(g, more)| *g += more);
    }

    /// The mean of the last seconds.
    pub(super) fn recent(&self) -> Option<&RecentMean> {
        self.recent.as_ref()
    }
}
