//! The `nvidia` plugin: energy of NVIDIA's GPUs, and the processes they work for, by the driver's management
//! library (NVML, `libnvidia-ml.so.1`).
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.nvidia]` |
//! | `session` | the library, loaded and initialised, and its devices |
//! | `origin` | whether that library is the driver's own |
//! | `sleep` | which devices sleep, by sysfs |
//! | `asleep` | devices that have slept since the start |
//! | `driver_time` | converts the driver's timestamps to the agent's clock |
//! | `energy` | a device's energy: its energy counter, or its power integrated |
//! | `utilization` | a device's engine time by process |
//! | `memory` | a device's memory by process, MIG instances included |
//! | `instances` | the use of MIG instances |
//! | `context` | a device's temperature, clocks and memory |
//! | `gpu` | one device: those three, and their series |
//! | `source` | the pipeline element: all devices, also those that are lost and come back |
//! | `doctor` | what `wattrace doctor` reports |
//!
//! `wattrace-gpu` holds what all GPU plugins share. The attribution plugin splits the energy among the
//! processes.

mod asleep;
mod config;
mod context;
mod doctor;
mod driver_time;
mod energy;
mod gpu;
mod instances;
mod memory;
mod origin;
mod session;
mod sleep;
mod source;
mod utilization;

pub use config::NvidiaConfig;

use wattrace_api::{Device, Error, Finding, Plugin, Setup, Trigger};

/// The plugin.
#[derive(Debug)]
pub struct Nvidia;

impl Plugin for Nvidia {
    const NAME: &'static str = "nvidia";
    const DESCRIPTION: &'static str = "energy of NVIDIA GPUs, and the processes they work for";
    type Config = NvidiaConfig;
    const DEVICE: Option<Device> = Some(wattrace_gpu::DEVICE);

    fn start(config: NvidiaConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("gpus", Trigger::every(config.interval), move || {
            source::NvidiaSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &NvidiaConfig) -> Vec<Finding> {
        doctor::findings(config)
    }
}
