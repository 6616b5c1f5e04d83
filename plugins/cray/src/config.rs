//! The keys of `[plugins.cray]`, and the check of their values.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;
use wattrace_meter::keys::{check_duration, check_not_empty};

/// Configuration of the `cray` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrayConfig {
    /// Time between readings, 200 ms to 1 hour. The counters are refreshed about every 100 ms, and count
    /// whole joules.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The tree in which `cray/pm_counters` and `devices/system/cpu` are looked up. What is read from
    /// anything but a real sysfs is labelled `simulated`.
    pub sysfs_root: String,
}

const MIN_INTERVAL: Duration = Duration::from_millis(200);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

impl Default for CrayConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), sysfs_root: "/sys".to_owned() }
    }
}

impl CrayConfig {
    /// Checks the values. The error names the key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_duration("plugins.cray.interval", self.interval, MIN_INTERVAL..=MAX_INTERVAL)?;
        check_not_empty("plugins.cray.sysfs_root", &self.sysfs_root, "/sys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_bad_value_names_the_key() {
        let refused = |config: CrayConfig| config.validate().unwrap_err().to_string();
        let short = CrayConfig { interval: Duration::from_millis(199), ..CrayConfig::default() };
        assert!(refused(short).starts_with("plugins.cray.interval: "));
        let no_root = CrayConfig { sysfs_root: String::new(), ..CrayConfig::default() };
        assert!(refused(no_root).starts_with("plugins.cray.sysfs_root: "));
        CrayConfig::default().validate().unwrap();
    }
}
