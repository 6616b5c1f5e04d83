//! The keys of `[plugins.drm]` and their limits.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;
use wattrace_meter::keys::{check_duration, check_not_empty};

/// Configuration of the `drm` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrmConfig {
    /// Time between readings, 10 ms to 10 s. For a GPU that has a power sensor instead of an energy counter
    /// (AMD's), a shorter interval means a smaller error.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Time in which the open files of every process are searched once for GPUs, 1 s to 1 h. A process that
    /// starts is searched at every reading for this long.
    #[serde(with = "humantime_serde")]
    pub sweep: Duration,
    /// Where sysfs is mounted. Energy that is read from any other directory is labelled `simulated`.
    pub sysfs_root: String,
    /// Where procfs is mounted.
    pub proc_root: String,
}

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
const SWEEPS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

impl Default for DrmConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            sweep: Duration::from_secs(10),
            sysfs_root: "/sys".to_owned(),
            proc_root: "/proc".to_owned(),
        }
    }
}

impl DrmConfig {
    /// Refuses values outside the limits. The message names the key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_duration("plugins.drm.interval", self.interval, INTERVALS)?;
        check_duration("plugins.drm.sweep", self.sweep, SWEEPS)?;
        check_not_empty("plugins.drm.sysfs_root", &self.sysfs_root, "/sys")?;
        check_not_empty("plugins.drm.proc_root", &self.proc_root, "/proc")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_the_limits_are_refused_by_key() {
        let error = |change: &dyn Fn(&mut DrmConfig)| {
            let mut config = DrmConfig::default();
            change(&mut config);
            config.validate().err().map(|e| e.to_string()).unwrap_or_default()
        };
        let ms = Duration::from_millis;
        assert_eq!(error(&|_| ()), "");
        for (value, fine) in [(9, false), (10, true), (10_000, true), (10_001, false)] {
            let message = error(&|c| c.interval = ms(value));
            assert!(
                message.is_empty() == fine && (fine || message.starts_with("plugins.drm.interval: ")),
                "{message}"
            );
        }
        for (value, fine) in [(999, false), (1_000, true), (3_600_001, false)] {
            let message = error(&|c| c.sweep = ms(value));
            assert!(
                message.is_empty() == fine && (fine || message.starts_with("plugins.drm.sweep: ")),
                "{message}"
            );
        }
        assert!(error(&|c| c.sysfs_root.clear()).starts_with("plugins.drm.sysfs_root: "));
        assert!(error(&|c| c.proc_root.clear()).starts_with("plugins.drm.proc_root: "));
    }
}
