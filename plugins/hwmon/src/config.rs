//! The keys of `[plugins.hwmon]`, and the check of their values.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;
use wattrace_meter::keys::{check_duration, check_not_empty};
use wattrace_select::Glob;
use wattrace_select::pattern::glob;

/// Configuration of the `hwmon` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HwmonConfig {
    /// Time between readings, 10 ms to 1 hour. Most chips refresh every 10 ms to 1 s. Power is integrated
    /// over time. If two readings are more than five intervals, and ten seconds, apart, the time in between
    /// is left out.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The tree in which `class/hwmon`, `bus/iio/devices` and `devices/system/cpu` are looked up. What is
    /// read from anything but a real sysfs is labelled `simulated`.
    pub sysfs_root: String,
    /// Domains to leave out, as patterns of their names: `["scmi-*"]`.
    pub exclude: Vec<String>,
    /// Domains that meter the whole machine (`hw.host.energy`), as patterns, in addition to the known ones.
    pub host: Vec<String>,
    /// Domains whose energy is in no other meter, as patterns, so that totals include it. The energy of an
    /// unknown channel is in no total unless it is named here.
    pub in_totals: Vec<String>,
    /// Domains whose energy is attributed by the CPU time of all processes, as patterns. The energy of an
    /// unknown channel is not attributed unless it is named here.
    pub follow_cpus: Vec<String>,
    /// Whether to read the packages' energy from AMD's drivers (`amd_energy`, `zenergy`, `amd_hsmp`,
    /// `fam15h_power`) where `rapl` does not meter it.
    pub amd_energy: bool,
}

const MIN_INTERVAL: Duration = Duration::from_millis(10);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

impl Default for HwmonConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            sysfs_root: "/sys".to_owned(),
            exclude: Vec::new(),
            host: Vec::new(),
            in_totals: Vec::new(),
            follow_cpus: Vec::new(),
            amd_energy: true,
        }
    }
}

/// Globs of which one must match.
#[derive(Clone, Debug)]
pub(crate) struct Globs(Vec<Glob>);

impl Globs {
    pub(crate) fn is_match(&self, name: &str) -> bool {
        self.0.iter().any(|glob| glob.is_match(name))
    }
}

/// What the configuration says about channels, with its patterns compiled.
#[derive(Clone, Debug)]
pub(crate) struct ChannelRules {
    pub(crate) exclude: Globs,
    pub(crate) host: Globs,
    pub(crate) in_totals: Globs,
    pub(crate) follow_cpus: Globs,
    pub(crate) amd_energy: bool,
}

impl HwmonConfig {
    /// Checks the values, and compiles the patterns. The error names the key.
    pub(crate) fn validate(&self) -> Result<ChannelRules, Error> {
        check_duration("plugins.hwmon.interval", self.interval, MIN_INTERVAL..=MAX_INTERVAL)?;
        check_not_empty("plugins.hwmon.sysfs_root", &self.sysfs_root, "/sys")?;
        Ok(ChannelRules {
            exclude: globs("exclude", &self.exclude)?,
            host: globs("host", &self.host)?,
            in_totals: globs("in_totals", &self.in_totals)?,
            follow_cpus: globs("follow_cpus", &self.follow_cpus)?,
            amd_energy: self.amd_energy,
        })
    }

    /// Between two readings of power further apart than this there is a gap.
    pub(crate) fn max_gap(&self) -> Duration {
        (self.interval * 5).max(Duration::from_secs(10))
    }
}

fn globs(key: &str, patterns: &[String]) -> Result<Globs, Error> {
    let key = format!("plugins.hwmon.{key}");
    patterns.iter().map(|pattern| glob(&key, pattern)).collect::<Result<_, _>>().map(Globs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_bad_value_names_the_key() {
        let refused = |config: HwmonConfig| config.validate().unwrap_err().to_string();
        let short = HwmonConfig { interval: Duration::from_millis(9), ..HwmonConfig::default() };
        assert!(refused(short).starts_with("plugins.hwmon.interval: "));
        let no_root = HwmonConfig { sysfs_root: String::new(), ..HwmonConfig::default() };
        assert!(refused(no_root).starts_with("plugins.hwmon.sysfs_root: "));
        let bad_pattern = HwmonConfig { in_totals: vec!["a[".to_owned()], ..HwmonConfig::default() };
        assert!(refused(bad_pattern).starts_with("plugins.hwmon.in_totals: "));
        HwmonConfig::default().validate().unwrap();
    }
}
