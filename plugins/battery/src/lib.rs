//! The `battery` plugin: how many joules the whole machine used while its battery alone fed it, by what the
//! battery's own gauge says. On mains it is silent: the battery does not know what the machine draws then.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.battery]` |
//! | `supply` | what `class/power_supply` says |
//! | `source` | the pipeline element |
//!
//! Integrating power and counting what is odd is `wattrace-meter`'s.

mod config;
mod source;
mod supply;

pub use config::{BatteryConfig, Method};

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger, Verdict};

use supply::State;

/// For fuzzing: what reads trees that somebody else wrote.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::supply::{Battery, Level, State, look};
}

/// The plugin.
#[derive(Debug)]
pub struct Battery;

impl Plugin for Battery {
    const NAME: &'static str = "battery";
    const DESCRIPTION: &'static str = "energy of the whole machine while its battery feeds it";
    type Config = BatteryConfig;

    fn start(config: BatteryConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        // The firmware is asked, which takes its time.
        setup.source("energy", Trigger::every(config.interval), move || {
            source::BatterySource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &BatteryConfig) -> Vec<Finding> {
        let root = Path::new(&config.sysfs_root);
        let (verdict, found, remedy) = match supply::look(root) {
            State::NoBattery => {
                let found = format!("none under {}", supply::class(root).display());
                (Verdict::Optional, found, source::REMEDY.to_owned())
            }
            State::External(by) => {
                let found = format!("{by}: metered once the battery alone feeds the machine");
                (Verdict::Ok, found, String::new())
            }
            State::Discharging(batteries) => {
                let names: Vec<_> = batteries.iter().map(|battery| battery.name.as_str()).collect();
                (Verdict::Ok, format!("{} feeds the machine", names.join(", ")), String::new())
            }
        };
        vec![Finding { what: "battery".to_owned(), verdict, found, remedy }]
    }
}
