//! The `cray` plugin: the energy of a node of HPE Cray EX (and XC) machines and of its parts, as the node's
//! controller counts it, about ten times a second: `/sys/cray/pm_counters`. Everybody may read it there.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.cray]` |
//! | `counters` | finds the counters, and reads one |
//! | `source` | the pipeline element |
//!
//! `wattrace-meter` follows counters and counts irregular readings.

mod config;
mod counters;
mod source;

pub use config::CrayConfig;

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger, Verdict};

/// Entry points for fuzzers: what parses input of the kernel.
#[doc(hidden)]
pub mod fuzzing {
    /// The content of a counter: whole joules, and when they were read.
    pub fn reading(text: &str) -> Option<(i128, Option<u64>)> {
        crate::counters::parse(text)
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Cray;

impl Plugin for Cray {
    const NAME: &'static str = "cray";
    const DESCRIPTION: &'static str = "energy of HPE Cray EX nodes and their parts (pm_counters)";
    type Config = CrayConfig;

    fn start(config: CrayConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("energy", Trigger::after(config.interval, source::AGE), move || {
            source::CraySource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &CrayConfig) -> Vec<Finding> {
        let directory = counters::directory(Path::new(&config.sysfs_root));
        let names: Vec<_> = counters::find(&directory, 1).into_iter().map(|found| found.file).collect();
        // Other machines need no line about it.
        if names.is_empty() {
            return Vec::new();
        }
        let (what, found) = ("counters of the Cray node".to_owned(), names.join(", "));
        vec![Finding { what, verdict: Verdict::Ok, found, remedy: String::new() }]
    }
}
