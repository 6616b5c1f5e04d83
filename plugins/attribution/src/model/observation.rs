//! What the model sees: the windows that the books close, added up to observations that are long enough to
//! learn from.

use super::awake;
use super::constants::OBSERVATION;
use super::features::{FEATURES, Feature, Features, features};
use crate::amounts::{Amounts, Quantity};

/// A window's energy and usage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObservedWindow {
    pub(super) features: Features,
    pub(super) microjoules: u64,
    /// Nanoseconds that usage covers.
    pub(crate) ns: u64,
    /// CPU time (or a device's time) that consumers used.
    pub(crate) busy_ns: u64,
    /// CPU time (or a device's time) that none used.
    pub(crate) idle_ns: u64,
    /// The part of it, 0 to 1, in which nothing ran, if consumers run independently of each other.
    pub(super) asleep: f64,
}

impl ObservedWindow {
    /// A window of which usage covers `ns`, with `idle_ns` of idle time and no consumers yet.
    pub(crate) fn new(microjoules: u64, ns: u64, idle_ns: u64) -> Self {
        Self { features: [0.0; FEATURES], microjoules, ns, busy_ns: 0, idle_ns, asleep: 1.0 }
    }

    /// Busy time over all CPU time, 0 to 1; 0 if there is none.
    pub(super) fn utilisation(&self) -> f64 {
        self.busy_ns as f64 / (self.busy_ns + self.idle_ns).max(1) as f64
    }

    /// Adds the usage of a consumer.
    pub(crate) fn add(&mut self, amounts: &Amounts) {
        let time = amounts[Quantity::Time as usize];
        self.busy_ns += time;
        self.asleep *= awake::rest(time, self.ns);
        self.features.iter_mut().zip(features(amounts)).for_each(|(sum, f)| *sum += f);
        self.features[Feature::Awake as usize] = (1.0 - self.asleep) * self.ns as f64 * 1e-9;
    }
}

/// How the machine was used over some time, per second, and the power that it drew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    /// Features per second; [`Feature::Always`] is 1.
    pub(super) rates: Features,
    /// Busy time over all CPU time, 0 to 1.
    pub(super) utilisation: f64,
    pub(super) watts: f64,
    /// Its length.
    pub(super) seconds: f64,
}

impl Observation {
    /// The observation of this one's time and that of `next`.
    pub(super) fn with(&self, next: &Self) -> Self {
        let seconds = self.seconds + next.seconds;
        let mean = |a: f64, b: f64| (a * self.seconds + b * next.seconds) / seconds;
        let mut rates = self.rates;
        rates.iter_mut().zip(next.rates).for_each(|(rate, next)| *rate = mean(*rate, next));
        let (utilisation, watts) = (mean(self.utilisation, next.utilisation), mean(self.watts, next.watts));
        Self { rates, utilisation, watts, seconds }
    }
}

/// Adds windows up to an observation.
#[derive(Debug, Default)]
pub(super) struct Accumulator {
    features: Features,
    microjoules: u64,
    ns: u64,
    busy_ns: u64,
    all_ns: u64,
}

impl Accumulator {
    /// Adds a window. Returns an observation once the windows span one.
    pub(super) fn add(&mut self, window: &ObservedWindow) -> Option<Observation> {
        self.features.iter_mut().zip(window.features).for_each(|(sum, f)| *sum += f);
        self.microjoules += window.microjoules;
        self.ns += window.ns;
        self.busy_ns += window.busy_ns;
        self.all_ns += window.busy_ns + window.idle_ns;
        if self.ns < OBSERVATION.as_nanos() as u64 || self.all_ns == 0 {
            return None;
        }
        let Self { features, microjoules, ns, busy_ns, all_ns } = std::mem::take(self);
        let seconds = ns as f64 * 1e-9;
        let mut rates = features.map(|f| f / seconds);
        rates[Feature::Always as usize] = 1.0;
        Some(Observation {
            rates,
            utilisation: busy_ns as f64 / all_ns as f64,
            watts: microjoules as f64 * 1e-6 / seconds,
            seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_observations_together_are_their_mean_by_length() {
        let observation = |watts: f64, seconds: f64| {
            let rates = [watts / 10.0; FEATURES];
            Observation { rates, utilisation: watts / 100.0, watts, seconds }
        };
        let both = observation(10.0, 0.1).with(&observation(50.0, 0.3));
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a}, not {b}");
        near(both.watts, 40.0);
        near(both.utilisation, 0.4);
        near(both.seconds, 0.4);
        both.rates.iter().for_each(|&rate| near(rate, 4.0));
    }
}
