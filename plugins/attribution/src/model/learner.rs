//! What is learnt from one domain's observations, and the fit of power to features: over working points
//! (`working_points.rs`), and over changes within seconds (`difference_fit.rs`). `model.rs` decides which fit
//! is used.

use serde::{Deserialize, Serialize};

use super::constants::{
    FADED_ERROR, LEAST_POWER, LEVEL_ERROR, LONG_OBSERVATION, MAX_STATIC_ERROR, MIN_OBSERVATIONS,
    MIN_UNEXPLAINED, MIN_WATTS, RIDGE,
};
use super::correction::LastSeconds;
use super::difference_fit::{Changes, DifferenceFit};
use super::features::{Coefficients, FEATURES, Feature, terms};
use super::nnls::{self, Matrix};
use super::noise::Noise;
use super::observation::Observation;
use super::prior::Prior;
use super::recent::RecentMean;
use super::static_power::StaticPower;
use super::working_points::{DECAYED, WorkingPoint, WorkingPoints};

/// The memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Learner {
    #[serde(flatten)]
    points: WorkingPoints,
    /// Not under the name of schema 2's first files, `contrasts`, which were in W².
    #[serde(default)]
    differences: DifferenceFit,
    /// The same of long observations, and the one that is not long enough yet.
    #[serde(default)]
    long_differences: DifferenceFit,
    #[serde(skip)]
    next_long: Option<Observation>,
    /// They are not kept across restarts.
    #[serde(skip)]
    last_seconds: LastSeconds,
    /// Static power has been determined.
    #[serde(default)]
    is_determined: bool,
    /// Observations that were learnt from, ever.
    #[serde(default)]
    observations: u64,
}

/// What a fit stays near to where the observations leave a choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) coefficients: Coefficients,
    /// Its weight beside the observations.
    pub(super) ridge: f64,
}

impl Learner {
    /// Learns from an observation. One that is not finite, or negative, is ignored.
    pub(super) fn learn(&mut self, observation: &Observation) {
        let is_valid = observation.rates.iter().all(|r| r.is_finite() && *r >= 0.0)
            && observation.watts.is_finite()
            && observation.watts >= 0.0
            && (0.0..=1.0).contains(&observation.utilisation);
        if is_valid {
            self.observations += 1;
            let mean = self.points.mean_watts().unwrap_or(observation.watts);
            let least = LEAST_POWER * mean.max(MIN_WATTS);
            self.differences.add(observation, least);
            let long = self.next_long.take().map_or(*observation, |so_far| so_far.with(observation));
            match long.seconds >= LONG_OBSERVATION.as_secs_f64() {
                true => self.long_differences.add(&long, least),
                false => self.next_long = Some(long),
            }
            self.last_seconds.add(observation, least);
            self.points.add(observation);
            self.determine();
        }
    }

    /// An empty memory that replaces this one, which was wrong: it counts on from there.
    pub(super) fn replaced(&self) -> Self {
        Self { observations: self.observations, ..Self::default() }
    }

    /// Whether every number in it can have been learnt: a file may hold anything.
    pub(super) fn is_possible(&self) -> bool {
        self.points.is_possible()
    }

    /// Observations that were learnt from, ever: of two learners of one domain, the one with more knows more.
    pub(super) fn observations(&self) -> u64 {
        self.observations
    }

    /// Decides whether what was learnt determines static power.
    fn determine(&mut self) {
        let limit = if self.is_determined { FADED_ERROR * MAX_STATIC_ERROR } else { MAX_STATIC_ERROR };
        self.is_determined = self.static_error().is_some_and(|error| error <= limit);
    }

    /// What it knows of levels of power.
    pub(super) fn points(&self) -> &WorkingPoints {
        &self.points
    }

    /// How far `coefficients` explain the changes of power in the last minutes, from observation to
    /// observation and between long ones.
    pub(super) fn changes(&self, coefficients: &Coefficients) -> [Changes; 2] {
        [&self.differences, &self.long_differences].map(|fit| fit.changes(coefficients))
    }

    /// The variance of what `coefficients` leave unexplained of power over so many `seconds`, as a part of
    /// its square: that of long observations, as if seconds were independent of each other. What lasts for
    /// longer counts as often as it is observed. What a meter counts to the observation before or after does
    /// not count: it adds the same energy to short observations, of `observed` seconds, and to long ones. Nor
    /// does what is `expected` of the sums of both ([`ExpectedError::sum`]).
    ///
    /// [`ExpectedError::sum`]: super::expected_error::ExpectedError::sum
    pub(super) fn unexplained(
        &self,
        coefficients: &Coefficients,
        observed: f64,
        seconds: f64,
        expected: [f64; 2],
    ) -> f64 {
        lasting(self.variances(coefficients, expected), observed, seconds)
    }

    /// The noise of an observation of so many `seconds`. `expected` is what is expected to be missed of
    /// observations, and of long ones.
    pub(super) fn noise(&self, coefficients: &Coefficients, seconds: f64, expected: [f64; 2]) -> Noise {
        let variances = self.variances(coefficients, expected);
        Noise::of(lasting(variances, seconds, seconds), variances[0].max(0.0))
    }

    /// The variances of what `coefficients` leave unexplained of power in observations and in long ones, as
    /// parts of its square, without what is `expected` of their sums. Below zero if that is more.
    fn variances(&self, coefficients: &Coefficients, expected: [f64; 2]) -> [f64; 2] {
        let [short, long] = self.changes(coefficients);
        let variance = |changes: Changes, expected: f64| {
            (changes.unexplained - expected) / (changes.count - terms(coefficients)).max(1.0)
        };
        [variance(short, expected[0]), variance(long, expected[1])]
    }

    /// What levels of power say of coefficients, whatever static power is: the inverse of their covariance.
    /// `weight` is that of a point beside a difference, and `noise` the variance of an observation, as a part
    /// of power's square. These are the normal equations of power by features, in which static power is
    /// integrated out.
    pub(super) fn levels(&self, weight: f64, noise: f64) -> Matrix {
        let mut sums: Matrix = [[0.0; FEATURES]; FEATURES];
        for (point, scale) in self.scaled_points() {
            let variance = noise / (point.weight * weight) + LEVEL_ERROR * LEVEL_ERROR;
            let weight = 1.0 / (variance * scale.powi(2));
            for (row, rate) in sums.iter_mut().zip(point.rates) {
                row.iter_mut().zip(point.rates).for_each(|(sum, other)| *sum += weight * rate * other);
            }
        }
        let of_static = sums[Feature::Always as usize];
        let pivot = of_static[Feature::Always as usize];
        if pivot > 0.0 {
            for row in &mut sums {
                let part = row[Feature::Always as usize] / pivot;
                row.iter_mut().zip(of_static).for_each(|(sum, of)| *sum -= part * of);
            }
        }
        sums
    }

    /// The points, each with the power that its errors count as parts of, W.
    fn scaled_points(&self) -> impl Iterator<Item = (&WorkingPoint, f64)> {
        let least = self.least_watts();
        self.points.iter().map(move |point| (point, point.watts.max(least)))
    }

    /// The power down to which errors are as large as they are at more, W.
    pub(super) fn least_watts(&self) -> f64 {
        LEAST_POWER * self.points.mean_watts().unwrap_or(0.0).max(MIN_WATTS)
    }

    /// The last seconds, to correct predictions by.
    pub(super) fn last_seconds(&self) -> &LastSeconds {
        &self.last_seconds
    }

    /// How the machine was used in the last seconds.
    pub(super) fn recent(&self) -> Option<&RecentMean> {
        self.differences.recent()
    }

    /// The coefficients of `features` and of static power that fit best, none below zero, and static power
    /// not above the lowest power that was drawn. `None` before the load has varied enough.
    ///
    /// Relative errors are least: the error of a meter, and of a model, grows with the power that is drawn.
    /// Static power is `given` where it is known. Where the observations leave a choice, the fit stays near
    /// `expected`. `level_weight` is the weight of a point beside a difference, above 0 to 1; at 1
    /// differences do not count.
    pub(super) fn fit(
        &self,
        features: &[Feature],
        given: Option<f64>,
        expected: Option<&Expected>,
        level_weight: f64,
    ) -> Option<Coefficients> {
        if given.is_none() && !self.is_determined {
            return None;
        }
        let fitted = self.solve(features, given, expected, level_weight)?;
        let lowest = self.points.lowest();
        let excess = lowest.filter(|lowest| given.is_none() && fitted[Feature::Always as usize] > *lowest);
        match excess {
            Some(lowest) => self.solve(features, Some(lowest), expected, level_weight),
            None => Some(fitted),
        }
    }

    fn solve(
        &self,
        features: &[Feature],
        given: Option<f64>,
        expected: Option<&Expected>,
        level_weight: f64,
    ) -> Option<Coefficients> {
        let (mut g, mut b) = ([[0.0; FEATURES]; FEATURES], [0.0; FEATURES]);
        let mut unknowns: Vec<usize> = features.iter().map(|&f| f as usize).collect();
        if given.is_none() {
            unknowns.push(Feature::Always as usize);
        }
        if level_weight < 1.0 {
            self.differences.add_to(&mut g, &mut b);
        }
        for (point, scale) in self.scaled_points() {
            let weight = point.weight * level_weight * scale.powi(-2);
            let watts = point.watts - given.unwrap_or(0.0);
            for &i in &unknowns {
                b[i] += weight * point.rates[i] * watts;
                for &j in &unknowns {
                    g[i][j] += weight * point.rates[i] * point.rates[j];
                }
            }
        }
        unknowns.retain(|&i| g[i][i] > 0.0);
        for &i in &unknowns {
            let ridge = expected.map_or(RIDGE, |expected| expected.ridge) * g[i][i];
            b[i] += ridge * expected.map_or(0.0, |expected| expected.coefficients[i]);
            g[i][i] += ridge;
        }
        let mut found = nnls::solve(&g, &b, &unknowns);
        if let Some(given) = given {
            found[Feature::Always as usize] = given;
        }
        found.iter().all(|c| c.is_finite()).then_some(found)
    }

    /// The standard error of static power, as a part of mean power, if it is taken from a line through the
    /// points; `None` before there are enough observations, at more than one load.
    fn static_error(&self) -> Option<f64> {
        self.points.line().filter(|line| line.weight > MIN_OBSERVATIONS * DECAYED)?.relative_error()
    }

    /// What is known of static power, given what is expected of it; `None` before the first observation.
    pub(super) fn static_power(&self, prior: &Prior) -> Option<StaticPower> {
        let StaticPower { watts, error } = self.points.line()?.with_prior(prior);
        Some(StaticPower { watts: watts.min(self.points.lowest().unwrap_or(watts)), error })
    }

    /// Whether the observations show static power better than they would show it at their mean load, with
    /// the prior alone.
    pub(super) fn outweighs(&self, prior: &Prior) -> bool {
        let of_prior = self.points.line().map(|line| line.relative_error_of(prior));
        self.is_determined && self.static_error() <= of_prior
    }
}

/// What lasts of the variances of observations, of `observed` seconds, and of long ones, over so many
/// `seconds` ([`Learner::unexplained`]).
fn lasting([of_short, of_long]: [f64; 2], observed: f64, seconds: f64) -> f64 {
    let long = LONG_OBSERVATION.as_secs_f64();
    // variance · seconds² = lasting · seconds + what the two edges add
    let [energy, long_energy] = [of_short.max(0.0) * observed * observed, of_long * long * long];
    let lasts = if observed < 0.5 * long { (long_energy - energy) / (long - observed) } else { f64::MAX };
    let variance = (lasts / long).min(of_long).max(MIN_UNEXPLAINED * MIN_UNEXPLAINED);
    variance * (long / seconds).max(1.0)
}

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
