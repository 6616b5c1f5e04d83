//! The keys of `[plugins.battery]`, and which of their values make sense.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

/// Configuration of the `battery` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatteryConfig {
    /// Time between readings, 100 ms to 1 hour. Batteries refresh every few seconds, and asking them costs
    /// something.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The tree under which `class/power_supply` is looked up. What is read from anything but a real sysfs is
    /// labelled `simulated`.
    pub sysfs_root: String,
    /// What is read: `power` (integrated over time), `level` (what is left in the battery: exact in the long
    /// run, and in coarse steps), or `auto`: power where every battery tells it.
    pub method: Method,
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Power where every battery tells it, else the level.
    Auto,
    /// Power, or current times voltage.
    Power,
    /// Energy or charge that is left.
    Level,
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);

impl Default for BatteryConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), sysfs_root: "/sys".to_owned(), method: Method::Auto }
    }
}

impl BatteryConfig {
    /// Refuses what makes no sense, by its key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if !(SHORTEST..=LONGEST).contains(&self.interval) {
            let got = self.interval;
            return Err(Error::fatal(format!(
                "plugins.battery.interval: {got:?} is not between 100ms and 1h"
            )));
        }
        if self.sysfs_root.is_empty() {
            return Err(Error::fatal("plugins.battery.sysfs_root: is empty; the default is \"/sys\""));
        }
        Ok(())
    }

    /// Two readings of power further apart than this have a gap between them.
    pub(crate) fn longest_gap(&self) -> Duration {
        (self.interval * 5).max(Duration::from_secs(30))
    }
}
