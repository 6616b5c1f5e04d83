//! The keys of `[plugins.context]`, and which of their values make sense.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

/// Configuration of the `context` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContextConfig {
    /// Time between readings, 100 ms to 1 hour. A reading opens a file per CPU and sensor.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The tree under which `devices/system/cpu`, `class/hwmon` and `class/thermal` are looked up.
    pub sysfs_root: String,
    /// `hw.cpu.speed`, as the mean over the CPUs of each `package` or `core`, or `off`.
    pub frequency: Frequency,
    /// `hw.temperature` of every sensor.
    pub temperature: bool,
}

/// Of what the frequency is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Frequency {
    /// Of every package.
    Package,
    /// Of every core.
    Core,
    /// Of nothing.
    Off,
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);

impl Default for ContextConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            sysfs_root: "/sys".to_owned(),
            frequency: Frequency::Package,
            temperature: true,
        }
    }
}

impl ContextConfig {
    /// Refuses what makes no sense, by its key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if !(SHORTEST..=LONGEST).contains(&self.interval) {
            let got = self.interval;
            return Err(Error::fatal(format!(
                "plugins.context.interval: {got:?} is not between 100ms and 1h"
            )));
        }
        if self.sysfs_root.is_empty() {
            return Err(Error::fatal("plugins.context.sysfs_root: is empty; the default is \"/sys\""));
        }
        Ok(())
    }
}
