//! What a domain's own readings teach about its power: a memory of *working points*, and the fit of power to
//! features over them. `model.rs` decides which fit is used.
//!
//! A working point is a way in which the machine was used (how busy, cores shared or not, how fast, how many
//! instructions a cycle, how many misses), with the mean features and the mean power seen there. Points are
//! remembered while the machine is elsewhere: that it was idle last night is what tells static power from
//! dynamic today, under a load that never varies. And noise averages out where it belongs.

use serde::{Deserialize, Serialize};

use crate::amounts::{FEATURES, Feature, Features};
use crate::contrasts::{Contrasts, Lately};
use crate::nnls;

/// Points kept; beyond, the one that weighs least goes.
const MOST_POINTS: usize = 128;
/// What a point weighs at most, in readings: beyond, old readings fade.
const HEAVIEST: f64 = 50.0;
/// What each reading leaves of every point's weight, so that a machine that changes (its firmware, its
/// temperature) is learnt anew within some ten thousand readings.
const FADING: f64 = 1.0 - 1e-4;
/// Readings, and spread of utilisation (standard deviation, 0 to 1), before a line is told from a point.
const FEWEST: f64 = 5.0;
const SPREAD: f64 = 0.08;
/// Readings before a point is taken for the lowest plausible power: a meter that stood still for one is not
/// believed.
const PLAUSIBLE: f64 = 3.0;
/// Steps of utilisation that are told apart.
const UTILISATIONS: f64 = 16.0;
/// How much the expectation weighs beside the readings.
const RIDGE: f64 = 1e-4;

/// Watts per unit of each feature's rate (or joules per unit of the feature).
pub(crate) type Coefficients = Features;

/// A reading: how the machine was used over some span, per second, and the power it drew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Features per second; [`Feature::Always`] is 1.
    pub(crate) rates: Features,
    /// Busy time over all CPU time, 0 to 1.
    pub(crate) utilisation: f64,
    pub(crate) watts: f64,
    /// Its length.
    pub(crate) seconds: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Point {
    key: u64,
    weight: f64,
    rates: Features,
    utilisation: f64,
    watts: f64,
}

/// The memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Learner {
    points: Vec<Point>,
    contrasts: Contrasts,
}

impl Learner {
    /// Takes in a reading; nonsense is left out.
    pub(crate) fn learn(&mut self, reading: &Reading) {
        let sound = reading.rates.iter().all(|r| r.is_finite() && *r >= 0.0)
            && reading.watts.is_finite()
            && reading.watts >= 0.0
            && (0.0..=1.0).contains(&reading.utilisation);
        if !sound {
            return;
        }
        self.points.iter_mut().for_each(|p| p.weight *= FADING);
        self.contrasts.learn(reading);
        let key = key(reading);
        if let Some(point) = self.points.iter_mut().find(|p| p.key == key) {
            point.weight = (point.weight + 1.0).min(HEAVIEST);
            let part = 1.0 / point.weight;
            let towards = |mean: &mut f64, value: f64| *mean += (value - *mean) * part;
            towards(&mut point.watts, reading.watts);
            towards(&mut point.utilisation, reading.utilisation);
            point.rates.iter_mut().zip(reading.rates).for_each(|(mean, rate)| towards(mean, rate));
            return;
        }
        if self.points.len() == MOST_POINTS
            && let Some(lightest) =
                (0..MOST_POINTS).min_by(|&a, &b| self.points[a].weight.total_cmp(&self.points[b].weight))
        {
            self.points.swap_remove(lightest);
        }
        let Reading { rates, utilisation, watts, .. } = *reading;
        self.points.push(Point { key, weight: 1.0, rates, utilisation, watts });
    }

    /// Whether anything of `feature` was ever seen.
    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.points.iter().any(|p| p.rates[feature as usize] > 0.0)
    }

    /// How the machine was used in the last seconds.
    pub(crate) fn lately(&self) -> Option<&Lately> {
        self.contrasts.lately()
    }

    /// The coefficients of `features` and of static power that fit the points best, none below zero and
    /// static power not above the lowest that was drawn; `None` before the machine was used in ways different
    /// enough to tell. Where the points leave a choice, near to `expected`. Static power is `fixed` where it
    /// is known. `levels` is how much a point weighs beside a contrast, above 0 to 1; at 1 there are no
    /// contrasts.
    pub(crate) fn fit(
        &self,
        features: &[Feature],
        fixed: Option<f64>,
        expected: Option<&Coefficients>,
        levels: f64,
    ) -> Option<Coefficients> {
        if fixed.is_none() && !self.has_varied() {
            return None;
        }
        let fitted = self.solve(features, fixed, expected, levels)?;
        let lowest = self.lowest();
        let excess = lowest.filter(|lowest| fixed.is_none() && fitted[Feature::Always as usize] > *lowest);
        match excess {
            Some(lowest) => self.solve(features, Some(lowest), expected, levels),
            None => Some(fitted),
        }
    }

    fn solve(
        &self,
        features: &[Feature],
        fixed: Option<f64>,
        expected: Option<&Coefficients>,
        levels: f64,
    ) -> Option<Coefficients> {
        let (mut g, mut b) = ([[0.0; FEATURES]; FEATURES], [0.0; FEATURES]);
        let mut unknowns: Vec<usize> = features.iter().map(|&f| f as usize).collect();
        if fixed.is_none() {
            unknowns.push(Feature::Always as usize);
        }
        if levels < 1.0 {
            self.contrasts.add_to(&mut g, &mut b);
        }
        for point in &self.points {
            let weight = point.weight * levels;
            let watts = point.watts - fixed.unwrap_or(0.0);
            for &i in &unknowns {
                b[i] += weight * point.rates[i] * watts;
                for &j in &unknowns {
                    g[i][j] += weight * point.rates[i] * point.rates[j];
                }
            }
        }
        unknowns.retain(|&i| g[i][i] > 0.0);
        for &i in &unknowns {
            let ridge = RIDGE * g[i][i];
            b[i] += ridge * expected.map_or(0.0, |expected| expected[i]);
            g[i][i] += ridge;
        }
        let mut found = nnls::solve(&g, &b, &unknowns);
        if let Some(fixed) = fixed {
            found[Feature::Always as usize] = fixed;
        }
        found.iter().all(|c| c.is_finite()).then_some(found)
    }

    fn has_varied(&self) -> bool {
        let weight: f64 = self.points.iter().map(|p| p.weight).sum();
        let mean = self.points.iter().map(|p| p.weight * p.utilisation).sum::<f64>() / weight;
        let squares =
            self.points.iter().map(|p| p.weight * (p.utilisation - mean).powi(2)).sum::<f64>() / weight;
        weight > FEWEST * (1.0 - 1e-3) && squares >= SPREAD * SPREAD
    }

    /// The lowest power at any utilisation that was seen more than once or twice: a mean over all points of
    /// that utilisation, since the lowest of many means would be lower than any truth.
    fn lowest(&self) -> Option<f64> {
        let mut sums = [(0.0, 0.0); UTILISATIONS as usize + 1];
        for point in &self.points {
            let (weight, watts) = &mut sums[(point.utilisation * UTILISATIONS).round() as usize];
            *weight += point.weight;
            *watts += point.weight * point.watts;
        }
        let plausible = sums.into_iter().filter(|(weight, _)| *weight >= PLAUSIBLE * (1.0 - 1e-3));
        plausible.map(|(weight, watts)| watts / weight).min_by(f64::total_cmp)
    }
}

/// Which working point a reading belongs to: its coordinates, rounded.
fn key(reading: &Reading) -> u64 {
    let rate = |feature: Feature| reading.rates[feature as usize];
    let per = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let time = rate(Feature::Time);
    let coordinates = [
        reading.utilisation * UTILISATIONS,
        per(rate(Feature::Shared), time) * 4.0,
        // Quarters of a gigahertz, quarters of an instruction per cycle, doublings of misses per thousand
        // instructions.
        per(rate(Feature::Cycles), time) * 4.0,
        per(rate(Feature::Instructions), rate(Feature::Cycles)) * 4.0,
        (1.0 + per(rate(Feature::Misses), rate(Feature::Instructions))).log2(),
    ];
    coordinates.into_iter().fold(0, |key, c| key << 12 | (c.round() as u64).min(4095))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: [Feature; 1] = [Feature::Time];

    fn reading(utilisation: f64, watts: f64) -> Reading {
        let mut rates = [0.0; FEATURES];
        rates[Feature::Always as usize] = 1.0;
        rates[Feature::Time as usize] = utilisation;
        Reading { rates, utilisation, watts, seconds: 0.1 }
    }

    fn static_watts(learner: &Learner) -> Option<f64> {
        learner.fit(&LINE, None, None, 1.0).map(|c| c[Feature::Always as usize])
    }

    #[test]
    fn a_line_is_found_once_utilisation_has_varied() {
        let mut learner = Learner::default();
        for _ in 0..20 {
            learner.learn(&reading(0.45, 28.0));
        }
        assert_eq!(static_watts(&learner), None, "one point is no line");
        for u in [0.0, 0.2, 0.8, 1.0, 0.1, 0.5] {
            learner.learn(&reading(u, 10.0 + 40.0 * u));
        }
        let watts = static_watts(&learner).unwrap();
        assert!((watts - 10.0).abs() < 0.05, "{watts}");
    }

    #[test]
    fn what_was_seen_at_idle_is_not_forgotten_under_a_load_that_never_varies() {
        let mut learner = Learner::default();
        (0..20).for_each(|_| learner.learn(&reading(0.01, 10.4)));
        (0..5_000).for_each(|_| learner.learn(&reading(0.9, 46.0)));
        let watts = static_watts(&learner).unwrap();
        assert!((watts - 10.0).abs() < 0.1, "{watts}");
    }

    #[test]
    fn it_never_exceeds_the_lowest_power_nor_falls_below_zero() {
        let (mut falling, mut steep) = (Learner::default(), Learner::default());
        for i in 0..50 {
            let u = f64::from(i % 10) / 9.0;
            falling.learn(&reading(u, 30.0 - 10.0 * u));
            steep.learn(&reading(u, (100.0 * u - 20.0).max(0.0)));
        }
        assert_eq!(static_watts(&falling), Some(20.0));
        assert_eq!(static_watts(&steep), Some(0.0));
        let before = falling.fit(&LINE, None, None, 1.0);
        falling.learn(&reading(f64::NAN, 1.0));
        falling.learn(&reading(0.5, f64::INFINITY));
        falling.learn(&reading(0.3, -1.0));
        assert_eq!(falling.fit(&LINE, None, None, 1.0), before, "nonsense is not learnt from");
    }

    #[test]
    fn a_meter_that_stood_still_once_is_not_believed() {
        let mut learner = Learner::default();
        for i in 0..200 {
            let u = f64::from(i % 10) / 9.0;
            learner.learn(&reading(u, 10.0 + 40.0 * u));
        }
        learner.learn(&reading(0.75, 0.0));
        let watts = static_watts(&learner).unwrap();
        assert!((watts - 10.0).abs() < 1.0, "{watts}");
    }

    #[test]
    fn memory_is_bounded_and_survives_being_written_down() {
        let mut learner = Learner::default();
        for i in 0..10_000u32 {
            let mut r = reading(f64::from(i % 17) / 16.0, 10.0);
            r.rates[Feature::Cycles as usize] = f64::from(i % 97) / 10.0;
            learner.learn(&r);
        }
        assert!(learner.points.len() <= MOST_POINTS);
        let text = serde_json::to_string(&learner).unwrap();
        let back: Learner = serde_json::from_str(&text).unwrap();
        assert_eq!(back.points.len(), learner.points.len());
        let close = |a: Coefficients, b: Coefficients| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close(
            back.fit(&LINE, None, None, 1.0).unwrap(),
            learner.fit(&LINE, None, None, 1.0).unwrap()
        ));
    }
}
