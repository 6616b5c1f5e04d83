//! The `hwmon` plugin: the energy of parts of the machine, or all of it, measured by the sensors of the
//! board: ACPI power meters, NVIDIA Grace and Jetson, Arm SCMI, and everything else that has power or energy
//! in `class/hwmon`.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.hwmon]` |
//! | `discover` | finds channels |
//! | `known` | the table of known drivers and labels |
//! | `classify` | from drivers' names and labels to domain, resource and metric |
//! | `select` | decides which channels are metered, and names them |
//! | `source` | the pipeline element |
//!
//! `wattrace-meter` integrates power, follows counters and counts irregular readings.

mod classify;
mod config;
mod discover;
mod known;
mod select;
mod source;

pub use config::HwmonConfig;

use std::path::Path;

use wattrace_api::{Device, Error, Finding, Plugin, ResourceKind, Setup, Trigger, Verdict};

/// Entry points for fuzzers: what parses input of the kernel.
#[doc(hidden)]
pub mod fuzzing {
    use std::path::Path;

    use wattrace_api::Origin;

    pub use crate::discover::{ChannelFiles, FoundChannel, discover};

    /// The names of the domains that are metered in a tree.
    pub fn domains(sysfs_root: &Path) -> Vec<String> {
        let Ok(rules) = crate::HwmonConfig::default().validate() else { return Vec::new() };
        let channels = crate::select::select(discover(sysfs_root), &rules, &[0], false);
        channels.into_iter().map(|channel| channel.subject.domain.name).collect()
    }

    /// The name of the domain of a driver's channel with this label.
    pub fn domain_of(driver: &str, label: &str) -> String {
        let class = crate::classify::classify(driver, label, 0);
        let name = class.name(driver, label, "power1");
        class.subject(&name, &[0], Origin::Simulated).domain.name
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Hwmon;

impl Plugin for Hwmon {
    const NAME: &'static str = "hwmon";
    const DESCRIPTION: &'static str =
        "energy measured by the board's sensors: ACPI, Grace, Jetson, SCMI, hwmon";
    type Config = HwmonConfig;
    const DEVICE: Option<Device> = Some(Device {
        name: "sensors",
        meters: ResourceKind::Host,
        without: "no energy of the board's parts beside CPU and GPU",
    });

    fn start(config: HwmonConfig, setup: &mut Setup) -> Result<(), Error> {
        let rules = config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("energy", Trigger::every(config.interval), move || {
            source::HwmonSource::open(&config, &rules, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &HwmonConfig) -> Vec<Finding> {
        let Ok(rules) = config.validate() else { return Vec::new() };
        let channels = source::channels(Path::new(&config.sysfs_root), &rules, false);
        let domains = channels.iter().map(|channel| &channel.subject.domain);
        let names: Vec<_> =
            domains.map(|domain| format!("{} ({})", domain.name, domain.origin.as_str())).collect();
        let found = !names.is_empty();
        vec![Finding {
            what: "sensors of power and energy (hwmon)".to_owned(),
            verdict: if found { Verdict::Ok } else { Verdict::Optional },
            found: if found {
                names.join(", ")
            } else {
                format!("none in {}/class/hwmon", config.sysfs_root)
            },
            remedy: if found { String::new() } else { source::REMEDY.to_owned() },
        }]
    }
}
