//! The `battery` plugin: the energy of the whole machine while it runs on battery alone, measured by the
//! battery's own gauge. On mains power there are no points: the battery does not measure what the machine
//! draws then.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.battery]` |
//! | `supply` | reads `class/power_supply` |
//! | `source` | the pipeline element |
//!
//! `wattrace-meter` integrates power and counts irregular readings.

mod config;
mod source;
mod supply;

pub use config::{BatteryConfig, Method};

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger, Verdict};

use supply::PowerState;

/// Entry points for fuzzers: what reads sysfs.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::supply::{Battery, Level, PowerState, read_state};
}

/// The plugin.
#[derive(Debug)]
pub struct Battery;

impl Plugin for Battery {
    const NAME: &'static str = "battery";
    const DESCRIPTION: &'static str = "energy of the whole machine while it runs on battery";
    type Config = BatteryConfig;

    fn start(config: BatteryConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("energy", Trigger::every(config.interval), move || {
            source::BatterySource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &BatteryConfig) -> Vec<Finding> {
        let root = Path::new(&config.sysfs_root);
        let (verdict, found, remedy) = match supply::read_state(root) {
            PowerState::NoBattery => {
                let found = format!("none under {}", supply::class(root).display());
                (Verdict::Optional, found, source::REMEDY.to_owned())
            }
            PowerState::External(by) => {
                let found = format!("{by}: metered when the machine runs on battery alone");
                (Verdict::Ok, found, String::new())
            }
            PowerState::Discharging(batteries) => {
                let names: Vec<_> = batteries.iter().map(|battery| battery.name.as_str()).collect();
                (Verdict::Ok, format!("the machine runs on {}", names.join(", ")), String::new())
            }
        };
        vec![Finding { what: "battery".to_owned(), verdict, found, remedy }]
    }
}
