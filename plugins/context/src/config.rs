//! The keys of `[plugins.context]`, and the check of their values.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;
use wattrace_meter::keys::{check_duration, check_not_empty};

/// Configuration of the `context` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContextConfig {
    /// Time between readings, 100 ms to 1 hour. A reading opens a file per CPU and sensor.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The tree in which `devices/system/cpu`, `class/hwmon` and `class/thermal` are looked up.
    pub sysfs_root: String,
    /// `hw.cpu.speed`, as the mean over the CPUs of each `package` or `core`, or `off`.
    pub frequency: Frequency,
    /// `hw.temperature` of every sensor.
    pub temperature: bool,
    /// The bytes that each cgroup receives and sends. Each packet costs about 0.1 µs more.
    pub network: bool,
    /// The memory of so many processes, those that use the most CPU time. To read that of one takes
    /// milliseconds per gigabyte that it has.
    pub memory_of: usize,
}

/// What the frequency is the mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Frequency {
    /// The CPUs of each package.
    Package,
    /// The CPUs of each core.
    Core,
    /// It is not published.
    Off,
}

const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

impl Default for ContextConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            sysfs_root: "/sys".to_owned(),
            frequency: Frequency::Package,
            temperature: true,
            network: false,
            memory_of: 0,
        }
    }
}

impl ContextConfig {
    /// Checks the values. The error names the key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_duration("plugins.context.interval", self.interval, MIN_INTERVAL..=MAX_INTERVAL)?;
        check_not_empty("plugins.context.sysfs_root", &self.sysfs_root, "/sys")
    }

    /// Whether frequencies or temperatures are published.
    pub(crate) fn reads_gauges(&self) -> bool {
        self.temperature || self.frequency != Frequency::Off
    }
}
