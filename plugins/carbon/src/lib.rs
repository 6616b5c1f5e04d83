//! The `carbon` plugin: grams of CO₂ equivalent, and money, from every joule that is measured or attributed.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.carbon]`, and what they come to |
//! | `countries` | the built-in table: yearly averages of grid intensity, with their year |
//! | `rate` | what a kilowatt hour takes now: a fixed number, or a file's that is read again when it changes |
//! | `transform` | the pipeline element: integrates the rate over energy, in integers |
//!
//! The energy comes from meters and from the `attribution` plugin, which this one follows. What is made of
//! estimated joules is labelled `estimated`: the energy domain goes with it.

mod config;
mod countries;
mod rate;
mod tariff;
mod transform;

use wattrace_api::{Error, Finding, Plugin, Setup, Verdict};

pub use config::CarbonConfig;

/// For fuzzing: what reads text that somebody else wrote.
#[doc(hidden)]
pub mod fuzzing {
    use crate::config::MOST;
    use crate::rate::{Quantity, parse};

    /// The file of a rate.
    pub fn rate(text: &str) {
        for quantity in [Quantity::Carbon, Quantity::Cost] {
            let Ok(rate) = parse(text, quantity) else { continue };
            assert!((0.0..=MOST).contains(&rate), "{rate}");
            let is_none = text.trim().parse::<f64>().is_ok_and(f64::is_nan);
            assert!(!is_none, "what is no number is no rate");
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
        config.sources()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        let open = move || transform::Transformer::open(&config, registry.clone(), clock.clone());
        setup.transform("energy", open);
        Ok(())
    }

    fn diagnose(config: &CarbonConfig) -> Vec<Finding> {
        let Ok(sources) = config.sources() else { return Vec::new() };
        let sources = sources.iter().filter(|source| !source.file.as_os_str().is_empty());
        let finding = |source: &rate::RateSource| {
            let what = format!("{} {}", source.key, source.file.display());
            match rate::read(source) {
                Ok((value, _)) => {
                    let found = format!("{value} {} a kWh", source.unit);
                    Finding { what, verdict: Verdict::Ok, found, remedy: String::new() }
                }
                Err(error) => {
                    let is_spare = source.fixed > 0.0 || source.times.is_some();
                    let verdict = if is_spare { Verdict::Optional } else { Verdict::Missing };
                    let remedy = "write a number into it, and replace it by renaming".to_owned();
                    Finding { what, verdict, found: error, remedy }
                }
            }
        };
        sources.map(finding).collect()
    }
}
