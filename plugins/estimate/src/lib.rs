//! The `estimate` plugin: where nothing meters the CPU packages (most virtual machines), it estimates their energy from how
//! busy they were, so that there are joules to attribute. All it makes is labelled `estimated`.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.estimate]` |
//! | `cpuinfo` | which CPU this is, and how much of it |
//! | `tdp` | how much that CPU is made to draw |
//! | `power` | the two put together: watts when idle and when busy |
//! | `transform` | the pipeline element |
//!
//! The CPU time comes from the `sched` plugin; the `attribution` plugin, which comes after this one, can't tell an
//! estimated domain from a measured one but by its label.

mod config;
mod cpuinfo;
mod power;
mod tdp;
mod transform;

pub use config::{EstimateConfig, When};

use wattrace_api::{Error, Plugin, Setup};

/// The plugin.
#[derive(Debug)]
pub struct Estimate;

impl Plugin for Estimate {
    const NAME: &'static str = "estimate";
    const DESCRIPTION: &'static str =
        "energy of CPU packages, estimated from their utilisation where nothing meters it";
    type Config = EstimateConfig;

    fn start(config: EstimateConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        if config.when != When::Never {
            let registry = setup.registry();
            setup.transform("package", move || transform::Transformer::open(&config, registry.clone()));
        }
        Ok(())
    }
}
