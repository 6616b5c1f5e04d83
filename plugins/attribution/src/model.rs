//! By what a domain's dynamic energy is divided: the bases that are configured, what each has learnt, how
//! well it foretells the domain's power, and which one is in use.

use std::time::Duration;

use wattrace_api::ResourceKind;

use crate::Weights;
use crate::amounts::{Amounts, FEATURES, Feature, Features, Quantity, features};
use crate::contest::Contest;
use crate::contrasts::Lately;
use crate::learner::{Coefficients, Learner, Reading};

/// What energy is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Time on CPUs, or on a device.
    Time,
    Cycles,
    Instructions,
    /// Misses of the last-level cache.
    Misses,
    /// CPU time, less where a core's other CPU was busy.
    SharedCores,
    /// Everything that is counted, each with the coefficient that fits the meter.
    Fitted,
}

impl Basis {
    /// As it is told, in the words of `plugins.attribution.weights` where there is one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Basis::Time => "cpu-time",
            Basis::Cycles => "cycles",
            Basis::Instructions => "instructions",
            Basis::Misses => "cache-misses",
            Basis::SharedCores => "smt",
            Basis::Fitted => "fitted",
        }
    }

    /// What it takes power to be a sum of, of what was seen; empty: it does not apply here.
    fn features(self, learner: &Learner) -> Vec<Feature> {
        let seen = |features: &[Feature]| features.iter().copied().filter(|&f| learner.has(f)).collect();
        match self {
            Basis::Time => vec![Feature::Time],
            Basis::Cycles => seen(&[Feature::Cycles]),
            Basis::Instructions => seen(&[Feature::Instructions]),
            Basis::Misses => seen(&[Feature::Misses]),
            Basis::SharedCores if learner.has(Feature::Shared) => vec![Feature::Alone, Feature::Shared],
            Basis::SharedCores => Vec::new(),
            Basis::Fitted => {
                let mut all: Vec<Feature> = seen(&[
                    Feature::CyclesAlone,
                    Feature::CyclesShared,
                    Feature::FastAlone,
                    Feature::FastShared,
                    Feature::Instructions,
                    Feature::InstructionsFast,
                    Feature::Misses,
                ]);
                match learner.has(Feature::Shared) {
                    true => all.extend([Feature::Alone, Feature::Shared]),
                    false if all.is_empty() => return Vec::new(),
                    false => all.push(Feature::Time),
                }
                all
            }
        }
    }
}

/// A basis and what is known of it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) basis: Basis,
    coefficients: Option<Coefficients>,
    /// Mean relative error of the power that it foretold, and over how many readings.
    error: f64,
    scored: u32,
    /// The same of windows that are much shorter than a reading.
    window_error: f64,
    windows: u32,
    /// With CPU time, about changes of power.
    contest: Contest,
}

impl Candidate {
    /// How much of what power is off, over the last seconds, is static power's drift rather than the model's
    /// mistake, 0 to 1: by how much of each is to be expected.
    fn drift(&self, lately: Option<&Lately>) -> f64 {
        let (Some(coefficients), Some(lately)) = (self.coefficients, lately) else { return 0.0 };
        if self.scored < TRIED {
            return 0.0;
        }
        let drift = DRIFT * coefficients[Feature::Always as usize];
        let mistake = self.error * lately.watts;
        let (drift, mistake) = (drift * drift, mistake * mistake);
        if drift > 0.0 { drift / (drift + mistake) } else { 0.0 }
    }

    /// How far static power has lately drifted from its coefficient, W.
    fn drifted(&self, lately: Option<&Lately>) -> f64 {
        let (Some(coefficients), Some(now)) = (self.coefficients, lately) else { return 0.0 };
        (now.watts - watts(&coefficients, &now.rates)) * self.drift(lately)
    }

    /// How much of what a window is off is the meter's lateness rather than the model's mistake, 0 to 1.
    /// Lateness averages out over a reading, mistakes do not.
    fn lateness(&self) -> f64 {
        if self.windows < TRIED || self.scored < TRIED || self.window_error <= self.error {
            return 0.0;
        }
        1.0 - (self.error / self.window_error).powi(2)
    }

    /// Mean relative error of the power that it foretold; `None` before it has foretold anything.
    pub(crate) fn error(&self) -> Option<f64> {
        (self.scored > 0).then_some(self.error)
    }
}

/// Readings are gathered until they span so much: meters that update every millisecond say little about a
/// single one.
const READING: Duration = Duration::from_millis(100);
/// Readings that an error is a mean over, at most; and before it counts.
const MEMORY: u32 = 20;
const TRIED: u32 = 10;
/// Windows that their error is a mean over, at most.
const WINDOWS: u32 = 1000;
/// How far static power may be from its mean, as a part of it: it is some percent more when the hardware is
/// warm.
const DRIFT: f64 = 0.03;
/// What levels weigh at least, beside contrasts: of static power only they tell.
const LEAST_LEVELS: f64 = 0.01;
/// Of a core's dynamic power, what one of its CPUs accounts for while both are busy, relative to one that is
/// busy alone, until it is given or learnt: two together draw about a quarter more than one.
const SMT_FACTOR: f64 = 0.63;

/// A domain's model.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) learner: Learner,
    /// The first is time, the last the one that is wanted.
    candidates: Vec<Candidate>,
    in_use: usize,
    /// Whether the wanted one is withdrawn while it foretells power worse than CPU time does.
    on_trial: bool,
    fixed_watts: Option<f64>,
    smt_factor: Option<f64>,
    gathered: Gathered,
    /// The last reading that was learnt.
    before: Option<Reading>,
}

#[derive(Debug, Default)]
struct Gathered {
    load: Features,
    microjoules: u64,
    ns: u64,
    busy_ns: u64,
    all_ns: u64,
}

/// A window's readings in sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) features: Features,
    pub(crate) microjoules: u64,
    pub(crate) ns: u64,
    pub(crate) busy_ns: u64,
    pub(crate) idle_ns: u64,
}

impl Model {
    /// The model of a domain of `kind`, with static power `fixed_watts` if that is known.
    pub(crate) fn new(
        weights: Weights,
        kind: &ResourceKind,
        fixed_watts: Option<f64>,
        smt_factor: Option<f64>,
        learner: Learner,
    ) -> Self {
        let dram = *kind == ResourceKind::Dram;
        let wanted: &[Basis] = match weights {
            Weights::CpuTime => &[],
            Weights::Fitted if dram => &[Basis::Misses, Basis::Fitted],
            Weights::Fitted => &[Basis::Fitted],
            // Memory draws power when it is accessed, whatever the CPU does meanwhile.
            _ if dram => &[Basis::Misses],
            Weights::Cycles => &[Basis::Cycles],
            Weights::Instructions => &[Basis::Instructions],
            Weights::Smt => &[Basis::SharedCores],
        };
        let candidate = |&basis: &Basis| Candidate {
            basis,
            coefficients: None,
            error: 0.0,
            scored: 0,
            window_error: 0.0,
            windows: 0,
            contest: Contest::default(),
        };
        let mut model = Self {
            learner,
            candidates: [Basis::Time].iter().chain(wanted).map(candidate).collect(),
            in_use: 0,
            on_trial: weights == Weights::Fitted,
            fixed_watts,
            smt_factor,
            gathered: Gathered::default(),
            before: None,
        };
        model.fit();
        model
    }

    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// What energy is divided by now.
    pub(crate) fn basis(&self) -> Basis {
        self.candidates[self.in_use].basis
    }

    /// Static power in watts, once it can be told.
    pub(crate) fn static_watts(&self) -> Option<f64> {
        let lately = self.learner.lately();
        let learnt = |candidate: &Candidate| {
            let mean = candidate.coefficients?[Feature::Always as usize];
            Some((mean + candidate.drifted(lately)).max(0.0))
        };
        self.fixed_watts
            .or_else(|| learnt(&self.candidates[self.in_use]))
            .or_else(|| learnt(&self.candidates[0]))
    }

    /// Static energy in a window, µJ; `None` before static power can be told.
    ///
    /// In a short window the meter's own lateness counts: it may have measured half a millisecond more or
    /// less than the window, of static and dynamic power alike. So much of what it is off goes to both, in
    /// proportion; the rest is dynamic.
    pub(crate) fn static_energy(&self, load: &Load) -> Option<f64> {
        let expected = self.static_watts()? * load.ns as f64 * 1e-3;
        let candidate = &self.candidates[self.in_use];
        let Some(coefficients) = &candidate.coefficients else { return Some(expected) };
        let dynamic = picojoules(coefficients, &load.features) as f64 * 1e-6;
        let off = load.microjoules as f64 - expected - dynamic;
        let of_static = expected / (expected + dynamic).max(f64::MIN_POSITIVE);
        Some(expected + off * of_static * candidate.lateness())
    }

    /// What `amounts` weigh. Weights are compared within a domain and window only.
    pub(crate) fn weight(&self, amounts: &Amounts) -> u64 {
        let candidate = &self.candidates[self.in_use];
        let time = amounts[Quantity::Time as usize];
        match candidate.basis {
            Basis::Time => time,
            Basis::Cycles => amounts[Quantity::Cycles as usize],
            Basis::Instructions => amounts[Quantity::Instructions as usize],
            Basis::Misses => amounts[Quantity::Misses as usize],
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

    fn smt_factor(&self) -> f64 {
        let learnt = || {
            let c = self.candidates[self.in_use].coefficients?;
            let (alone, shared) = (c[Feature::Alone as usize], c[Feature::Shared as usize]);
            (alone > 0.0 && shared > 0.0).then(|| (shared / alone).clamp(0.5, 1.0))
        };
        self.smt_factor.or_else(learnt).unwrap_or(SMT_FACTOR)
    }

    /// Learns from a window. Returns whether there was a reading in it, and so something new to tell.
    pub(crate) fn learn(&mut self, load: &Load) -> bool {
        self.score_window(load);
        let sum = &mut self.gathered;
        sum.load.iter_mut().zip(load.features).for_each(|(sum, f)| *sum += f);
        sum.microjoules += load.microjoules;
        sum.ns += load.ns;
        sum.busy_ns += load.busy_ns;
        sum.all_ns += load.busy_ns + load.idle_ns;
        if sum.ns < READING.as_nanos() as u64 || sum.all_ns == 0 {
            return false;
        }
        let seconds = sum.ns as f64 * 1e-9;
        let mut rates = sum.load.map(|f| f / seconds);
        rates[Feature::Always as usize] = 1.0;
        let reading = Reading {
            rates,
            utilisation: sum.busy_ns as f64 / sum.all_ns as f64,
            watts: sum.microjoules as f64 * 1e-6 / seconds,
            seconds,
        };
        self.gathered = Gathered::default();
        self.compare(&reading);
        self.score(&reading);
        self.learner.learn(&reading);
        self.fit();
        true
    }

    /// Compares what was foretold with what came: before the reading is learnt, so that nothing is judged by
    /// what it knows.
    fn score(&mut self, reading: &Reading) {
        let lately = self.learner.lately();
        for candidate in &mut self.candidates {
            let Some(coefficients) = candidate.coefficients else { continue };
            let drifted = if self.fixed_watts.is_none() { candidate.drifted(lately) } else { 0.0 };
            let foretold = watts(&coefficients, &reading.rates) + drifted;
            let error = (foretold - reading.watts).abs() / reading.watts.max(f64::MIN_POSITIVE);
            candidate.scored = (candidate.scored + 1).min(MEMORY);
            candidate.error += (error.min(10.0) - candidate.error) / f64::from(candidate.scored);
        }
    }

    /// Compares what changes since the last reading were foretold with those that came, in the same way.
    fn compare(&mut self, reading: &Reading) {
        let Some(before) = self.before.replace(*reading) else { return };
        let off = |candidate: &Candidate| {
            let coefficients = candidate.coefficients?;
            let foretold = watts(&coefficients, &reading.rates) - watts(&coefficients, &before.rates);
            Some(foretold - (reading.watts - before.watts))
        };
        let Some((time, mixes)) = self.candidates.split_first_mut() else { return };
        let Some(off_time) = off(time) else { return };
        for mix in mixes {
            if let Some(off_mix) = off(mix) {
                mix.contest.take(off_mix, off_time, mix.error.min(time.error) * reading.watts);
            }
        }
    }

    /// The same for a window that is much shorter than a reading, by what is in use.
    fn score_window(&mut self, load: &Load) {
        if load.ns == 0 || load.ns > READING.as_nanos() as u64 / 2 {
            return;
        }
        let Some(static_watts) = self.static_watts() else { return };
        let candidate = &mut self.candidates[self.in_use];
        let Some(coefficients) = &candidate.coefficients else { return };
        let foretold =
            static_watts * load.ns as f64 * 1e-3 + picojoules(coefficients, &load.features) as f64 * 1e-6;
        let error = (foretold - load.microjoules as f64).abs() / (load.microjoules as f64).max(foretold);
        if error.is_finite() {
            candidate.windows = (candidate.windows + 1).min(WINDOWS);
            candidate.window_error += (error - candidate.window_error) / f64::from(candidate.windows);
        }
    }

    fn fit(&mut self) {
        let learner = &self.learner;
        let lately = learner.lately();
        // What static power's drift does to levels it does not do to contrasts; the model's mistakes are in
        // both.
        let levels = |candidate: &Candidate| (1.0 - candidate.drift(lately)).max(LEAST_LEVELS);
        let line = learner.fit(&[Feature::Time], self.fixed_watts, None, levels(&self.candidates[0]));
        // Of a mix nothing else is expected than that all CPU time costs the same.
        let expected = line.map(|line| {
            let mut expected = [0.0; FEATURES];
            expected[Feature::Always as usize] = line[Feature::Always as usize];
            for feature in [Feature::Time, Feature::Alone, Feature::Shared] {
                expected[feature as usize] = line[Feature::Time as usize];
            }
            expected
        });
        for candidate in &mut self.candidates {
            let features = candidate.basis.features(learner);
            let levels = levels(candidate);
            candidate.coefficients = match candidate.basis {
                Basis::Time => line,
                _ if features.is_empty() => None,
                Basis::Fitted | Basis::SharedCores => {
                    expected.and_then(|e| learner.fit(&features, self.fixed_watts, Some(&e), levels))
                }
                _ => learner.fit(&features, self.fixed_watts, None, levels),
            };
        }
        self.in_use = self.choose();
    }

    fn choose(&self) -> usize {
        let last = self.candidates.len() - 1;
        if self.on_trial {
            let stands = |c: &(usize, &Candidate)| {
                c.1.coefficients.is_some() && c.1.scored >= TRIED && !c.1.contest.is_lost()
            };
            let mixes = self.candidates.iter().enumerate().skip(1);
            // The later of two that are equally good.
            let best = mixes.rev().filter(stands).min_by(|a, b| a.1.error.total_cmp(&b.1.error));
            return best.map_or(0, |(at, _)| at);
        }
        let applies = !self.candidates[last].basis.features(&self.learner).is_empty();
        if applies { last } else { 0 }
    }
}

/// The power that coefficients foretell of use at these rates.
fn watts(coefficients: &Coefficients, rates: &Features) -> f64 {
    coefficients.iter().zip(rates).map(|(c, rate)| c * rate).sum()
}

/// The energy that coefficients (in joules per unit) give to features, in whole picojoules.
fn picojoules(coefficients: &Coefficients, features: &Features) -> u64 {
    let joules: f64 = coefficients.iter().zip(features).skip(1).map(|(c, f)| c * f).sum();
    (joules * 1e12) as u64
}

#[cfg(test)]
mod tests;
