//! The power model of one domain: learns from the meter how power depends on usage, and gives the weights by
//! which the books divide energy. It knows nothing of series, consumers or shares.
//!
//! Its face is [`PowerModel`]: [`observe`](PowerModel::observe) takes in a window,
//! [`weigh`](PowerModel::weigh) gives a consumer's weight, [`static_power`](PowerModel::static_power) and
//! [`static_energy`](PowerModel::static_energy) the part that is drawn at no load. [`StateFile`] keeps what
//! was learnt across restarts.
//!
//! | file | holds |
//! | --- | --- |
//! | `constants.rs` | every tuned constant |
//! | `observation.rs`, `features.rs` | windows added up to observations; the terms of power |
//! | `basis.rs`, `candidate.rs` | the kinds of weights; one of them with its coefficients and errors |
//! | `learner.rs`, `difference_fit.rs`, `nnls.rs` | the fit of power to features |
//! | `trial.rs` | when a candidate is withdrawn in favour of CPU time |
//! | `state.rs` | the state file |

mod basis;
mod candidate;
mod constants;
mod difference_fit;
mod features;
mod learner;
mod nnls;
mod observation;
mod state;
mod trial;

use wattrace_api::ResourceKind;

use crate::amounts::{Amounts, Quantity};
use crate::config::Weights;
use basis::Basis;
use candidate::Candidate;
use constants::{DEFAULT_SMT_FACTOR, MIN_LEVEL_WEIGHT, SHORT_WINDOW, SMT_FACTORS};
use features::{FEATURES, Feature, features, picojoules, watts};
pub(crate) use learner::Learner;
pub(crate) use observation::ObservedWindow;
use observation::{Accumulator, Observation};
pub(crate) use state::StateFile;

/// A domain's model.
#[derive(Debug)]
pub(crate) struct PowerModel {
    learner: Learner,
    /// The first is CPU time, the last the preferred one.
    candidates: Vec<Candidate>,
    in_use: usize,
    /// Whether candidates are withdrawn while they predict power worse than CPU time does.
    on_trial: bool,
    given_watts: Option<f64>,
    given_smt_factor: Option<f64>,
    accumulator: Accumulator,
    previous: Option<Observation>,
}

/// How well one of the model's candidates does.
pub(crate) struct CandidateStatus {
    /// The kind of weights, as in `plugins.attribution.weights`.
    pub(crate) name: &'static str,
    /// Mean relative error of the power that it predicted, once it has predicted some.
    pub(crate) error: Option<f64>,
    /// Energy is divided by it now.
    pub(crate) in_use: bool,
}

impl PowerModel {
    /// The model of a domain of `kind` that goes on from what `learner` knows. Static power and the weight of
    /// shared CPU time are learnt unless they are given.
    pub(crate) fn new(
        weights: Weights,
        kind: &ResourceKind,
        given_watts: Option<f64>,
        given_smt_factor: Option<f64>,
        learner: Learner,
    ) -> Self {
        let bases = [Basis::Time].iter().chain(Basis::wanted(weights, kind));
        let mut model = Self {
            learner,
            candidates: bases.map(|&basis| Candidate::new(basis)).collect(),
            in_use: 0,
            on_trial: weights == Weights::Fitted,
            given_watts,
            given_smt_factor,
            accumulator: Accumulator::default(),
            previous: None,
        };
        model.fit();
        model
    }

    /// Learns from a window. Returns whether there is news to publish.
    pub(crate) fn observe(&mut self, window: &ObservedWindow) -> bool {
        self.score_window(window);
        let Some(observation) = self.accumulator.add(window) else { return false };
        self.compare(&observation);
        self.score(&observation);
        self.learner.learn(&observation);
        self.fit();
        true
    }

    /// The weight of `amounts`. Weights are comparable within a domain and window only.
    pub(crate) fn weigh(&self, amounts: &Amounts) -> u64 {
        let candidate = self.candidate();
        let time = amounts[Quantity::Time as usize];
        match candidate.basis {
            Basis::Time => time,
            Basis::Cycles => amounts[Quantity::Cycles as usize],
            Basis::Instructions => amounts[Quantity::Instructions as usize],
            Basis::CacheMisses => amounts[Quantity::CacheMisses as usize],
            Basis::SharedCores => {
                let shared = amounts[Quantity::Shared as usize].min(time);
                time - shared + (shared as f64 * self.smt_factor()) as u64
            }
            Basis::Fitted => match candidate.coefficients {
                Some(coefficients) => picojoules(&coefficients, &features(amounts)),
                None => time,
            },
        }
    }

    /// Static power in watts, given or learnt; `None` before it is known.
    pub(crate) fn static_power(&self) -> Option<f64> {
        let recent = self.learner.recent();
        let learnt = |candidate: &Candidate| {
            let mean = candidate.coefficients?[Feature::Always as usize];
            Some((mean + candidate.drift(recent)).max(0.0))
        };
        self.given_watts.or_else(|| learnt(self.candidate())).or_else(|| learnt(&self.candidates[0]))
    }

    /// Static energy in a window, µJ; `None` before static power is known.
    ///
    /// In a short window the meter itself is early or late: it may have measured half a millisecond more or
    /// less than the window, of static and dynamic power alike. That part of the error is shared between both
    /// in proportion; the rest is dynamic.
    pub(crate) fn static_energy(&self, window: &ObservedWindow) -> Option<f64> {
        let expected = self.static_power()? * window.ns as f64 * 1e-3;
        let candidate = self.candidate();
        let Some(coefficients) = &candidate.coefficients else { return Some(expected) };
        let dynamic = picojoules(coefficients, &window.features) as f64 * 1e-6;
        let error = window.microjoules as f64 - expected - dynamic;
        let static_part = expected / (expected + dynamic).max(f64::MIN_POSITIVE);
        Some(expected + error * static_part * candidate.meter_part())
    }

    /// How well each candidate does. Their number and order never change.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = CandidateStatus> {
        self.candidates.iter().enumerate().map(|(at, candidate)| CandidateStatus {
            name: candidate.basis.name(),
            error: candidate.error(),
            in_use: at == self.in_use,
        })
    }

    /// What it has learnt.
    pub(crate) fn learner(&self) -> &Learner {
        &self.learner
    }

    /// What it has learnt.
    pub(crate) fn into_learner(self) -> Learner {
        self.learner
    }

    /// The candidate that energy is divided by now.
    fn candidate(&self) -> &Candidate {
        &self.candidates[self.in_use]
    }

    fn smt_factor(&self) -> f64 {
        let learnt = || {
            let c = self.candidate().coefficients?;
            let (alone, shared) = (c[Feature::Alone as usize], c[Feature::Shared as usize]);
            (alone > 0.0 && shared > 0.0)
                .then(|| (shared / alone).clamp(*SMT_FACTORS.start(), *SMT_FACTORS.end()))
        };
        self.given_smt_factor.or_else(learnt).unwrap_or(DEFAULT_SMT_FACTOR)
    }

    /// Compares each candidate's prediction with the observation, before it is learnt: a candidate must not
    /// be judged by what it was fitted to.
    fn score(&mut self, observation: &Observation) {
        let recent = self.learner.recent();
        for candidate in &mut self.candidates {
            let drift = if self.given_watts.is_none() { candidate.drift(recent) } else { 0.0 };
            candidate.score(observation, drift);
        }
    }

    /// Compares the changes since the previous observation with those that the candidates predicted, in the
    /// same way.
    fn compare(&mut self, observation: &Observation) {
        let Some(previous) = self.previous.replace(*observation) else { return };
        let error_of = |candidate: &Candidate| {
            let coefficients = candidate.coefficients?;
            let predicted = watts(&coefficients, &observation.rates) - watts(&coefficients, &previous.rates);
            Some(predicted - (observation.watts - previous.watts))
        };
        let Some((time, others)) = self.candidates.split_first_mut() else { return };
        let Some(time_error) = error_of(time) else { return };
        for other in others {
            if let Some(error) = error_of(other) {
                let usual = other.mean_error().min(time.mean_error()) * observation.watts;
                other.trial.add(error, time_error, usual);
            }
        }
    }

    /// Compares a short window's energy with what the candidate in use predicted.
    fn score_window(&mut self, window: &ObservedWindow) {
        if window.ns == 0 || window.ns > SHORT_WINDOW.as_nanos() as u64 {
            return;
        }
        let Some(static_watts) = self.static_power() else { return };
        let candidate = &mut self.candidates[self.in_use];
        let Some(coefficients) = &candidate.coefficients else { return };
        let dynamic = picojoules(coefficients, &window.features) as f64 * 1e-6;
        let predicted = static_watts * window.ns as f64 * 1e-3 + dynamic;
        candidate.score_window(predicted, window.microjoules as f64);
    }

    /// Fits every candidate to what was learnt, and chooses the one to use.
    fn fit(&mut self) {
        let learner = &self.learner;
        let recent = learner.recent();
        // Static power's drift disturbs levels but not differences; the model's own errors are in both.
        let level_weight = |candidate: &Candidate| (1.0 - candidate.drift_part(recent)).max(MIN_LEVEL_WEIGHT);
        let line = learner.fit(&[Feature::Time], self.given_watts, None, level_weight(&self.candidates[0]));
        // Where the observations leave a choice, all CPU time is expected to cost the same.
        let expected = line.map(|line| {
            let mut expected = [0.0; FEATURES];
            expected[Feature::Always as usize] = line[Feature::Always as usize];
            for feature in [Feature::Time, Feature::Alone, Feature::Shared] {
                expected[feature as usize] = line[Feature::Time as usize];
            }
            expected
        });
        for candidate in &mut self.candidates {
            let features = candidate.basis.features(|feature| learner.has_seen(feature));
            let level_weight = level_weight(candidate);
            candidate.coefficients = match candidate.basis {
                Basis::Time => line,
                _ if features.is_empty() => None,
                Basis::Fitted | Basis::SharedCores => {
                    expected.and_then(|e| learner.fit(&features, self.given_watts, Some(&e), level_weight))
                }
                _ => learner.fit(&features, self.given_watts, None, level_weight),
            };
        }
        self.in_use = self.choose();
    }

    fn choose(&self) -> usize {
        if self.on_trial {
            let passes = |c: &(usize, &Candidate)| {
                c.1.coefficients.is_some() && c.1.is_scored() && !c.1.trial.is_lost()
            };
            let others = self.candidates.iter().enumerate().skip(1);
            // Reversed, so that the later of two equally good ones is chosen.
            let best =
                others.rev().filter(passes).min_by(|a, b| a.1.mean_error().total_cmp(&b.1.mean_error()));
            return best.map_or(0, |(at, _)| at);
        }
        let last = self.candidates.len() - 1;
        let applies = !self.candidates[last].basis.features(|f| self.learner.has_seen(f)).is_empty();
        if applies { last } else { 0 }
    }
}

#[cfg(test)]
mod tests;
