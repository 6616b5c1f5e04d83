//! The `context` plugin: the CPUs' frequencies and temperatures, which help to explain energy, under the
//! names of OpenTelemetry's conventions for hardware. Off by default.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.context]` |
//! | `discover` | finds frequencies and temperature sensors |
//! | `source` | the pipeline element |

mod config;
mod discover;
mod source;

pub use config::{ContextConfig, Frequency};

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger, Verdict};

/// Entry points for fuzzers: what reads sysfs.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::discover::{Gauge, frequencies, temperature_sensors};
}

/// The plugin.
#[derive(Debug)]
pub struct Context;

impl Plugin for Context {
    const NAME: &'static str = "context";
    const DESCRIPTION: &'static str = "CPU frequency and temperatures, as context for energy";
    type Config = ContextConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: ContextConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("gauges", Trigger::every(config.interval), move || {
            source::ContextSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &ContextConfig) -> Vec<Finding> {
        let root = Path::new(&config.sysfs_root);
        let frequencies = discover::frequencies(root, Frequency::Package);
        let sensors = discover::temperature_sensors(root);
        let any = !frequencies.is_empty() || !sensors.is_empty();
        vec![Finding {
            what: "CPU frequency and temperatures".to_owned(),
            verdict: if any { Verdict::Ok } else { Verdict::Optional },
            found: format!("frequencies of {} packages, {} temperatures", frequencies.len(), sensors.len()),
            remedy: if any { String::new() } else { source::REMEDY.to_owned() },
        }]
    }
}
