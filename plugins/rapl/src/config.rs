//! The keys of `[plugins.rapl]`, and the check of their values.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;
use wattrace_meter::keys::{check_duration, check_not_empty};

/// Configuration of the `rapl` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaplConfig {
    /// Time between readings, 1 ms to 1 day. RAPL refreshes about once a millisecond. Powercap's counters
    /// wrap after minutes to hours; a longer interval misses a wrap.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The tree in which `class/powercap` and `bus/event_source/devices` are looked up. What is read from
    /// anything but a real sysfs is labelled `simulated`.
    pub sysfs_root: String,
    /// The tree in which the processor's registers are, as `cpu/N/msr`.
    pub dev_root: String,
    /// The interface to read: `perf`, `powercap`, `msr`, or `auto`: the first of these that can be used,
    /// unless the others agree on a different result.
    pub interface: Interface,
    /// Whether single cores are metered too, where the processor can (AMD).
    pub cores: bool,
}

/// An interface to RAPL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// The first of the others that can be used, unless the others agree on a different result.
    Auto,
    /// The kernel's `power` PMU: 64-bit counters that never wrap, all of a package in one read.
    Perf,
    /// The files of `class/powercap`.
    Powercap,
    /// The processor's registers, through the kernel's module `msr`.
    Msr,
}

impl Interface {
    /// Its name in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Interface::Auto => "auto",
            Interface::Perf => "perf",
            Interface::Powercap => "powercap",
            Interface::Msr => "msr",
        }
    }
}

const MIN_INTERVAL: Duration = Duration::from_millis(1);
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3600);

impl Default for RaplConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            sysfs_root: "/sys".to_owned(),
            dev_root: "/dev".to_owned(),
            interface: Interface::Auto,
            cores: true,
        }
    }
}

impl RaplConfig {
    /// Checks the values. The error names the key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        check_duration("plugins.rapl.interval", self.interval, MIN_INTERVAL..=MAX_INTERVAL)?;
        check_not_empty("plugins.rapl.sysfs_root", &self.sysfs_root, "/sys")?;
        check_not_empty("plugins.rapl.dev_root", &self.dev_root, "/dev")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_outside_1ms_to_1day_is_refused_and_the_error_names_the_key() {
        for (nanos, fine) in [(0, false), (999_999, false), (1_000_000, true), (3_600_000_000_000, true)] {
            let config = RaplConfig { interval: Duration::from_nanos(nanos), ..RaplConfig::default() };
            let verdict = config.validate();
            assert_eq!(verdict.is_ok(), fine, "{nanos} ns");
            if let Err(e) = verdict {
                assert!(e.to_string().starts_with("plugins.rapl.interval: "), "{e}");
            }
        }
    }

    #[test]
    fn interfaces_are_lower_case_and_the_error_for_an_unknown_one_lists_them() {
        let config: RaplConfig = serde_json::from_str(r#"{"interface": "powercap"}"#).unwrap();
        assert_eq!(config.interface, Interface::Powercap);
        let message = serde_json::from_str::<RaplConfig>(r#"{"interface": "mmio"}"#).unwrap_err().to_string();
        assert!(message.contains("mmio") && message.contains("powercap"), "{message}");
    }
}
