//! Other tools' published formulas, applied to what these tools can see. Errors of their programs beside the
//! formula (lost time slices, counter wraps, scans that end early) are not modelled. `page.md` lists the
//! sources.

mod alumet;
mod kepler_now;
mod kepler_old;
mod limit;
mod method;
mod scaphandre;
mod smartwatts;

use std::time::Duration;

pub(crate) use method::{Attributed, LIMIT, Method, TUNED};

/// A new instance of each, for samples `window` apart.
pub(crate) fn all(window: Duration) -> Vec<Box<dyn Method>> {
    vec![
        Box::new(alumet::Alumet::default()),
        Box::new(kepler_old::KeplerOld::default()),
        Box::new(kepler_now::KeplerNow::default()),
        Box::new(scaphandre::Scaphandre::default()),
        Box::new(smartwatts::SmartWatts::with_own_settings()),
        Box::new(smartwatts::SmartWatts::tuned(window)),
        Box::new(limit::Limit::default()),
    ]
}
