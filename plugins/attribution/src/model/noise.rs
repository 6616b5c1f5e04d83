//! The noise of observations. A meter that is late at the end of an observation counts to the next one what
//! it counts too little to this one, so what is left unexplained of one comes back in the next with the other
//! sign, and cancels over seconds. Programs that come and go from one observation to the next are seen with
//! all of it, those that run for seconds with what lasts.
//!
//! ```text
//! left unexplained = u(now) − carried · u(before),   u independent
//! ```
//!
//! So `u` is left of rows to which `carried` times the row before is added, and that again with its
//! predecessors (`effect_sums.rs`): least squares of such rows weigh fast and slow changes as they deserve.

use super::constants::MAX_CARRIED;

/// That of an observation, as parts of its power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Noise {
    /// The variance of `u`.
    pub(super) variance: f64,
    /// The part, 0 to below 1, that the next observation gives back.
    pub(super) carried: f64,
}

impl Noise {
    /// That of observations which are left unexplained with the variance `observed`, of which `lasting`
    /// (above 0) would be left if they were independent of each other.
    pub(super) fn of(lasting: f64, observed: f64) -> Self {
        // lasting / observed = (1 − carried)² / (1 + carried²)
        let half = (1.0 - (lasting / observed).min(1.0)) / 2.0;
        let carried = if half > 0.0 { (1.0 - (1.0 - 4.0 * half * half).sqrt()) / (2.0 * half) } else { 0.0 };
        let carried = carried.min(MAX_CARRIED);
        Self { variance: lasting / (1.0 - carried).powi(2), carried }
    }

    /// The variance as if observations were independent of each other.
    pub(super) fn lasting(&self) -> f64 {
        self.variance * (1.0 - self.carried).powi(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_next_observation_gives_back_follows_from_what_lasts() {
        for (variance, carried) in [(1e-6, 0.0), (4e-6, 0.3), (1e-4, 0.8)] {
            let noise = Noise { variance, carried };
            let found = Noise::of(noise.lasting(), variance * (1.0 + carried * carried));
            let is_near =
                (found.variance / variance - 1.0).abs() < 1e-9 && (found.carried - carried).abs() < 1e-9;
            assert!(is_near, "{found:?}, not {noise:?}");
        }
        // More lasts than is seen, nothing is seen, and nearly nothing lasts.
        for observed in [1e-7, 0.0] {
            assert_eq!(Noise::of(1e-6, observed), Noise { variance: 1e-6, carried: 0.0 });
        }
        let Noise { variance, carried } = Noise::of(1e-12, 1.0);
        assert!(carried == MAX_CARRIED && variance.is_finite(), "{variance} {carried}");
    }
}
