//! The keys of `[plugins.rapl]`, and which of their values make sense.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

/// Configuration of the `rapl` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaplConfig {
    /// Time between readings, 1 ms to 1 day. RAPL itself refreshes about once a millisecond; its counters
    /// wrap after minutes to hours, so that an interval of many minutes can miss a wrap.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The tree under which `class/powercap` and `bus/event_source/devices` are looked up. What is found
    /// anywhere but on a real sysfs is labelled `simulated`.
    pub sysfs_root: String,
    /// The tree under which the processor's registers are, `cpu/N/msr`.
    pub dev_root: String,
    /// The way to the meter: `auto` (the first of `perf`, `powercap` and `msr` that is there, unless the
    /// others agree on something else), or one of these.
    pub interface: Interface,
    /// Whether cores are metered one by one where they can be (AMD), beside their package.
    pub cores: bool,
}

/// A way to the meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// The first of the others that is there, unless they agree on something else.
    Auto,
    /// The kernel's `power` PMU: 64-bit counters that never wrap, all of a package in one read.
    Perf,
    /// The files of `class/powercap`.
    Powercap,
    /// The processor's own registers, through the kernel's module `msr`.
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

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

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
    /// Refuses what makes no sense, by its key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if !(SHORTEST..=LONGEST).contains(&self.interval) {
            let got = self.interval;
            return Err(Error::fatal(format!("plugins.rapl.interval: {got:?} is not between 1ms and 1day")));
        }
        if self.sysfs_root.is_empty() {
            return Err(Error::fatal("plugins.rapl.sysfs_root: is empty; the default is \"/sys\""));
        }
        if self.dev_root.is_empty() {
            return Err(Error::fatal("plugins.rapl.dev_root: is empty; the default is \"/dev\""));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_outside_1ms_to_1day_is_refused_by_its_key() {
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
    fn interfaces_are_spelt_in_lower_case_and_others_are_named_in_the_refusal() {
        let config: RaplConfig = serde_json::from_str(r#"{"interface": "powercap"}"#).unwrap();
        assert_eq!(config.interface, Interface::Powercap);
        let message = serde_json::from_str::<RaplConfig>(r#"{"interface": "mmio"}"#).unwrap_err().to_string();
        assert!(message.contains("mmio") && message.contains("powercap"), "{message}");
    }
}
