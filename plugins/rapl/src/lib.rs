//! The `rapl` plugin: how many joules the CPU packages, their cores, the memory and the platform used, by the
//! meter that Intel and AMD processors carry (RAPL, "running average power limit").
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.rapl]` |
//! | `domain` | what RAPL's names mean: domain, resource, metric |
//! | `topology`, `x86` | which CPUs there are, and which processor |
//! | `counter` | from raw readings to joules: wraps, resets, jumps, exact scaling |
//! | `perf` | the kernel's interface of perf counters, `bus/event_source/devices/power` |
//! | `powercap` | the kernel's interface of files, `class/powercap` |
//! | `msr` | the processor's own registers, `/dev/cpu/N/msr` |
//! | `probe` | what of that is there, what is missing, and what gives it |
//! | `alive` | which counters nothing feeds |
//! | `agree` | whether they say the same, and whom to believe |
//! | `filtering` | whether the processor blurs its numbers |
//! | `source` | the pipeline element |
//! | `anomaly`, `meter`, `origin` | what those share: counted irregularities, readers, real or stand-in |
//! | [`simulate`] | a stand-in for the hardware, for tests |
//! | [`fuzzing`] | everything that reads text of others, for fuzzers |
//!
//! It only reads meters: who used the joules is for the attribution plugin to say.

mod agree;
mod alive;
mod anomaly;
mod config;
mod counter;
mod domain;
mod filtering;
#[doc(hidden)]
pub mod fuzzing;
mod meter;
mod msr;
#[cfg(test)]
mod nobody;
mod origin;
mod perf;
mod powercap;
mod probe;
pub mod simulate;
mod source;
mod topology;
mod x86;

pub use config::{Interface, RaplConfig};
pub use counter::period;
pub use probe::{Availability, Probe, probe};

use std::path::Path;

use filtering::Filtering;
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
        let every = Trigger::after(config.interval, source::AGE);
        setup.source("energy", every, move || {
            source::RaplSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &RaplConfig) -> Vec<Finding> {
        let filtering = Filtering::open(Path::new(&config.sysfs_root), Path::new(&config.dev_root));
        probe(config).findings(&filtering)
    }
}
