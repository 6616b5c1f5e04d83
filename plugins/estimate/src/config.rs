//! The keys of `[plugins.estimate]`, and their validation.

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

/// Configuration of the `estimate` plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EstimateConfig {
    /// When to estimate: `no-meter` (while no meter of the packages exists), `always` (also beside a meter,
    /// to compare the two) or `never`.
    pub when: When,
    /// Thermal design power of one package, in watts; 0: looked up by the CPU's name, and in a virtual
    /// machine scaled to its share of the CPUs.
    pub tdp_watts: f64,
    /// Power of one idle package, in watts; 0: 12 % of full power, or, if that is not given and only the
    /// CPU's family is known, the idle power of that family.
    pub idle_watts: f64,
    /// Power of one package with all CPUs busy, in watts; 0: the thermal design power.
    pub full_watts: f64,
    /// A file that `wattrace calibrate` wrote on a machine with a meter and the same CPU; empty: none. It
    /// replaces the watts above, which cannot be given with it.
    pub profile: String,
    /// The frequency at which a busy package draws `full_watts`, in MHz; 0: the CPU's base frequency, where
    /// it is known. Used only if cycles are counted (`plugins.sched.counters`).
    pub nominal_mhz: f64,
    /// The file with the CPU's name.
    pub cpuinfo: String,
}

/// When to estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// While no meter of the packages exists.
    NoMeter,
    /// Also beside a meter.
    Always,
    /// Never.
    Never,
}

impl Default for EstimateConfig {
    fn default() -> Self {
        Self {
            when: When::NoMeter,
            tdp_watts: 0.0,
            idle_watts: 0.0,
            full_watts: 0.0,
            profile: String::new(),
            nominal_mhz: 0.0,
            cpuinfo: "/proc/cpuinfo".to_owned(),
        }
    }
}

/// More than any package draws.
pub(crate) const MAX_WATTS: f64 = 10_000.0;

impl EstimateConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// Fatal, if one is invalid. The message names the key.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        for (key, watts) in
            [("tdp_watts", self.tdp_watts), ("idle_watts", self.idle_watts), ("full_watts", self.full_watts)]
        {
            if !(0.0..=MAX_WATTS).contains(&watts) {
                let message = format!("plugins.estimate.{key}: {watts} is not between 0 and {MAX_WATTS}");
                return Err(Error::fatal(message));
            }
            if watts > 0.0 && !self.profile.is_empty() {
                return Err(Error::fatal(format!(
                    "plugins.estimate.{key}: plugins.estimate.profile gives it already; remove one of the two"
                )));
            }
        }
        if !(0.0..=100_000.0).contains(&self.nominal_mhz) {
            let mhz = self.nominal_mhz;
            return Err(Error::fatal(format!(
                "plugins.estimate.nominal_mhz: {mhz} is not between 0 and 100000"
            )));
        }
        let full = if self.full_watts > 0.0 { self.full_watts } else { self.tdp_watts };
        if full > 0.0 && self.idle_watts > full {
            return Err(Error::fatal(format!(
                "plugins.estimate.idle_watts: {} is more than the {full} W of a busy package",
                self.idle_watts
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(json: &str) -> Option<String> {
        let config: EstimateConfig = serde_json::from_str(json).unwrap();
        config.validate().err().map(|e| e.to_string())
    }

    #[test]
    fn an_error_names_the_key_of_the_invalid_value() {
        assert_eq!(error_of("{}"), None);
        assert_eq!(error_of(r#"{"idle_watts": 10, "full_watts": 10, "when": "no-meter"}"#), None);
        assert_eq!(error_of(r#"{"profile": "p.toml", "nominal_mhz": 2800}"#), None);
        assert!(
            error_of(r#"{"profile": "p.toml", "full_watts": 10}"#)
                .unwrap()
                .starts_with("plugins.estimate.full_watts: ")
        );
        assert!(error_of(r#"{"nominal_mhz": -1}"#).unwrap().starts_with("plugins.estimate.nominal_mhz: "));
        assert!(error_of(r#"{"tdp_watts": -1}"#).unwrap().starts_with("plugins.estimate.tdp_watts: "));
        assert!(error_of(r#"{"full_watts": 10001}"#).unwrap().starts_with("plugins.estimate.full_watts: "));
        assert!(
            error_of(r#"{"idle_watts": 11, "full_watts": 10}"#)
                .unwrap()
                .starts_with("plugins.estimate.idle_watts: ")
        );
        assert!(
            error_of(r#"{"idle_watts": 11, "tdp_watts": 10}"#)
                .unwrap()
                .starts_with("plugins.estimate.idle_watts: ")
        );
    }
}
