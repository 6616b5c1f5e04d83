//! The `nvidia` plugin: how many joules NVIDIA's GPUs used, and which processes they worked for, by the
//! driver's management library (NVML, `libnvidia-ml.so.1`).
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.nvidia]` |
//! | `session` | the library, loaded and initialised, and the devices that it shows |
//! | `origin` | whether that library is the driver's own or a stand-in |
//! | `driver_time` | the driver's time stamps → the agent's clock |
//! | `energy` | a device's joules: its energy counter, or its power integrated |
//! | `usage` | a device's engine time by process, from percentages of utilisation |
//! | `holders` | a device's memory by process, instances (MIG) included |
//! | `gpu` | one device: those three, and the series they feed |
//! | `source` | the pipeline element: all devices, those that fall off the bus, those that come back |
//! | `probe` | what of that is there, what is missing, and what gives it |
//!
//! What GPUs of all makers have in common is in `wattrace-gpu`; who pays for the joules is for the
//! attribution plugin to say.

mod config;
mod driver_time;
mod energy;
mod gpu;
mod holders;
mod origin;
mod probe;
mod session;
mod source;
mod usage;

pub use config::NvidiaConfig;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger};

/// The plugin.
#[derive(Debug)]
pub struct Nvidia;

impl Plugin for Nvidia {
    const NAME: &'static str = "nvidia";
    const DESCRIPTION: &'static str = "energy of NVIDIA GPUs, and the processes they work for";
    type Config = NvidiaConfig;

    fn start(config: NvidiaConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        // The library may block for milliseconds per call, and for longer when a device is in trouble.
        setup.source("gpus", Trigger::every(config.interval), move || {
            source::NvidiaSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &NvidiaConfig) -> Vec<Finding> {
        probe::findings(config)
    }
}
