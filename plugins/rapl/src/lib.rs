//! The `rapl` plugin: the energy of CPU packages, their cores, memory and the platform, measured by RAPL
//! ("running average power limit"), the meter of Intel's and AMD's processors.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.rapl]` |
//! | `domain` | from RAPL's names to domain, resource and metric |
//! | `meter_cpus`, `cpu_model` | the CPUs to read meters on, and the model of the processor |
//! | `profile` | how readings are judged: maximum power, stand-still, the metric of anomalies |
//! | `meter` | what the three interfaces have in common |
//! | `perf` | the kernel's perf interface, `bus/event_source/devices/power` |
//! | `powercap` | the kernel's powercap interface, `class/powercap` |
//! | `msr` | the processor's own registers, `/dev/cpu/N/msr` |
//! | `probe` | which interfaces can be used, and what makes the others usable |
//! | `stuck_counters` | counters that nothing feeds |
//! | `comparison` | whether the interfaces agree, and which one to trust |
//! | `known_models` | processors whose RAPL is less than a measurement |
//! | `energy_filtering` | whether the processor adds noise to its values |
//! | `source` | the pipeline element |
//! | [`fuzzing`] | entry points for fuzzers |
//!
//! Counters, their series and their anomalies are in `wattrace-meter`; tests simulate the hardware with
//! `wattrace-rapl-simulator`. The plugin `attribution` splits the energy among consumers.

mod comparison;
mod config;
mod cpu_model;
mod domain;
mod energy_filtering;
#[doc(hidden)]
pub mod fuzzing;
mod known_models;
mod meter;
mod meter_cpus;
mod msr;
mod perf;
mod powercap;
mod probe;
mod profile;
mod source;
mod stuck_counters;
#[cfg(test)]
mod unprivileged;

pub use config::{Interface, RaplConfig};
pub use probe::{Availability, Probe, probe};

use std::path::Path;

use cpu_model::CpuModel;
use energy_filtering::EnergyFiltering;
use wattrace_api::{Device, Error, Finding, Plugin, ResourceKind, Setup, Trigger};

/// The plugin.
#[derive(Debug)]
pub struct Rapl;

impl Plugin for Rapl {
    const NAME: &'static str = "rapl";
    const DESCRIPTION: &'static str = "energy of CPU packages, memory and platform, metered by RAPL";
    type Config = RaplConfig;
    const DEVICE: Option<Device> = Some(Device {
        name: "RAPL meter",
        meters: ResourceKind::Package,
        without: "CPU energy is estimated from the load: good for comparisons, not for absolute joules",
    });

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
        let sysfs_root = Path::new(&config.sysfs_root);
        let filtering = EnergyFiltering::open(sysfs_root, Path::new(&config.dev_root));
        probe(config).findings(&filtering, CpuModel::of(sysfs_root))
    }
}
