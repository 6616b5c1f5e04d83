//! How power changes when use does, within seconds, whatever level both are at.
//!
//! Static power is not as constant as its name says: a package that has worked for a while is warm and leaks
//! more, and cools when it rests. Over minutes that goes up and down with the load, so that a fit of power's
//! *levels* takes it for a cost of the load. Over seconds it hardly moves. So here each reading is compared
//! with the mean of the last seconds, and only differences count: static power, whatever it is just then,
//! cancels out. `learner.rs` weighs these against levels, which are all there is where the load never varies.

use serde::{Deserialize, Serialize};

use crate::amounts::{FEATURES, Features};
use crate::learner::Reading;
use crate::nnls::Matrix;

/// Over how many seconds the mean goes that a reading is compared with: many readings, and less than it takes
/// a package to warm up.
const LATELY: f64 = 15.0;
/// Seconds until little is left of a difference: no model is right about all code, and what runs now counts
/// most. What there was before is in the levels.
const MEMORY: f64 = 60.0;

/// Differences between readings and their neighbours, in sum.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Contrasts {
    /// Products of features' differences with each other, and with power's.
    features: Matrix,
    watts: Features,
    /// The mean of the last seconds, once there is one. It is not worth keeping over a restart.
    #[serde(skip)]
    lately: Option<Lately>,
}

/// How the machine was used in the last seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lately {
    pub(crate) rates: Features,
    pub(crate) watts: f64,
}

impl Contrasts {
    /// Takes in a reading.
    pub(crate) fn learn(&mut self, reading: &Reading) {
        let Reading { rates, watts, seconds, .. } = reading;
        let Some(lately) = &mut self.lately else {
            self.lately = Some(Lately { rates: *rates, watts: *watts });
            return;
        };
        let mut difference = [0.0; FEATURES];
        for i in 0..FEATURES {
            difference[i] = rates[i] - lately.rates[i];
        }
        let of_watts = watts - lately.watts;
        let keep = (-seconds / MEMORY).exp();
        for i in 0..FEATURES {
            self.watts[i] = self.watts[i] * keep + difference[i] * of_watts;
            for j in 0..FEATURES {
                self.features[i][j] = self.features[i][j] * keep + difference[i] * difference[j];
            }
        }
        let part = 1.0 - (-seconds / LATELY).exp();
        lately.rates.iter_mut().zip(difference).for_each(|(mean, d)| *mean += d * part);
        lately.watts += of_watts * part;
    }

    /// Adds them to the normal equations of a fit.
    pub(crate) fn add_to(&self, g: &mut Matrix, b: &mut Features) {
        b.iter_mut().zip(self.watts).for_each(|(b, more)| *b += more);
        g.iter_mut().flatten().zip(self.features.iter().flatten()).for_each(|(g, more)| *g += more);
    }

    /// The mean of the last seconds.
    pub(crate) fn lately(&self) -> Option<&Lately> {
        self.lately.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amounts::Feature;
    use crate::learner::Learner;

    /// A machine that is busy and idle for minutes, and varies within seconds as well; what a busy CPU draws,
    /// and what all that was drawn lately adds to static power.
    fn learnt(levels: f64) -> f64 {
        let (mut learner, mut heat) = (Learner::default(), 0.0);
        for i in 0..6000 {
            let (minutes, seconds) = (f64::from(i / 1200 % 2), f64::from(i / 7 % 3));
            let busy = minutes * (0.5 + 0.25 * seconds);
            heat += (busy * 20.0 - heat) * 0.1 / 60.0;
            let mut rates = [0.0; FEATURES];
            rates[Feature::Always as usize] = 1.0;
            rates[Feature::Time as usize] = busy;
            let watts = 10.0 + 20.0 * busy + 0.1 * heat;
            learner.learn(&Reading { rates, utilisation: busy, watts, seconds: 0.1 });
        }
        learner.fit(&[Feature::Time], None, None, levels).unwrap()[Feature::Time as usize]
    }

    #[test]
    fn heat_is_not_taken_for_a_cost_of_the_load() {
        let (by_levels, by_contrasts) = (learnt(1.0), learnt(0.01));
        assert!(by_levels > 20.6, "{by_levels}: the test has no point");
        // Something remains: it warms up within the last seconds, too.
        assert!(
            (by_contrasts - 20.0).abs() < 0.4 * (by_levels - 20.0),
            "{by_contrasts}, by levels {by_levels}"
        );
    }
}
