//! The `context` plugin: what explains energy rather than being energy: the CPUs' frequency and temperatures,
//! under the names of OpenTelemetry's conventions for hardware. Off unless the configuration mentions it.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.context]` |
//! | `find` | which clocks and thermometers there are |
//! | `source` | the pipeline element |

mod config;
mod find;
mod source;

pub use config::{ContextConfig, Frequency};

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger, Verdict};

/// For fuzzing: what reads trees that somebody else wrote.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::find::{Gauge, clocks, thermometers};
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
        // Sensors sit on slow buses.
        setup.source("gauges", Trigger::every(config.interval), move || {
            source::ContextSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &ContextConfig) -> Vec<Finding> {
        let root = Path::new(&config.sysfs_root);
        let (clocks, sensors) = (find::clocks(root, Frequency::Package), find::thermometers(root));
        let any = !clocks.is_empty() || !sensors.is_empty();
        vec![Finding {
            what: "CPU frequency and temperatures".to_owned(),
            verdict: if any { Verdict::Ok } else { Verdict::Optional },
            found: format!("frequencies of {} packages, {} temperatures", clocks.len(), sensors.len()),
            remedy: if any { String::new() } else { source::REMEDY.to_owned() },
        }]
    }
}
