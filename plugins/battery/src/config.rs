//! The keys of `[plugins.battery]`, and the check of their values.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;
use wattrace_meter::keys::{check_duration, check_not_empty};

/// Configuration of the `battery` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatteryConfig {
    /// Time between readings, 100 ms to 1 hour. Batteries refresh every few seconds, and a reading may run
    /// firmware.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The tree in which `class/power_supply` is looked up. What is read from anything but a real sysfs is
    /// labelled `simulated`.
    pub sysfs_root: String,
    /// What is read: `power` (integrated over time), `level` (the energy left in the battery: exact in the
    /// long run, but in coarse steps), or `auto`: power if every battery reports it.
    pub method: Method,
    /// Supplies whose `online` is not believed while a battery discharges, by their names in
    /// `class/power_supply`: some firmware shows an adapter where there is only a phone on a USB port.
    pub ignore: Vec<String>,
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Power if every battery reports it, else the level.
    Auto,
    /// Power, or current times voltage.
    Power,
    /// The energy or charge left.
    Level,
}

const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

impl Default for BatteryConfig {
    fn default() -> Self {
        let (interval, sysfs_root) = (Duration::from_secs(5), "/sys".to_owned());
        Self { interval, sysfs_root, method: Method::Auto, ignore: Vec::new() }
    }
}

impl BatteryConfig {
    /// Checks the values. The error names the key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_duration("plugins.battery.interval", self.interval, MIN_INTERVAL..=MAX_INTERVAL)?;
        check_not_empty("plugins.battery.sysfs_root", &self.sysfs_root, "/sys")
    }

    /// Between two readings of power further apart than this there is a gap.
    pub(crate) fn max_gap(&self) -> Duration {
        (self.interval * 5).max(Duration::from_secs(30))
    }
}
