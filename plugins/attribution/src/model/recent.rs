//! The last seconds: how the machine was used on average, and how sums over them fade. Changes of power are
//! those from this mean (`difference_fit.rs`, `code_costs.rs`).

use super::constants::RECENT_SECONDS;
use super::features::Features;
use super::observation::Observation;

/// How the machine was used in the last seconds, on average.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentMean {
    pub(super) rates: Features,
    pub(super) watts: f64,
}

impl RecentMean {
    /// The weight of a change from here to `watts`: errors count as parts of the power that was drawn, and
    /// are as large as at a power of `least` (above 0) where less is.
    pub(super) fn weight_beside(&self, watts: f64, least: f64) -> f64 {
        watts.max(self.watts).max(least).powi(-2)
    }

    /// Moves towards `observation`.
    pub(super) fn follow(&mut self, observation: &Observation) {
        let part = 1.0 - kept(observation.seconds);
        let towards = |mean: &mut f64, value: f64| *mean += (value - *mean) * part;
        self.rates.iter_mut().zip(observation.rates).for_each(|(mean, rate)| towards(mean, rate));
        towards(&mut self.watts, observation.watts);
    }
}

/// The part that is left of sums over the last seconds, after so many `seconds`.
pub(super) fn kept(seconds: f64) -> f64 {
    (-seconds / RECENT_SECONDS).exp()
}
