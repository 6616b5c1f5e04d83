//! The keys of `[plugins.drm]`, and which of their values make sense.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

/// Configuration of the `drm` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrmConfig {
    /// Time between readings, 10 ms to 10 s. A GPU that tells power rather than energy (AMD's) is the better
    /// metered the shorter it is.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Within how long every process is looked at once for files of GPUs that it has opened, 1 s to 1 h.
    /// Processes that start are looked at at every reading for so long.
    #[serde(with = "humantime_serde")]
    pub sweep: Duration,
    /// The tree under which `class/drm` is looked up. What is found anywhere but on a real sysfs is labelled
    /// `simulated`.
    pub sysfs_root: String,
    /// The tree in which processes are looked up.
    pub proc_root: String,
}

const INTERVALS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(10)];
const SWEEPS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3600)];

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
    /// Refuses what makes no sense, by its key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        for (key, value, [shortest, longest], bounds) in [
            ("interval", self.interval, INTERVALS, "10ms and 10s"),
            ("sweep", self.sweep, SWEEPS, "1s and 1h"),
        ] {
            if !(shortest..=longest).contains(&value) {
                return Err(Error::fatal(format!("plugins.drm.{key}: {value:?} is not between {bounds}")));
            }
        }
        for (key, value, default) in
            [("sysfs_root", &self.sysfs_root, "/sys"), ("proc_root", &self.proc_root, "/proc")]
        {
            if value.is_empty() {
                return Err(Error::fatal(format!(
                    "plugins.drm.{key}: is empty; the default is \"{default}\""
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        let said = |change: &dyn Fn(&mut DrmConfig)| {
            let mut config = DrmConfig::default();
            change(&mut config);
            config.validate().err().map(|e| e.to_string()).unwrap_or_default()
        };
        let ms = Duration::from_millis;
        assert_eq!(said(&|_| ()), "");
        for (value, fine) in [(9, false), (10, true), (10_000, true), (10_001, false)] {
            let said = said(&|c| c.interval = ms(value));
            assert!(
                said.is_empty() == fine && (fine || said.starts_with("plugins.drm.interval: ")),
                "{said}"
            );
        }
        for (value, fine) in [(999, false), (1_000, true), (3_600_001, false)] {
            let said = said(&|c| c.sweep = ms(value));
            assert!(said.is_empty() == fine && (fine || said.starts_with("plugins.drm.sweep: ")), "{said}");
        }
        assert!(said(&|c| c.sysfs_root.clear()).starts_with("plugins.drm.sysfs_root: "));
        assert!(said(&|c| c.proc_root.clear()).starts_with("plugins.drm.proc_root: "));
    }
}
