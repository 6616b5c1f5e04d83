//! The `hwmon` plugin: how many joules parts of the machine, or all of it, used, by the sensors that boards
//! carry: ACPI power meters, NVIDIA Grace and Jetson, Arm SCMI, and whatever else shows power or energy under
//! `class/hwmon`.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.hwmon]` |
//! | `find` | which channels there are |
//! | `meaning` | what drivers' names and labels mean: domain, resource, container |
//! | `arrange` | which are metered, under which names |
//! | `source` | the pipeline element |
//!
//! Integrating power, undoing wraps and counting what is odd is `wattrace-meter`'s.

mod arrange;
mod config;
mod find;
mod meaning;
mod source;

pub use config::HwmonConfig;

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger, Verdict};

/// For fuzzing: what reads bytes or trees that somebody else wrote.
#[doc(hidden)]
pub mod fuzzing {
    use std::path::Path;

    use wattrace_api::Origin;

    pub use crate::find::{Files, Found, find};

    /// The names of the domains that a tree's meters have.
    pub fn domains(sysfs_root: &Path) -> Vec<String> {
        let Ok(wishes) = crate::HwmonConfig::default().validate() else { return Vec::new() };
        let meters = crate::arrange::arrange(find(sysfs_root), &wishes, &[0], false);
        meters.into_iter().map(|meter| meter.subject.domain.name).collect()
    }

    /// From a driver's name and a label to the name of a domain; nothing may panic on the way.
    pub fn domain_of(driver: &str, label: &str) -> String {
        let meaning = crate::meaning::meaning(driver, label);
        let name = meaning.name(driver, label, "power1");
        meaning.subject(&name, &[0], Origin::Simulated).domain.name
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Hwmon;

impl Plugin for Hwmon {
    const NAME: &'static str = "hwmon";
    const DESCRIPTION: &'static str = "energy by the board's own sensors: ACPI, Grace, Jetson, SCMI, hwmon";
    type Config = HwmonConfig;

    fn start(config: HwmonConfig, setup: &mut Setup) -> Result<(), Error> {
        let wishes = config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        // Chips sit on slow buses, and ACPI's meters may run firmware.
        setup.source("energy", Trigger::every(config.interval), move || {
            source::HwmonSource::open(&config, &wishes, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &HwmonConfig) -> Vec<Finding> {
        let Ok(wishes) = config.validate() else { return Vec::new() };
        let meters = source::meters(Path::new(&config.sysfs_root), &wishes, false);
        let names: Vec<_> = meters
            .iter()
            .map(|meter| format!("{} ({})", meter.subject.domain.name, meter.subject.domain.origin.as_str()))
            .collect();
        let found = !names.is_empty();
        vec![Finding {
            what: "sensors of power and energy (hwmon)".to_owned(),
            verdict: if found { Verdict::Ok } else { Verdict::Optional },
            found: if found {
                names.join(", ")
            } else {
                format!("none under {}/class/hwmon", config.sysfs_root)
            },
            remedy: if found { String::new() } else { source::REMEDY.to_owned() },
        }]
    }
}
