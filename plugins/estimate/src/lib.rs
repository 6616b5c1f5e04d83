//! The `estimate` plugin: estimates the energy of CPU packages from their utilisation where no meter exists,
//! as in most virtual machines, so that there is energy to attribute. Its results are labelled `estimated`.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.estimate]` |
//! | [`cpuinfo`] | the CPU's model and topology, from `/proc/cpuinfo` |
//! | `tdp` | thermal design powers by model |
//! | `cores` | ARM cores by number, and their watts |
//! | `frequency` | base frequencies |
//! | `meters` | which meters of packages there are |
//! | [`profile`] | a model that `wattrace calibrate` measured |
//! | [`fit`] | fits such a model to measured steps of load |
//! | `power` | selects the model, and computes watts under a load |
//! | `transform` | the pipeline element |
//!
//! The CPU time comes from the `sched` plugin. The `attribution` plugin, which runs after this one, treats an
//! estimated domain like a measured one.

mod config;
mod cores;
pub mod cpuinfo;
pub mod fit;
mod frequency;
mod meters;
mod power;
pub mod profile;
mod tdp;
mod transform;

pub use config::{EstimateConfig, When};

/// Entry points for fuzzing: what parses input from outside.
#[doc(hidden)]
pub mod fuzzing {
    use crate::cpuinfo::CpuInfo;
    use crate::power::{Load, Power};
    use crate::profile::Profile;

    /// `/proc/cpuinfo`, and the power model of that CPU.
    pub fn cpuinfo(text: &str) {
        let power = Power::of_cpu(&CpuInfo::parse(text));
        assert!(power.idle_microwatts() <= power.full_microwatts(), "idle power is at most full power");
    }

    /// A profile: power above idle is never negative, and never more than the curve's maximum.
    pub fn profile(text: &str) {
        let Ok(profile) = Profile::parse(text) else { return };
        let again = profile.to_toml().map(|text| Profile::parse(&text));
        assert_eq!(again, Ok(Ok(profile.clone())), "writing and parsing again gives the same profile");
        let most = profile.package.curve.iter().fold(0.0_f64, |most, point| most.max(point.watts));
        let power = Power::from_profile(profile, "", &CpuInfo::default());
        for (busy, shared, cycles) in
            [(0, None, 0), (1, Some(1), 5), (500, Some(1000), 1), (1000, None, u64::MAX)]
        {
            let watts = power.dynamic_watts(&Load { busy, total: 1000, shared, cycles });
            assert!((0.0..=most).contains(&watts), "{watts} of {most}");
        }
    }
}

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Verdict};

/// The plugin.
#[derive(Debug)]
pub struct Estimate;

impl Plugin for Estimate {
    const NAME: &'static str = "estimate";
    const DESCRIPTION: &'static str =
        "energy of CPU packages, estimated from their utilisation where nothing meters it";
    type Config = EstimateConfig;

    fn start(config: EstimateConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        if config.when != When::Never {
            let (registry, clock) = (setup.registry(), setup.clock());
            setup.transform("package", move || {
                transform::Transformer::open(&config, registry.clone(), clock.clone())
            });
        }
        Ok(())
    }

    fn diagnose(config: &EstimateConfig) -> Vec<Finding> {
        if config.profile.is_empty() || config.when == When::Never {
            return Vec::new();
        }
        let what = format!("profile {}", config.profile);
        let remedy = format!("wattrace calibrate --output {}, on a machine that has a meter", config.profile);
        vec![match profile::Profile::read(Path::new(&config.profile)) {
            Ok(profile) => Finding {
                what,
                verdict: Verdict::Ok,
                found: format!("of {}", profile.cpu),
                remedy: String::new(),
            },
            Err(e) => Finding { what, verdict: Verdict::Missing, found: e.to_string(), remedy },
        }]
    }
}
