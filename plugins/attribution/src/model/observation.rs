//! What the model sees: the windows that the books close, added up to observations that are long enough to
//! learn from.

use super::awake;
use super::constants::OBSERVATION;
use super::features::{FEATURES, Feature, Features, features};
use super::predicted::Predicted;
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
    /// The part of it in which something ran at least, and at most.
    pub(super) awake: [f64; 2],
    /// The dynamic energy that is predicted for it, J.
    pub(super) predicted: Predicted,
}

impl ObservedWindow {
    /// A window of which usage covers `ns`, with `idle_ns` of idle time and no consumers yet.
    pub(crate) fn new(microjoules: u64, ns: u64, idle_ns: u64) -> Self {
        Self {
            features: [0.0; FEATURES],
            microjoules,
            ns,
            busy_ns: 0,
            idle_ns,
            asleep: 1.0,
            awake: [0.0; 2],
            predicted: Predicted::default(),
        }
    }

    /// Busy time over all CPU time, 0 to 1; 0 if there is none.
    pub(super) fn utilisation(&self) -> f64 {
        self.busy_ns as f64 / (self.busy_ns + self.idle_ns).max(1) as f64
    }

    /// The variance of the time in which something ran, s²: all that usage allows is equally likely.
    pub(super) fn awake_variance(&self) -> f64 {
        let [least, most] = self.awake.map(|part| part * self.ns as f64 * 1e-9);
        (most - least).max(0.0).powi(2) / 12.0
    }

    /// Adds the usage of a consumer. Returns its features.
    pub(crate) fn add(&mut self, amounts: &Amounts) -> Features {
        let time = amounts[Quantity::Time as usize];
        self.busy_ns += time;
        self.asleep *= awake::rest(time, self.ns);
        let cpus = time as f64 / self.ns.max(1) as f64;
        let ((_, part), [least, most]) = (awake::threads(cpus), self.awake);
        self.awake = [least.max(part), (most + cpus).min(1.0)];
        let features = features(amounts);
        self.features.iter_mut().zip(features).for_each(|(sum, f)| *sum += f);
        self.features[Feature::Awake as usize] = (1.0 - self.asleep) * self.ns as f64 * 1e-9;
        features
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
    /// The variance of the rate of [`Feature::Awake`].
    pub(super) awake_variance: f64,
}

impl Observation {
    /// The observation of this one's time and that of `next`.
    pub(super) fn with(&self, next: &Self) -> Self {
        let seconds = self.seconds + next.seconds;
        let mean = |a: f64, b: f64| (a * self.seconds + b * next.seconds) / seconds;
        let mut rates = self.rates;
        rates.iter_mut().zip(next.rates).for_each(|(rate, next)| *rate = mean(*rate, next));
        let (utilisation, watts) = (mean(self.utilisation, next.utilisation), mean(self.watts, next.watts));
        let variance = |of: &Self| of.awake_variance * of.seconds.powi(2);
        let awake_variance = (variance(self) + variance(next)) / seconds.powi(2);
        Self { rates, utilisation, watts, seconds, awake_variance }
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
    awake_variance: f64,
    predicted: Predicted,
}

impl Accumulator {
    /// The consumer in `slot` has ended.
    pub(super) fn end_consumer(&mut self, slot: usize) {
        self.predicted.end_consumer(slot);
    }

    /// Adds a window. Returns an observation once the windows span one, and the dynamic power that was
    /// predicted for it, W.
    pub(super) fn add(&mut self, window: &ObservedWindow) -> Option<(Observation, Predicted)> {
        self.features.iter_mut().zip(window.features).for_each(|(sum, f)| *sum += f);
        self.microjoules += window.microjoules;
        self.ns += window.ns;
        self.busy_ns += window.busy_ns;
        self.all_ns += window.busy_ns + window.idle_ns;
        self.awake_variance += window.awake_variance();
        self.predicted.add_all(&window.predicted);
        if self.ns < OBSERVATION.as_nanos() as u64 || self.all_ns == 0 {
            return None;
        }
        let Self { features, microjoules, ns, busy_ns, all_ns, awake_variance, predicted } =
            std::mem::take(self);
        let seconds = ns as f64 * 1e-9;
        let mut rates = features.map(|f| f / seconds);
        rates[Feature::Always as usize] = 1.0;
        let observation = Observation {
            rates,
            utilisation: busy_ns as f64 / all_ns as f64,
            watts: microjoules as f64 * 1e-6 / seconds,
            seconds,
            awake_variance: awake_variance / seconds.powi(2),
        };
        Some((observation, predicted.scaled(1.0 / seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_observations_together_are_their_mean_by_length() {
        let observation = |watts: f64, seconds: f64| {
            let rates = [watts / 10.0; FEATURES];
            Observation { rates, utilisation: watts / 100.0, watts, seconds, awake_variance: watts }
        };
        let both = observation(10.0, 0.1).with(&observation(50.0, 0.3));
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a}, not {b}");
        near(both.watts, 40.0);
        near(both.utilisation, 0.4);
        near(both.seconds, 0.4);
        both.rates.iter().for_each(|&rate| near(rate, 4.0));
        // (10 · 0.01 + 50 · 0.09) / 0.16
        near(both.awake_variance, 28.75);
    }

    #[test]
    fn how_long_a_package_was_awake_is_known_as_far_as_usage_says() {
        const SECOND: u64 = 1_000_000_000;
        // The range of the time awake where consumers ran for these parts of a second.
        let range = |parts: &[f64]| {
            let mut window = ObservedWindow::new(0, SECOND, 0);
            parts.iter().for_each(|part| _ = window.add(&[(part * 1e9) as u64, 0, 0, 0, 0, 0]));
            (window.awake_variance() * 12.0).sqrt()
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a}, not {b}");
        near(range(&[]), 0.0);
        near(range(&[0.4]), 0.0);
        near(range(&[0.5, 0.3]), 0.3);
        near(range(&[0.8, 0.7]), 0.2);
        near(range(&[1.0, 0.7]), 0.0);
        // Two threads of three quarters each.
        near(range(&[1.5]), 0.25);
    }
}
