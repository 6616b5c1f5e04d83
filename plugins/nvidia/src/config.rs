//! The keys of `[plugins.nvidia]` and their limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, privilege};
use wattrace_meter::keys::{check_duration, check_not_empty};

/// Configuration of the `nvidia` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NvidiaConfig {
    /// Time between readings, 10 ms to 10 s. The driver refreshes its energy counters every 20 to 100 ms, and
    /// keeps samples of utilisation for about ten seconds.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The management library: a name for the dynamic linker, or a path. The numbers of any other library
    /// than the driver's own are labelled `simulated`.
    pub library: String,
    /// How often lost and new GPUs are looked for, at least 1 s; `0s`: never. It initialises the library
    /// again.
    #[serde(with = "humantime_serde")]
    pub rescan: Duration,
    /// Whether temperature, clocks and memory of each GPU are read, too.
    pub context: bool,
    /// Where sysfs is mounted. It says which GPUs sleep, so that they are not woken.
    pub sysfs_root: String,
}

/// The driver's library.
pub(crate) const LIBRARY: &str = "libnvidia-ml.so.1";

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(10);
const SHORTEST_RESCAN: Duration = Duration::from_secs(1);

impl Default for NvidiaConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            library: LIBRARY.to_owned(),
            rescan: Duration::from_secs(60),
            context: false,
            sysfs_root: "/sys".to_owned(),
        }
    }
}

impl NvidiaConfig {
    /// Refuses values outside the limits. The message names the key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_duration("plugins.nvidia.interval", self.interval, SHORTEST..=LONGEST)?;
        if !self.rescan.is_zero() && self.rescan < SHORTEST_RESCAN {
            let got = self.rescan;
            return Err(Error::fatal(format!(
                "plugins.nvidia.rescan: {got:?} is neither 0s nor at least 1s"
            )));
        }
        check_not_empty("plugins.nvidia.library", &self.library, LIBRARY)?;
        check_not_empty("plugins.nvidia.sysfs_root", &self.sysfs_root, "/sys")?;
        may_load(&self.library, privilege::is_limited())
    }
}

/// A library runs with the rights of the agent. If these are more than the user's (`limited`), the user may
/// not choose it.
fn may_load(library: &str, limited: bool) -> Result<(), Error> {
    if limited && library != LIBRARY {
        return Err(Error::fatal(format!(
            "plugins.nvidia.library: {library}: the agent has its rights from the capabilities of its file, \
             and would give them to the library; use \"{LIBRARY}\", or run as root"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_the_limits_are_refused_by_key() {
        let ms = Duration::from_millis;
        let with = |change: fn(&mut NvidiaConfig, Duration), value| {
            let mut config = NvidiaConfig::default();
            change(&mut config, value);
            config.validate().err().map(|e| e.to_string()).unwrap_or_default()
        };
        for (value, fine) in [(9, false), (10, true), (10_000, true), (10_001, false)] {
            let message = with(|c, v| c.interval = v, ms(value));
            assert_eq!(message.is_empty(), fine, "{value}: {message}");
            assert!(fine || message.starts_with("plugins.nvidia.interval: "), "{message}");
        }
        for (value, fine) in [(0, true), (999, false), (1_000, true)] {
            let message = with(|c, v| c.rescan = v, ms(value));
            assert_eq!(message.is_empty(), fine, "{value}: {message}");
        }
        assert!(with(|c, _| c.library.clear(), ms(0)).starts_with("plugins.nvidia.library: "));
        assert!(with(|c, _| c.sysfs_root.clear(), ms(0)).starts_with("plugins.nvidia.sysfs_root: "));
    }

    #[test]
    fn a_user_with_rights_of_the_file_may_not_choose_the_library() {
        for (library, limited, may) in
            [(LIBRARY, true, true), ("/tmp/mine.so", false, true), ("/tmp/mine.so", true, false)]
        {
            assert_eq!(may_load(library, limited).is_ok(), may, "{library}");
        }
        let message = may_load("/tmp/mine.so", true).unwrap_err().to_string();
        assert!(
            message.starts_with("plugins.nvidia.library: /tmp/mine.so: ") && message.contains("run as root")
        );
    }
}
