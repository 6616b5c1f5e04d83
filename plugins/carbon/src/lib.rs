//! The `carbon` plugin: computes grams of CO₂ equivalent, and cost, from all energy that is measured or
//! attributed.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.carbon]`, and the sources of rates that they resolve to |
//! | `check` | what values are checked with |
//! | `countries` | the built-in table: yearly averages of grid intensity, with their year |
//! | `tariff` | prices by the time of day |
//! | `rate` | the current rate: a fixed number, a tariff's, or a file's that is read again when it changes |
//! | `transform` | the pipeline element: integrates the rate over energy, in integers |
//!
//! The energy comes from meters and from the `attribution` plugin, which runs before this one. Each series
//! keeps the domain of its energy, so what is computed from estimated joules is labelled `estimated`.

mod check;
mod config;
mod countries;
mod rate;
mod tariff;
mod transform;

use wattrace_api::{Error, Finding, Plugin, Setup, Verdict};

pub use config::CarbonConfig;

/// Entry points for fuzzing: what parses input from outside.
#[doc(hidden)]
pub mod fuzzing {
    use crate::check::MAX_PER_KWH;
    use crate::rate::{Quantity, parse};

    /// The content of a rate's file.
    pub fn rate(text: &str) {
        for quantity in [Quantity::Carbon, Quantity::Cost] {
            let Ok(rate) = parse(text, quantity) else { continue };
            assert!((0.0..=MAX_PER_KWH).contains(&rate), "{rate}");
            let is_nan = text.trim().parse::<f64>().is_ok_and(f64::is_nan);
            assert!(!is_nan, "NaN is not a rate");
        }
    }
}

/// The plugin.
#[derive(Debug)]
pub struct Carbon;

impl Plugin for Carbon {
    const NAME: &'static str = "carbon";
    const DESCRIPTION: &'static str = "grams of CO2 equivalent, and cost, of all energy";
    type Config = CarbonConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: CarbonConfig, setup: &mut Setup) -> Result<(), Error> {
        config.resolve()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        let open = move || transform::Transformer::open(&config, registry.clone(), clock.clone());
        setup.transform("energy", open);
        Ok(())
    }

    fn diagnose(config: &CarbonConfig) -> Vec<Finding> {
        let Ok(sources) = config.resolve() else { return Vec::new() };
        let sources = sources.iter().filter(|source| !source.file.as_os_str().is_empty());
        let finding = |source: &rate::RateSource| {
            let what = format!("{} {}", source.key, source.file.display());
            match rate::read(source) {
                Ok((value, _)) => {
                    let found = format!("{value} {} per kWh", source.unit);
                    Finding { what, verdict: Verdict::Ok, found, remedy: String::new() }
                }
                Err(error) => {
                    let has_default = source.fixed > 0.0 || source.schedule.is_some();
                    let verdict = if has_default { Verdict::Optional } else { Verdict::Missing };
                    let remedy = "write a number to it; replace it by renaming another file".to_owned();
                    Finding { what, verdict, found: error, remedy }
                }
            }
        };
        sources.map(finding).collect()
    }
}
