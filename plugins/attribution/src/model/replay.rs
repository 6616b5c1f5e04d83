//! A power model alone, for counters and power that were recorded elsewhere. `agent/benches/eval` replays a
//! trace of a real machine through it and says how well it predicts.

use wattrace_api::ResourceKind;

use super::{Learner, ObservedWindow, PowerModel};
use crate::amounts::Amounts;
use crate::code::Ran;
use crate::config::Weights;

/// What was counted in a window, over all consumers.
#[derive(Clone, Copy, Debug)]
pub struct CountedWindow {
    /// Length of the window, ns.
    pub ns: u64,
    /// CPU time that was used, ns.
    pub cpu_ns: u64,
    /// CPU time that was not used, ns.
    pub idle_ns: u64,
    /// Cycles.
    pub cycles: u64,
    /// Instructions.
    pub instructions: u64,
    /// Misses of the last-level cache.
    pub cache_misses: u64,
}

/// The model of a domain, with the fitted weights.
#[derive(Debug)]
pub struct PowerPredictor {
    model: PowerModel,
}

impl PowerPredictor {
    /// The model of a domain of `kind`, of which nothing is known.
    pub fn new(kind: &ResourceKind) -> Self {
        Self { model: PowerModel::new(Weights::Fitted, kind, None, None, Learner::default()) }
    }

    /// The power that the candidate in use predicts for `window`, W; `None` before it can.
    pub fn predict(&mut self, window: &CountedWindow) -> Option<f64> {
        let seconds = window.ns as f64 * 1e-9;
        let observed = self.observed(window, 0);
        let rates = observed.features.map(|feature| feature / seconds);
        let predicted = self.model.candidate().predict(&rates)? + self.model.warmth.watts();
        let predicted = predicted + self.model.codes.beyond(&observed.predicted) / seconds;
        predicted.is_finite().then_some(predicted)
    }

    /// Learns that `microjoules` were measured in `window`.
    pub fn learn(&mut self, window: &CountedWindow, microjoules: u64) {
        let observed = self.observed(window, microjoules);
        self.model.observe(&observed);
    }

    /// The window as the model takes it in: one consumer that used all.
    fn observed(&mut self, window: &CountedWindow, microjoules: u64) -> ObservedWindow {
        let &CountedWindow { ns, cpu_ns, idle_ns, cycles, instructions, cache_misses } = window;
        let amounts: Amounts = [cpu_ns, 0, cycles, instructions, cache_misses, 0];
        let mut observed = ObservedWindow::new(microjoules, ns, idle_ns);
        self.model.count(&mut observed, 0, &amounts, Ran::of(&amounts, None));
        observed
    }
}
