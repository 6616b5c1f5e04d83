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

use wattrace_api::{Device, Error, Finding, Plugin, ResourceKind, Setup, Trigger, Verdict};

use supply::PowerState;

/// Entry points for fuzzers: what reads sysfs.
#[doc(hidden)]
pub mod fuzzing {
    use std::path::Path;

    pub use crate::supply::{Battery, Level, PowerState};

    /// What powers the machine of a tree.
    pub fn read_state(sysfs_root: &Path) -> PowerState {
        crate::supply::read_state(sysfs_root, &[])
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Battery;

impl Plugin for Battery {
    const NAME: &'static str = "battery";
    const DESCRIPTION: &'static str = "energy of the whole machine while it runs on battery";
    type Config = BatteryConfig;
    const DEVICE: Option<Device> = Some(Device {
        name: "battery",
        meters: ResourceKind::Host,
        without: "no energy of the whole machine while it runs on battery",
    });

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
        let state = supply::read_state(root, &config.ignore);
        if let Some((found, remedy)) = state.doubt() {
            return vec![finding(Verdict::Optional, found, remedy)];
        }
        let (verdict, found, remedy) = match state {
            PowerState::NoBattery => {
                let found = format!("none under {}", supply::class(root).display());
                (Verdict::Optional, found, source::REMEDY.to_owned())
            }
            PowerState::External(by) => {
                let found = format!("{by}: metered when the machine runs on battery alone");
                (Verdict::Ok, found, String::new())
            }
            PowerState::Unclear { .. } => return Vec::new(),
            PowerState::Discharging(batteries) => {
                let names: Vec<_> = batteries.iter().map(|battery| battery.name.as_str()).collect();
                (Verdict::Ok, format!("the machine runs on {}", names.join(", ")), String::new())
            }
        };
        vec![finding(verdict, found, remedy)]
    }
}

fn finding(verdict: Verdict, found: String, remedy: String) -> Finding {
    Finding { what: "battery".to_owned(), verdict, found, remedy }
}
