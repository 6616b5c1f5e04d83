//! What all methods share: their trait, what they attribute, and utilisation by /proc's ticks.

use std::collections::BTreeMap;

use crate::observe::{Sample, View};

/// A way to attribute energy.
pub(crate) trait Method {
    /// Its name in the tables.
    fn name(&self) -> &'static str;

    /// Takes in a sample.
    fn take(&mut self, sample: Sample);

    /// What it has attributed so far.
    fn attributed(&self) -> &Attributed;
}

/// What was attributed, in joules of packages and memory together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributed {
    /// By process, numbered as in the script.
    pub(crate) processes: BTreeMap<usize, f64>,
    /// To no process. `None`: the method does not report it.
    pub(crate) idle: Option<f64>,
}

impl Attributed {
    pub(crate) fn charge(&mut self, process: usize, joules: f64) {
        *self.processes.entry(process).or_default() += joules;
    }

    pub(crate) fn add_idle(&mut self, joules: f64) {
        *self.idle.get_or_insert(0.0) += joules;
    }
}

/// The name of the limit, which is not a method.
pub(crate) const LIMIT: &str = "limit";
/// The name of SmartWatts with settings for machines like these.
pub(crate) const TUNED: &str = "SmartWatts, tuned";

/// Part of the machine's CPU time that each living process used since the last sample, by /proc's ticks.
/// Without processes that are new since then.
pub(crate) fn utilisation(before: &Sample, now: &Sample) -> BTreeMap<usize, f64> {
    let ticks = (now.usage_at - before.usage_at) * 100.0 * now.cpus;
    let part = |(number, view): (&usize, &View)| {
        let earlier = before.processes.get(number)?;
        Some((*number, (view.ticks - earlier.ticks) as f64 / ticks))
    };
    now.processes.iter().filter_map(part).collect()
}
