//! The keys of `[plugins.hwmon]`, and which of their values make sense.

use std::time::Duration;

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use wattrace_api::Error;

/// Configuration of the `hwmon` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HwmonConfig {
    /// Time between readings, 10 ms to 1 hour. Most chips refresh every 10 ms to 1 s. Power that is read at
    /// instants is integrated; where two readings are more than five intervals (and ten seconds) apart, what
    /// lies between is left out.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The tree under which `class/hwmon`, `bus/iio/devices` and `devices/system/cpu` are looked up. What is
    /// read from anything but a real sysfs is labelled `simulated`.
    pub sysfs_root: String,
    /// Domains to leave out, by patterns of their names: `["scmi-*"]`.
    pub exclude: Vec<String>,
    /// Domains that meter the whole machine (`hw.host.energy`), by patterns, in addition to those that are
    /// known to.
    pub host: Vec<String>,
    /// Domains whose energy no other meter contains, so that totals count it, by patterns. A channel that is
    /// not known here counts in no total unless it is named here.
    pub in_totals: Vec<String>,
    /// Domains whose energy follows the CPU time of all processes, by patterns. That of a channel that is not
    /// known here is attributed to nobody unless it is named here.
    pub follow_cpus: Vec<String>,
    /// true: take the driver `amd_energy` for the packages' energy, where `rapl` meters none.
    pub amd_energy: bool,
}

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(3600);

impl Default for HwmonConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            sysfs_root: "/sys".to_owned(),
            exclude: Vec::new(),
            host: Vec::new(),
            in_totals: Vec::new(),
            follow_cpus: Vec::new(),
            amd_energy: false,
        }
    }
}

/// The lists of patterns, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    pub(crate) exclude: GlobSet,
    pub(crate) host: GlobSet,
    pub(crate) in_totals: GlobSet,
    pub(crate) follow_cpus: GlobSet,
    pub(crate) amd_energy: bool,
}

impl HwmonConfig {
    /// Refuses what makes no sense, by its key.
    pub(crate) fn validate(&self) -> Result<Wishes, Error> {
        if !(SHORTEST..=LONGEST).contains(&self.interval) {
            let got = self.interval;
            return Err(Error::fatal(format!("plugins.hwmon.interval: {got:?} is not between 10ms and 1h")));
        }
        if self.sysfs_root.is_empty() {
            return Err(Error::fatal("plugins.hwmon.sysfs_root: is empty; the default is \"/sys\""));
        }
        Ok(Wishes {
            exclude: globs("exclude", &self.exclude)?,
            host: globs("host", &self.host)?,
            in_totals: globs("in_totals", &self.in_totals)?,
            follow_cpus: globs("follow_cpus", &self.follow_cpus)?,
            amd_energy: self.amd_energy,
        })
    }

    /// Two readings of power further apart than this have a gap between them.
    pub(crate) fn longest_gap(&self) -> Duration {
        (self.interval * 5).max(Duration::from_secs(10))
    }
}

fn globs(key: &str, patterns: &[String]) -> Result<GlobSet, Error> {
    let bad = |e: globset::Error| Error::fatal(format!("plugins.hwmon.{key}: {e}"));
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(bad)?);
    }
    set.build().map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        let refused = |config: HwmonConfig| config.validate().unwrap_err().to_string();
        let short = HwmonConfig { interval: Duration::from_millis(9), ..HwmonConfig::default() };
        assert!(refused(short).starts_with("plugins.hwmon.interval: "));
        let rootless = HwmonConfig { sysfs_root: String::new(), ..HwmonConfig::default() };
        assert!(refused(rootless).starts_with("plugins.hwmon.sysfs_root: "));
        let torn = HwmonConfig { in_totals: vec!["a[".to_owned()], ..HwmonConfig::default() };
        assert!(refused(torn).starts_with("plugins.hwmon.in_totals: "));
        HwmonConfig::default().validate().unwrap();
    }
}
