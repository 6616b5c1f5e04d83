//! The `drm` plugin: how many joules AMD's and Intel's GPUs used, and which processes they worked for, by
//! what their kernel drivers (amdgpu, i915, xe, and others under Linux' direct rendering manager) show in
//! sysfs and /proc.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.drm]` |
//! | `cards` | which GPUs there are |
//! | `meters` | what meters a GPU has: hwmon's energy counters or power |
//! | [`fdinfo`] | what the kernel says of one client of a GPU, parsed |
//! | `holders` | which processes hold a GPU's file open, found at a bounded cost |
//! | `clients` | engine time of each client since the last look |
//! | `gpu` | one GPU: meters, clients, and the series they feed |
//! | `source` | the pipeline element |
//! | `probe` | what of that is there, what is missing, and what gives it |
//! | [`fuzzing`] | everything that reads text of others, for fuzzers |
//!
//! What GPUs of all makers have in common is in `wattrace-gpu`, and what meters have in common in
//! `wattrace-meter`; who pays for the joules is for the attribution plugin to say.

mod cards;
mod clients;
mod config;
pub mod fdinfo;
#[doc(hidden)]
pub mod fuzzing;
mod gpu;
mod holders;
mod meters;
mod probe;
mod source;

pub use config::DrmConfig;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger};

/// The plugin.
#[derive(Debug)]
pub struct Drm;

impl Plugin for Drm {
    const NAME: &'static str = "drm";
    const DESCRIPTION: &'static str = "energy of AMD's and Intel's GPUs, and the processes they work for";
    type Config = DrmConfig;

    fn start(config: DrmConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        // A driver may ask its GPU's firmware, and wait for it.
        setup.source("gpus", Trigger::every(config.interval), move || {
            source::DrmSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &DrmConfig) -> Vec<Finding> {
        probe::findings(config)
    }
}
