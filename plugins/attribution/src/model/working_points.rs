//! The long memory of power levels: *working points*.
//!
//! A working point is a way in which the machine was used (utilisation, shared cores, clock, instructions per
//! cycle, cache misses), with the mean features and the mean power seen there. Points are kept while the
//! machine is used differently: that it was idle last night separates static from dynamic power today, under
//! a load that never varies. And noise averages out at each point. `learner.rs` fits power to them.

use serde::{Deserialize, Serialize};

use super::constants::{
    BUSY_CPU_STEPS, MAX_POINT_WEIGHT, MAX_POINTS, MIN_PLAUSIBLE, NOISE_MEMORY, POINT_DECAY, POINT_STEPS,
    UTILISATION_STEPS,
};
use super::features::{Feature, Features};
use super::observation::Observation;
use super::static_power::{Level, Line};

/// Sums of weights that decay come close to whole numbers from below; this much less counts as reached.
pub(super) const DECAYED: f64 = 1.0 - 1e-3;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WorkingPoint {
    key: u64,
    /// In observations.
    pub(super) weight: f64,
    pub(super) rates: Features,
    utilisation: f64,
    pub(super) watts: f64,
}

/// The points, and how far power varies within one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct WorkingPoints {
    points: Vec<WorkingPoint>,
    /// The variance of power within a point, W².
    #[serde(default)]
    noise: f64,
}

impl WorkingPoints {
    /// Adds an observation to its point; all others fade a little.
    pub(super) fn add(&mut self, observation: &Observation) {
        self.points.iter_mut().for_each(|p| p.weight *= POINT_DECAY);
        let key = key(observation);
        if let Some(point) = self.points.iter_mut().find(|p| p.key == key) {
            point.weight = (point.weight + 1.0).min(MAX_POINT_WEIGHT);
            let noise = (observation.watts - point.watts).powi(2);
            self.noise += (noise - self.noise) / NOISE_MEMORY.min(point.weight);
            let part = 1.0 / point.weight;
            let towards = |mean: &mut f64, value: f64| *mean += (value - *mean) * part;
            towards(&mut point.watts, observation.watts);
            towards(&mut point.utilisation, observation.utilisation);
            point.rates.iter_mut().zip(observation.rates).for_each(|(mean, rate)| towards(mean, rate));
            return;
        }
        if self.points.len() == MAX_POINTS
            && let Some(lightest) =
                (0..MAX_POINTS).min_by(|&a, &b| self.points[a].weight.total_cmp(&self.points[b].weight))
        {
            self.points.swap_remove(lightest);
        }
        let Observation { rates, utilisation, watts, .. } = *observation;
        self.points.push(WorkingPoint { key, weight: 1.0, rates, utilisation, watts });
    }

    /// The points themselves.
    pub(super) fn iter(&self) -> impl Iterator<Item = &WorkingPoint> {
        self.points.iter()
    }

    /// Whether every number in it can have been learnt: a file may hold anything.
    pub(super) fn is_possible(&self) -> bool {
        let is_possible = |p: &WorkingPoint| {
            let numbers = p.rates.iter().chain([&p.weight, &p.watts]);
            (0.0..=1.0).contains(&p.utilisation) && numbers.into_iter().all(|n| n.is_finite() && *n >= 0.0)
        };
        self.points.len() <= MAX_POINTS && self.noise.is_finite() && self.points.iter().all(is_possible)
    }

    /// Whether any remembered point has something of `feature`.
    pub(super) fn has_seen(&self, feature: Feature) -> bool {
        self.points.iter().any(|p| p.rates[feature as usize] > 0.0)
    }

    /// The mean power that was drawn when the machine was used as it is in `observation`, W.
    pub(super) fn watts_at(&self, observation: &Observation) -> Option<f64> {
        let key = key(observation);
        self.points.iter().find(|point| point.key == key).map(|point| point.watts)
    }

    /// The mean of the features per second over the points.
    pub(super) fn mean_rates(&self) -> Features {
        let all = self.points.iter().map(|p| p.weight).sum::<f64>().max(f64::MIN_POSITIVE);
        let mut mean = Features::default();
        for point in &self.points {
            mean.iter_mut().zip(point.rates).for_each(|(mean, rate)| *mean += rate * point.weight / all);
        }
        mean
    }

    /// Mean power over the points; `None` before the first one.
    pub(super) fn mean_watts(&self) -> Option<f64> {
        let sum = |of: fn(&WorkingPoint) -> f64| self.points.iter().map(of).sum::<f64>();
        let (weight, watts) = (sum(|p| p.weight), sum(|p| p.weight * p.watts));
        (weight > 0.0).then(|| watts / weight)
    }

    /// The lowest mean power of a step of utilisation that was seen often enough. A mean over all points of
    /// the step, because the lowest of many points' means would be lower than the truth.
    pub(super) fn lowest(&self) -> Option<f64> {
        let mut sums = [(0.0, 0.0); UTILISATION_STEPS as usize + 1];
        for point in &self.points {
            let (weight, watts) = &mut sums[(point.utilisation * UTILISATION_STEPS).round() as usize];
            *weight += point.weight;
            *watts += point.weight * point.watts;
        }
        let plausible = sums.into_iter().filter(|(weight, _)| *weight >= MIN_PLAUSIBLE * DECAYED);
        plausible.map(|(weight, watts)| watts / weight).min_by(f64::total_cmp)
    }

    /// The line through the points; `None` before the first observation.
    pub(super) fn line(&self) -> Option<Line> {
        let levels = self.points.iter().map(|p| {
            let &WorkingPoint { weight, utilisation, watts, .. } = p;
            Level { weight, utilisation, watts }
        });
        Line::through(levels, self.noise)
    }
}

/// Which working point an observation belongs to: its coordinates, rounded.
fn key(observation: &Observation) -> u64 {
    let rate = |feature: Feature| observation.rates[feature as usize];
    let per = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let time = rate(Feature::Time);
    let coordinates = [
        (observation.utilisation * UTILISATION_STEPS).max(time * BUSY_CPU_STEPS),
        per(rate(Feature::Shared), time) * POINT_STEPS,
        per(rate(Feature::Cycles), time) * POINT_STEPS,
        per(rate(Feature::Instructions), rate(Feature::Cycles)) * POINT_STEPS,
        // Doublings of misses per thousand instructions.
        (1.0 + per(rate(Feature::CacheMisses), rate(Feature::Instructions))).log2(),
    ];
    coordinates.into_iter().fold(0, |key, c| key << 12 | (c.round() as u64).min(4095))
}
