//! The `rapl` plugin: how many joules the CPU packages, their cores, the memory and the platform used, by the meter
//! that Intel and AMD processors carry (RAPL, "running average power limit").
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.rapl]` |
//! | `domain` | what RAPL's names mean: domain, resource, metric |
//! | `counter` | from raw readings to joules: wraps, resets, exact scaling |
//! | `powercap` | the kernel's interface of files, `class/powercap` |
//! | `perf` | the kernel's interface of perf counters, `bus/event_source/devices/power` |
//! | `probe` | what of that is there, what is missing, and what gives it |
//! | `source` | the pipeline element |
//! | `anomaly`, `meter`, `origin` | what those share: counted irregularities, readers, real or stand-in |
//! | [`simulate`] | a stand-in for the hardware, for tests |
//!
//! It only reads meters: who used the joules is for the attribution plugin to say.

mod anomaly;
mod config;
mod counter;
mod domain;
mod meter;
#[cfg(test)]
mod nobody;
mod origin;
mod perf;
mod powercap;
mod probe;
pub mod simulate;
mod source;

pub use config::{Interface, RaplConfig};
pub use counter::period;
pub use probe::{Availability, Probe, probe};

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger};

/// The plugin.
#[derive(Debug)]
pub struct Rapl;

impl Plugin for Rapl {
    const NAME: &'static str = "rapl";
    const DESCRIPTION: &'static str = "energy of CPU packages, memory and platform, metered by RAPL";
    type Config = RaplConfig;

    fn start(config: RaplConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("energy", Trigger::every(config.interval), move || {
            source::RaplSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &RaplConfig) -> Vec<Finding> {
        probe(Path::new(&config.sysfs_root)).findings()
    }
}
