//! The power that a domain draws at no load, learnt from its own windows: power over utilisation is close to a line, and
//! the line's value at zero is the static power.
//!
//! Nothing is claimed before utilisation has varied enough to tell a line from a point; until then the caller splits by
//! time, idle time included. The estimate never exceeds the lowest power seen, which is what keeps it from charging
//! idle with more than was ever drawn.

/// Windows before a line is believed.
const FEWEST: f64 = 5.0;
/// Spread of utilisation (standard deviation, 0 to 1) before a line is believed.
const SPREAD: f64 = 0.08;
/// What a past window still weighs after each new one: a memory of about 600 windows.
const DECAY: f64 = 1.0 - 1.0 / 600.0;

/// Decayed least squares of power on utilisation.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    weight: f64,
    u: f64,
    p: f64,
    uu: f64,
    up: f64,
    lowest: Option<f64>,
}

impl Baseline {
    /// A window in which `watts` were drawn at `utilisation` (busy CPU time over all CPU time).
    pub(crate) fn learn(&mut self, utilisation: f64, watts: f64) {
        if !(0.0..=1.0).contains(&utilisation) || !watts.is_finite() || watts < 0.0 {
            return;
        }
        for sum in [&mut self.weight, &mut self.u, &mut self.p, &mut self.uu, &mut self.up] {
            *sum *= DECAY;
        }
        self.weight += 1.0;
        self.u += utilisation;
        self.p += watts;
        self.uu += utilisation * utilisation;
        self.up += utilisation * watts;
        self.lowest = Some(self.lowest.map_or(watts, |l| l.min(watts)));
    }

    /// Static power in watts, once it can be told.
    pub(crate) fn watts(&self) -> Option<f64> {
        let (mean_u, mean_p) = (self.u / self.weight, self.p / self.weight);
        let variance = self.uu / self.weight - mean_u * mean_u;
        if self.weight < FEWEST || variance < SPREAD * SPREAD {
            return None;
        }
        // Power that falls with utilisation is noise: the slope is at least flat.
        let slope = ((self.up / self.weight - mean_u * mean_p) / variance).max(0.0);
        Some((mean_p - slope * mean_u).clamp(0.0, self.lowest?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_once_utilisation_has_varied() {
        let mut baseline = Baseline::default();
        for _ in 0..20 {
            baseline.learn(0.45, 28.0);
        }
        assert_eq!(baseline.watts(), None, "one point is no line");
        for u in [0.0, 0.2, 0.8, 1.0, 0.1, 0.5] {
            baseline.learn(u, 10.0 + 40.0 * u);
        }
        let watts = baseline.watts().unwrap();
        assert!((watts - 10.0).abs() < 0.01, "{watts}");
    }

    #[test]
    fn it_never_exceeds_the_lowest_power_nor_falls_below_zero() {
        let mut falling = Baseline::default();
        let mut steep = Baseline::default();
        for i in 0..50 {
            let u = f64::from(i % 10) / 9.0;
            falling.learn(u, 30.0 - 10.0 * u);
            steep.learn(u, (100.0 * u - 20.0).max(0.0));
        }
        assert_eq!(falling.watts(), Some(20.0));
        assert_eq!(steep.watts(), Some(0.0));
        let before = steep.watts();
        steep.learn(f64::NAN, 1.0);
        steep.learn(0.5, f64::INFINITY);
        assert_eq!(steep.watts(), before, "nonsense is not learnt from");
    }
}
