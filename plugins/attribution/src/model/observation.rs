//! What the model sees: the windows that the books close, added up to observations that are long enough to
//! learn from.

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
}

impl ObservedWindow {
    /// A window of which usage covers `ns`, with `idle_ns` of idle time and no consumers yet.
    pub(crate) fn new(microjoules: u64, ns: u64, idle_ns: u64) -> Self {
        Self { features: [0.0; FEATURES], microjoules, ns, busy_ns: 0, idle_ns }
    }

    /// Busy time over all CPU time, 0 to 1; 0 if there is none.
    pub(super) fn utilisation(&self) -> f64 {
        self.busy_ns as f64 / (self.busy_ns + self.idle_ns).max(1) as f64
    }

    /// Adds the usage of a consumer.
    pub(crate) fn add(&mut self, amounts: &Amounts) {
        self.busy_ns += amounts[Quantity::Time as usize];
        self.features.iter_mut().zip(features(amounts)).for_each(|(sum, f)| *sum += f);
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
