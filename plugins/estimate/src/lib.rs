//! The `estimate` plugin: where nothing meters the CPU packages (most virtual machines), it estimates their
//! energy from how busy they were, so that there are joules to attribute. All it makes is labelled
//! `estimated`.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.estimate]` |
//! | [`cpuinfo`] | which CPU this is, and how much of it |
//! | `tdp` | how much that CPU is made to draw |
//! | `frequency` | at which frequency |
//! | [`profile`] | what `wattrace calibrate` found instead |
//! | [`fit`] | how it is found: from measured steps to a model |
//! | `power` | all that put together: watts under a load |
//! | `transform` | the pipeline element |
//!
//! The CPU time comes from the `sched` plugin; the `attribution` plugin, which comes after this one, can't
//! tell an estimated domain from a measured one but by its label.

mod config;
pub mod cpuinfo;
pub mod fit;
mod frequency;
mod power;
pub mod profile;
mod tdp;
mod transform;

pub use config::{EstimateConfig, When};

/// What reads text of others, for fuzzers.
#[doc(hidden)]
pub mod fuzzing {
    use crate::cpuinfo::CpuInfo;
    use crate::power::{Load, Power};
    use crate::profile::Profile;

    /// `/proc/cpuinfo`, and what is looked up by it.
    pub fn cpuinfo(text: &str) {
        let power = Power::of_design(&CpuInfo::parse(text));
        assert!(power.idle_microwatts() <= power.full_microwatts(), "idle is no more than full");
    }

    /// A profile, and what it makes of loads: never less than nothing, nor more than all.
    pub fn profile(text: &str) {
        let Ok(profile) = Profile::parse(text) else { return };
        let again = profile.to_toml().map(|text| Profile::parse(&text));
        assert_eq!(again, Ok(Ok(profile.clone())), "what is written is what was read");
        let most = profile.package.curve.iter().fold(0.0_f64, |most, point| most.max(point.watts));
        let power = Power::of_profile(profile, "", &CpuInfo::default());
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
            let registry = setup.registry();
            setup.transform("package", move || transform::Transformer::open(&config, registry.clone()));
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
