//! The power model of one domain: learns from the meter how power depends on usage, and gives the weights by
//! which the books divide energy. It knows nothing of series, consumers or shares.
//!
//! Its face is [`PowerModel`]: [`observe`](PowerModel::observe) takes in a window,
//! [`weigh`](PowerModel::weigh) gives a consumer's weight, [`static_power`](PowerModel::static_power) and
//! [`static_energy`](PowerModel::static_energy) the part that is drawn at no load, and
//! [`static_error`](PowerModel::static_error) how surely that is known. [`StateFile`] keeps what was learnt
//! across restarts.
//!
//! | file | holds |
//! | --- | --- |
//! | `constants.rs` | every tuned constant |
//! | `observation.rs`, `features.rs` | windows added up to observations; the terms of power |
//! | `basis.rs`, `candidate.rs` | the kinds of weights; one of them with its coefficients and errors |
//! | `shared_cores.rs` | what is expected of shared cores |
//! | `code_costs.rs`, `own_places.rs`, `effect_sums.rs`, `predicted.rs` | by how much kinds of code, and consumers, cost more or less than that |
//! | `cost_variances.rs` | how far off that is in a window |
//! | `expected_error.rs`, `mixtures.rs`, `noise.rs` | what is missed because it is not known yet; mixtures of kinds; what is left |
//! | `weigher.rs`, `awake.rs` | the weights of a window's consumers; who kept a package awake |
//! | `correction.rs` | how power differs now from what coefficients say |
//! | `working_points.rs`, `difference_fit.rs` | what is remembered: levels of power, and changes of it |
//! | `recent.rs` | the mean of the last seconds, which changes are compared with |
//! | `learner.rs`, `nnls.rs`, `cholesky.rs` | the fit of power to features |
//! | `prior.rs`, `static_power.rs` | static power before it is learnt, and how surely it is known |
//! | `uncertainty.rs` | how far off all of it may be |
//! | `trial.rs` | when a candidate is withdrawn in favour of CPU time |
//! | `replay.rs` | a model alone, for recorded counters |
//! | `state.rs`, `machine.rs` | the state file, and which machine it is of |

mod awake;
mod basis;
mod candidate;
mod cholesky;
mod code_costs;
mod constants;
mod correction;
mod cost_variances;
mod difference_fit;
mod effect_sums;
mod expected_error;
mod features;
mod learner;
mod machine;
mod mixtures;
mod nnls;
mod noise;
mod observation;
mod own_places;
mod predicted;
mod prior;
mod recent;
mod replay;
mod shared_cores;
mod state;
mod static_power;
mod trial;
mod uncertainty;
mod warmth;
mod weigher;
mod working_points;

use wattrace_api::ResourceKind;

use crate::amounts::Amounts;
use crate::code::Ran;
use crate::config::Weights;
use basis::Basis;
use candidate::Candidate;
pub(crate) use code_costs::CodeCosts;
pub(crate) use constants::CLOCK_ERROR;
use constants::{
    CONTRADICTIONS, DEFAULT_SMT_FACTOR, MAX_CONTRADICTION, RIDGE, SHORT_WINDOW, SLEEP_DEVIATIONS,
    SMT_FACTORS, STATIC_DRIFT,
};
pub(crate) use cost_variances::CostVariances;
use features::{Coefficients, Feature, executed_watts, watts};
use learner::Expected;
pub(crate) use learner::Learner;
pub(crate) use observation::ObservedWindow;
use observation::{Accumulator, Observation};
use predicted::Predicted;
pub(crate) use predicted::{ByKind, ByOwn, Own};
use prior::Prior;
pub use replay::{CountedWindow, PowerPredictor};
pub(crate) use state::StateFile;
use static_power::StaticPower;
use uncertainty::StandardErrors;
pub(crate) use uncertainty::Uncertainty;
use warmth::Warmth;
pub(crate) use weigher::{Weigher, Weight};

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
    prior: Prior,
    /// It draws less while nothing runs.
    may_sleep: bool,
    /// What is known of static power without its drift; `None` before the first observation, unless it is
    /// given.
    static_power: Option<StaticPower>,
    /// The meter has shown static power better than it was expected; never where it is given.
    is_static_learnt: bool,
    /// What was learnt in an earlier run, and how many observations have contradicted it; `None` once one has
    /// confirmed it.
    earlier: Option<(Learner, u32)>,
    accumulator: Accumulator,
    previous: Option<Observation>,
    errors: StandardErrors,
    warmth: Warmth,
    codes: CodeCosts,
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
            candidates: bases.map(|&basis| Candidate::new(basis, given_watts.is_some())).collect(),
            in_use: 0,
            on_trial: weights == Weights::Fitted,
            given_watts,
            given_smt_factor,
            prior: Prior::of(kind),
            may_sleep: *kind == ResourceKind::Package,
            static_power: None,
            is_static_learnt: false,
            earlier: (learner.observations() > 0).then(|| (learner.clone(), 0)),
            learner,
            accumulator: Accumulator::default(),
            previous: None,
            errors: StandardErrors::default(),
            codes: CodeCosts::default(),
            warmth: if given_watts.is_some() { Warmth::none() } else { Warmth::of(kind) },
        };
        model.fit();
        model
    }

    /// Adds the usage of the consumer in `slot`, and what it ran, to a window.
    pub(crate) fn count(
        &mut self,
        window: &mut ObservedWindow,
        slot: usize,
        amounts: &Amounts,
        ran: Option<Ran>,
    ) {
        let features = window.add(amounts);
        if let (Some(ran), Some(costs)) = (ran, self.candidates[self.in_use].costs()) {
            let own = self.codes.own_or_new(slot);
            window.predicted.add(slot, own, ran, executed_watts(costs, &features));
        }
    }

    /// Learns from a window. Returns whether there is news to publish.
    pub(crate) fn observe(&mut self, window: &ObservedWindow) -> bool {
        self.score_window(window);
        let Some((seen, predicted)) = self.accumulator.add(window) else { return false };
        let drawn = seen.watts;
        // What it would have drawn cold, and with code that costs what the coefficients say.
        let cold = Observation { watts: (drawn - self.warmth.watts_at(drawn)).max(0.0), ..seen };
        let observation =
            Observation { watts: (cold.watts - self.codes.beyond(&predicted)).max(0.0), ..cold };
        self.compare(&observation);
        self.score(&observation);
        self.forget_if_contradicted(&observation);
        self.learner.learn(&observation);
        self.fit();
        self.learn_codes(&cold, &predicted);
        self.warmth.add(drawn, observation.seconds);
        self.renew_errors(&observation, window);
        true
    }

    /// Static power in watts, given, learnt or expected; `None` before the first observation, unless it is
    /// given.
    pub(crate) fn static_power(&self) -> Option<f64> {
        let learnt = || self.candidate().static_watts().or_else(|| self.candidates[0].static_watts());
        self.given_watts.or_else(learnt).map(|watts| watts + self.warmth.watts())
    }

    /// The standard error of [`PowerModel::static_power`] in watts; 0 where that is given.
    pub(crate) fn static_error(&self) -> Option<f64> {
        self.static_power.map(|known| known.error)
    }

    /// Static energy in a window, µJ.
    pub(crate) fn static_energy(&self, window: &ObservedWindow) -> f64 {
        self.static_energy_and_part(window).0
    }

    /// Static energy in a window, µJ, and the part, 0 to 1, that it has of what more or less is measured than
    /// is predicted.
    ///
    /// In a short window the meter itself is early or late: it may have measured half a millisecond more or
    /// less than the window, of static and dynamic power alike. That part of the error is shared between both
    /// in proportion. The rest is dynamic: a load costs more or less than is predicted. But where hardly any
    /// load is predicted, and the error is no more than what power varies by anyway, the rest is static, too.
    /// Else who hardly ran would receive all that exceeds static power. A larger error is the load's, also
    /// where no load was ever seen.
    fn static_energy_and_part(&self, window: &ObservedWindow) -> (f64, f64) {
        let Some(watts) = self.static_power() else {
            return (window.microjoules as f64 * self.prior.static_part(window.utilisation()), 0.0);
        };
        let expected = watts * window.ns as f64 * 1e-3;
        let Some(dynamic) = self.dynamic_energy(window) else { return (expected, 0.0) };
        let error = window.microjoules as f64 - expected - dynamic;
        let static_part = expected / (expected + dynamic).max(f64::MIN_POSITIVE);
        let noise = self.given_watts.map_or_else(|| self.errors.noise_energy(window).powi(2), |_| 0.0);
        let static_rest = noise / (noise + dynamic * dynamic + error * error).max(f64::MIN_POSITIVE);
        let meter_part = self.candidate().meter_part();
        let part = meter_part * static_part + (1.0 - meter_part) * static_rest;
        (expected + error * part, part)
    }

    /// The dynamic energy that is predicted for a window, µJ; `None` before anything is learnt.
    fn dynamic_energy(&self, window: &ObservedWindow) -> Option<f64> {
        let predicted = self.candidate().dynamic_energy(&window.features)?;
        Some(predicted + self.codes.beyond(&window.predicted) * 1e6)
    }

    /// By how much kinds of code cost more or less than the coefficients say.
    pub(crate) fn codes(&self) -> &CodeCosts {
        &self.codes
    }

    /// The consumer in `slot` has ended, and all its windows are counted.
    pub(crate) fn end_consumer(&mut self, slot: usize) {
        self.codes.end_consumer(slot);
        self.accumulator.end_consumer(slot);
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
        self.candidates.iter_mut().for_each(|candidate| candidate.score(observation));
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
        let Some(dynamic) = self.dynamic_energy(window) else { return };
        let predicted = static_watts * window.ns as f64 * 1e-3 + dynamic;
        self.candidates[self.in_use].score_window(predicted, window.microjoules as f64);
    }

    /// Forgets what was learnt in an earlier run if the first observations of this one contradict it: the
    /// meter, the machine or its settings are not the same any more.
    fn forget_if_contradicted(&mut self, observation: &Observation) {
        let Some((earlier, contradictions)) = &mut self.earlier else { return };
        // Only a load that was seen before says whether it was the same machine: how well the fit
        // extrapolates to another is a different question.
        let seen = earlier.points().watts_at(observation).filter(|_| observation.watts > 0.0);
        let Some(ratio) = seen.map(|seen| seen / observation.watts) else { return };
        if (1.0 / MAX_CONTRADICTION..=MAX_CONTRADICTION).contains(&ratio) {
            self.earlier = None;
            return;
        }
        *contradictions += 1;
        if *contradictions == CONTRADICTIONS {
            self.learner = self.learner.replaced();
            self.earlier = None;
        }
    }

    /// Learns what kinds of code cost from an observation, for which `powers` were predicted, W.
    fn learn_codes(&mut self, observation: &Observation, powers: &Predicted) {
        let Some(costs) = self.candidate().costs().copied() else { return self.codes.forget() };
        self.codes.add(observation, powers, self.learner.least_watts());
        let noise = self.learner.noise(&costs, observation.seconds, self.codes.expected_errors());
        let level_weight = self.candidate().level_weight(self.learner.recent());
        let levels = self.learner.levels(level_weight, noise.lasting());
        self.codes.fit(&costs, &levels, noise);
    }

    /// Fits every candidate to what was learnt, and chooses the one to use.
    fn fit(&mut self) {
        let learner = &self.learner;
        self.static_power = match self.given_watts {
            Some(watts) => Some(StaticPower { watts, error: 0.0 }),
            None => learner.static_power(&self.prior),
        };
        // Until the observations show static power better than it was expected, the fit does not change it.
        let is_learnt = self.given_watts.is_none() && learner.outweighs(&self.prior);
        if is_learnt && !self.is_static_learnt {
            self.candidates.iter_mut().for_each(Candidate::restart_errors);
        }
        self.is_static_learnt = is_learnt;
        let held = self.static_power.filter(|_| !is_learnt).map(|known| known.watts);
        let recent = learner.recent();
        let of_time = self.candidates[0].level_weight(recent);
        let line = learner.fit(&[Feature::Time], held, None, of_time);
        // Where the observations leave a choice, all CPU time is expected to cost the same, and all cycles.
        let expected = |line: Option<Coefficients>| {
            line.map(|line| {
                let mut expected = line;
                for feature in [Feature::Alone, Feature::Shared] {
                    expected[feature as usize] = line[Feature::Time as usize];
                }
                for feature in [Feature::CyclesAlone, Feature::CyclesShared] {
                    expected[feature as usize] = line[Feature::Cycles as usize];
                }
                Expected { coefficients: expected, ridge: RIDGE }
            })
        };
        let plane = learner.fit(&[Feature::Time, Feature::Cycles], held, None, of_time);
        let [by_time, by_both] = [line, plane].map(expected);
        // Whether a package sleeps shows once static power does.
        let may_sleep = self.may_sleep && is_learnt;
        for candidate in &mut self.candidates {
            let applies =
                |feature| learner.points().has_seen(feature) && (feature != Feature::Awake || may_sleep);
            let mut features = candidate.basis.features(applies);
            let level_weight = candidate.level_weight(recent);
            let coefficients = match candidate.basis {
                Basis::Time => line,
                _ if features.is_empty() => None,
                Basis::SharedCores => {
                    by_time.and_then(|e| learner.fit(&features, held, Some(&e), level_weight))
                }
                Basis::Fitted => by_both.and_then(|expected| {
                    let fit = |features: &[Feature]| {
                        let near =
                            |expected: &Expected| learner.fit(features, held, Some(expected), level_weight);
                        let found = near(&expected)?;
                        match shared_cores::expected(&found, &learner.points().mean_rates()) {
                            Some(expected) => near(&expected),
                            None => Some(found),
                        }
                    };
                    let found = fit(&features)?;
                    if sleeps(&found) {
                        return Some(found);
                    }
                    features.retain(|feature| *feature != Feature::Awake);
                    fit(&features)
                }),
                _ => learner.fit(&features, held, None, level_weight),
            };
            candidate.renew(coefficients, learner.last_seconds(), self.errors.unexplained);
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
        let applies = !self.candidates[last].basis.features(|f| self.learner.points().has_seen(f)).is_empty();
        if applies { last } else { 0 }
    }
}

/// Whether so much less is drawn while nothing runs that it is no drift of static power.
fn sleeps(coefficients: &Coefficients) -> bool {
    let (awake, static_watts) =
        (coefficients[Feature::Awake as usize], coefficients[Feature::Always as usize]);
    awake > SLEEP_DEVIATIONS * STATIC_DRIFT * (static_watts + awake)
}

#[cfg(test)]
mod tests;
