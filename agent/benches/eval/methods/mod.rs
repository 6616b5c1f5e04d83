//! Others' formulas, as they are published, on what their tools can see. What their programs do wrong beside
//! the formula (lost slices, wraps, scans that end early) is left out. `page.md` has the sources.

mod alumet;
mod kepler_now;
mod kepler_old;
mod limit;
mod scaphandre;
mod smartwatts;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::observe::Sample;

/// A way to attribute energy.
pub(crate) trait Method {
    /// Its name in the tables.
    fn name(&self) -> &'static str;

    /// Takes in a reading.
    fn take(&mut self, sample: Sample);

    /// What it has attributed so far.
    fn books(&self) -> &Books;
}

/// What was attributed, in joules of packages and memory together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// By process, by their numbers in the script.
    pub(crate) processes: BTreeMap<usize, f64>,
    /// To nobody. `None`: it is not told.
    pub(crate) idle: Option<f64>,
}

impl Books {
    fn charge(&mut self, process: usize, joules: f64) {
        *self.processes.entry(process).or_default() += joules;
    }

    fn rest(&mut self, joules: f64) {
        *self.idle.get_or_insert(0.0) += joules;
    }
}

/// The name of what is no method but the limit of all.
pub(crate) const LIMIT: &str = "limit";
/// The name of SmartWatts as it would suit machines like these.
pub(crate) const TUNED: &str = "SmartWatts, tuned";

/// All of them, fresh, for readings `window` apart.
pub(crate) fn all(window: Duration) -> Vec<Box<dyn Method>> {
    vec![
        Box::new(alumet::Alumet::default()),
        Box::new(kepler_old::KeplerOld::default()),
        Box::new(kepler_now::KeplerNow::default()),
        Box::new(scaphandre::Scaphandre::default()),
        Box::new(smartwatts::SmartWatts::as_it_comes()),
        Box::new(smartwatts::SmartWatts::tuned(window)),
        Box::new(limit::Limit::default()),
    ]
}

/// Part of the machine's CPU time that each living process used since the last reading, by /proc's ticks;
/// processes that were not there then are left out.
fn utilisation(before: &Sample, now: &Sample) -> BTreeMap<usize, f64> {
    let ticks = (now.usage_at - before.usage_at) * 100.0 * now.cpus;
    let part = |(number, view): (&usize, &crate::observe::View)| {
        let earlier = before.processes.get(number)?;
        Some((*number, (view.ticks - earlier.ticks) as f64 / ticks))
    };
    now.processes.iter().filter_map(part).collect()
}
