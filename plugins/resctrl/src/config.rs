//! The keys of `[plugins.resctrl]`, and the check of their values.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;
use wattrace_meter::keys::{check_duration, check_not_empty};

/// Configuration of the `resctrl` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResctrlConfig {
    /// Time between readings, 100 ms to 1 hour. The energy that a group used since the last reading is lost
    /// when the group is removed.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Where resctrl is mounted. What is read from anything but a real resctrl is labelled `simulated`.
    pub root: String,
    /// Whether groups are metered too, besides packages.
    pub groups: bool,
}

const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

impl Default for ResctrlConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), root: "/sys/fs/resctrl".to_owned(), groups: true }
    }
}

impl ResctrlConfig {
    /// Checks the values. The error names the key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_duration("plugins.resctrl.interval", self.interval, MIN_INTERVAL..=MAX_INTERVAL)?;
        check_not_empty("plugins.resctrl.root", &self.root, "/sys/fs/resctrl")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_bad_value_names_the_key() {
        let refused = |config: ResctrlConfig| config.validate().unwrap_err().to_string();
        let short = ResctrlConfig { interval: Duration::from_millis(99), ..ResctrlConfig::default() };
        assert!(refused(short).starts_with("plugins.resctrl.interval: "));
        let no_root = ResctrlConfig { root: String::new(), ..ResctrlConfig::default() };
        assert!(refused(no_root).starts_with("plugins.resctrl.root: "));
        ResctrlConfig::default().validate().unwrap();
    }
}
