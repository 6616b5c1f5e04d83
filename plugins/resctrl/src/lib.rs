//! The `resctrl` plugin: the energy of CPU cores, of each package and of each monitoring group, as Intel's
//! Application Energy Telemetry counts it and Linux 7.0 shows it in resctrl:
//! `/sys/fs/resctrl/mon_data/mon_PERF_PKG_00/core_energy`.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.resctrl]` |
//! | `groups` | finds groups and packages, and reads counters |
//! | `tally` | from the kernel's sums to what each group and package has used. Pure |
//! | `tasks` | which processes are in which group |
//! | `source` | the pipeline element |
//!
//! `wattrace-meter` follows counters and counts irregular readings.

mod config;
mod groups;
mod source;
mod tally;
mod tasks;

pub use config::ResctrlConfig;

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger, Verdict};

/// The plugin.
#[derive(Debug)]
pub struct Resctrl;

impl Plugin for Resctrl {
    const NAME: &'static str = "resctrl";
    const DESCRIPTION: &'static str =
        "energy of CPU cores by package and by group of tasks (Intel Application Energy Telemetry)";
    type Config = ResctrlConfig;

    fn start(config: ResctrlConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("energy", Trigger::every(config.interval), move || {
            source::ResctrlSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &ResctrlConfig) -> Vec<Finding> {
        let groups = groups::find(Path::new(&config.root));
        let packages = groups.first().map_or(0, |root| root.packages.len());
        // Few machines have it: the others need no line about it.
        if packages == 0 {
            return Vec::new();
        }
        let found = format!("{packages} packages, {} groups", groups.len() - 1);
        let what = "energy of cores (resctrl)".to_owned();
        vec![Finding { what, verdict: Verdict::Ok, found, remedy: String::new() }]
    }
}
