//! The last seconds: how the machine was used on average, and how sums over them fade. Changes of power are
//! those from this mean (`difference_fit.rs`, `code_costs.rs`).

use super::constants::{FIRST_SECONDS, RECENT_SECONDS};
use super::features::Features;
use super::observation::Observation;

/// How the machine was used in the last seconds, on average.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentMean {
    pub(super) rates: Features,
    pub(super) watts: f64,
    /// How long it has followed observations, s.
    seconds: f64,
}

impl RecentMean {
    /// The mean after a first observation.
    pub(super) fn of(first: &Observation) -> Self {
        Self { rates: first.rates, watts: first.watts, seconds: first.seconds }
    }

    /// The weight of a change from here to `watts`: errors count as parts of the power that was drawn, and
    /// are as large as at a power of `least` (above 0) where less is.
    pub(super) fn weight_beside(&self, watts: f64, least: f64) -> f64 {
        watts.max(self.watts).max(least).powi(-2)
    }

    /// Moves towards `observation`. Returns by which part of the way.
    pub(super) fn follow(&mut self, observation: &Observation) -> f64 {
        self.seconds += observation.seconds;
        let is_first = self.seconds <= FIRST_SECONDS;
        let part =
            if is_first { observation.seconds / self.seconds } else { 1.0 - kept(observation.seconds) };
        let towards = |mean: &mut f64, value: f64| *mean += (value - *mean) * part;
        self.rates.iter_mut().zip(observation.rates).for_each(|(mean, rate)| towards(mean, rate));
        towards(&mut self.watts, observation.watts);
        part
    }
}

/// The part that is left of sums over the last seconds, after so many `seconds`.
pub(super) fn kept(seconds: f64) -> f64 {
    (-seconds / RECENT_SECONDS).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::features::FEATURES;

    fn observation(watts: f64) -> Observation {
        let rates = [watts / 10.0; FEATURES];
        Observation { rates, utilisation: 0.5, watts, seconds: 0.25, awake_variance: 0.0 }
    }

    #[test]
    fn the_first_seconds_count_alike_and_later_ones_fade() {
        let mut recent = RecentMean::of(&observation(10.0));
        let parts = [13.0, 16.0, 17.0].map(|watts| recent.follow(&observation(watts)));
        assert_eq!((recent.watts, recent.rates[0]), (14.0, 1.4));
        assert_eq!(parts, [1.0 / 2.0, 1.0 / 3.0, 1.0 / 4.0]);
        let part = recent.follow(&observation(44.0));
        assert!((part - (1.0 - (-0.25_f64 / 15.0).exp())).abs() < 1e-12, "{part}");
        assert!((recent.watts - (14.0 + 30.0 * part)).abs() < 1e-12, "{}", recent.watts);
    }
}
