//! The `drm` plugin: energy of AMD's and Intel's GPUs, and the processes they work for. It reads what the
//! kernel's DRM drivers (amdgpu, i915, xe and others) show in sysfs and /proc.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.drm]` |
//! | `cards` | finds the GPUs |
//! | `dies` | puts GPUs together that have one meter |
//! | `sensors` | finds the files that meter a GPU: energy counters or power |
//! | [`accumulator`] | parses the table of an AMD GPU's firmware, in which some have a counter |
//! | [`fdinfo`] | parses what the kernel says of one client of a GPU |
//! | `scanner` | finds the processes that have a GPU's file open, at a bounded cost |
//! | `holders` | the order of these processes: which of several that show one client works with it |
//! | `clients` | computes each client's engine time since the last reading |
//! | `gpu` | one GPU: its meters, its clients, and their series |
//! | `source` | the pipeline element |
//! | `doctor` | what `wattrace doctor` reports |
//! | [`fuzzing`] | entries for fuzzers |
//!
//! `wattrace-gpu` holds what all GPU plugins share, `wattrace-meter` what all meters share. The attribution
//! plugin splits the energy among the processes.

pub mod accumulator;
mod cards;
mod clients;
mod config;
mod dies;
mod doctor;
pub mod fdinfo;
#[doc(hidden)]
pub mod fuzzing;
mod gpu;
mod holders;
mod scanner;
mod sensors;
mod source;

pub use config::DrmConfig;

use wattrace_api::{Device, Error, Finding, Plugin, Setup, Trigger};

/// The plugin.
#[derive(Debug)]
pub struct Drm;

impl Plugin for Drm {
    const NAME: &'static str = "drm";
    const DESCRIPTION: &'static str = "energy of AMD's and Intel's GPUs, and the processes they work for";
    type Config = DrmConfig;
    const DEVICE: Option<Device> = Some(wattrace_gpu::DEVICE);

    fn start(config: DrmConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("gpus", Trigger::every(config.interval), move || {
            source::DrmSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &DrmConfig) -> Vec<Finding> {
        doctor::findings(config)
    }
}
