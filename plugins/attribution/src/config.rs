//! The keys of `[plugins.attribution]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, state_directory};

/// `[plugins.attribution]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttributionConfig {
    /// How dynamic energy is divided.
    pub weights: Weights,
    /// Where static energy goes: the energy that a domain draws at no load.
    pub idle: Idle,
    /// Static power in watts, by domain name. For a domain that is not named here it is learnt:
    /// `idle_watts = { package-0 = 12.5 }`.
    pub idle_watts: BTreeMap<String, f64>,
    /// With `weights = "smt"`: the weight of a nanosecond while the core's other CPU is busy as well, 0 to 1.
    /// 0: learnt.
    pub smt_factor: f64,
    /// Where a GPU's static energy goes.
    pub gpu_idle: GpuIdle,
    /// The file that keeps what is learnt across restarts. `none`: nothing is kept. Empty: `attribution.json`
    /// in `$STATE_DIRECTORY`, which systemd sets; without that variable in `/var/lib/wattrace` for root, and
    /// for others in `$XDG_STATE_HOME/wattrace` or `~/.local/state/wattrace`.
    pub state: PathBuf,
    /// How long usage is remembered for a meter that reports late. Energy older than that is `unattributed`.
    #[serde(with = "humantime_serde")]
    pub history: Duration,
}

/// How dynamic energy is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// By CPU time.
    CpuTime,
    /// By CPU cycles, where they are counted, so that a faster clock weighs more. Memory by cache misses.
    Cycles,
    /// By instructions, where they are counted. Memory by cache misses.
    Instructions,
    /// By CPU time, which weighs less while the core's other CPU is busy as well. Memory by cache misses,
    /// where they are counted.
    Smt,
    /// By everything that is counted, with the coefficients that fit the domain's own meter best. By CPU time
    /// as long as CPU time predicts the meter significantly better.
    Fitted,
}

/// Where static energy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idle {
    /// To the consumer `idle`.
    Separate,
    /// To the consumers that use the hardware, in proportion to their use.
    ByUsage,
    /// To the consumers that use the hardware, in equal parts.
    Even,
    /// It is not separated: all energy is divided as the dynamic part is.
    None,
}

/// Where a GPU's static energy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuIdle {
    /// Where `idle` sends that of other hardware.
    Idle,
    /// To the processes that hold memory of the GPU, in proportion; to the consumer `idle` while none does.
    Holder,
}

impl Default for AttributionConfig {
    fn default() -> Self {
        Self {
            weights: Weights::Fitted,
            idle: Idle::Separate,
            idle_watts: BTreeMap::new(),
            smt_factor: 0.0,
            gpu_idle: GpuIdle::Idle,
            state: PathBuf::new(),
            history: Duration::from_secs(120),
        }
    }
}

impl AttributionConfig {
    /// Whether all values are in range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some((domain, watts)) = self.idle_watts.iter().find(|(_, w)| !w.is_finite() || **w < 0.0) {
            return Err(Error::fatal(format!(
                "plugins.attribution.idle_watts.{domain} is {watts}: it must be a number of watts, 0 or more"
            )));
        }
        if !(0.0..=1.0).contains(&self.smt_factor) {
            return Err(Error::fatal(format!(
                "plugins.attribution.smt_factor is {}: it must be from 0 (learnt) to 1",
                self.smt_factor
            )));
        }
        Ok(())
    }

    /// The file that keeps what is learnt, if there is one.
    pub(crate) fn state_file(&self) -> Option<PathBuf> {
        match self.state.to_str() {
            Some("none") => None,
            Some("") => Some(state_directory()?.join("attribution.json")),
            _ => Some(self.state.clone()),
        }
    }

    /// The weight of shared CPU time, if it is given.
    pub(crate) fn given_smt_factor(&self) -> Option<f64> {
        (self.smt_factor > 0.0).then_some(self.smt_factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_can_be_switched_off() {
        let none = AttributionConfig { state: "none".into(), ..AttributionConfig::default() };
        assert_eq!(none.state_file(), None);
    }
}
