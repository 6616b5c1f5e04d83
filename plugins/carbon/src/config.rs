//! The keys of `[plugins.carbon]`, and the sources of rates that they come to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

use crate::countries;
use crate::rate::{Quantity, RateSource};
use crate::tariff::{Schedule, TariffTime};

/// `[plugins.carbon]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CarbonConfig {
    /// Carbon intensity of the electricity, in grams of CO₂ equivalent per kilowatt hour; 0: see `country`.
    pub intensity: f64,
    /// The country whose average intensity to take, by its ISO 3166 code: `FR` or `FRA`; also `EU` and
    /// `WORLD`.
    pub country: String,
    /// A file that holds the intensity now, as a number, or as Electricity Maps' JSON. It is read again when
    /// it has changed. Until it can be read, `intensity` or `country` is used, if one is given.
    pub intensity_file: PathBuf,
    /// Price of a kilowatt hour; 0: see `tariff_times` and `tariff_file`.
    pub tariff: f64,
    /// Prices by the time of day. The first that covers a moment holds then; where none does, `tariff` does.
    pub tariff_times: Vec<TariffTime>,
    /// The time zone of `tariff_times`, as `Europe/Paris`; empty: this machine's.
    pub time_zone: String,
    /// A file that holds the price now, as a number, or in JSON as `price`.
    pub tariff_file: PathBuf,
    /// What the price is in: three letters, as in ISO 4217.
    pub currency: String,
    /// Power usage effectiveness: how many joules the building uses for each that the machine does; 1 or
    /// more.
    pub pue: f64,
    /// Time between two looks at the files.
    #[serde(with = "humantime_serde")]
    pub check_interval: Duration,
}

impl Default for CarbonConfig {
    fn default() -> Self {
        Self {
            intensity: 0.0,
            country: String::new(),
            intensity_file: PathBuf::new(),
            tariff: 0.0,
            tariff_times: Vec::new(),
            time_zone: String::new(),
            tariff_file: PathBuf::new(),
            currency: "EUR".to_owned(),
            pue: 1.0,
            check_interval: Duration::from_secs(10),
        }
    }
}

/// More than any kilowatt hour emits in grams, or costs in any currency.
pub(crate) const MOST: f64 = 1e6;

impl CarbonConfig {
    /// Where the rates come from: of carbon, of cost, or both.
    ///
    /// # Errors
    /// Fatal, if a value makes no sense or nothing is asked for; the message names the key.
    pub(crate) fn sources(&self) -> Result<Vec<RateSource>, Error> {
        for (key, value) in [("intensity", self.intensity), ("tariff", self.tariff)] {
            if !(0.0..=MOST).contains(&value) {
                return refuse(key, format_args!("{value} is not between 0 and {MOST}"));
            }
        }
        if !(1.0..=10.0).contains(&self.pue) {
            return refuse("pue", format_args!("{} is not between 1 and 10", self.pue));
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return refuse("currency", format_args!("\"{}\" is not three capital letters", self.currency));
        }
        if self.check_interval.is_zero() {
            return refuse("check_interval", format_args!("must be more than 0s"));
        }
        let mut sources = Vec::new();
        if let Some(fixed) = self.fixed(self.average()?, &self.intensity_file) {
            let key = "plugins.carbon.intensity_file";
            sources.push(self.source(Quantity::Carbon, key, fixed, &self.intensity_file, "g".to_owned()));
        }
        let times = Schedule::new(&self.tariff_times, &self.time_zone, self.tariff)?;
        if times.is_some() || self.fixed(self.tariff, &self.tariff_file).is_some() {
            let (key, unit) = ("plugins.carbon.tariff_file", format!("{{{}}}", self.currency));
            let source = self.source(Quantity::Cost, key, self.tariff, &self.tariff_file, unit);
            sources.push(RateSource { times, ..source });
        }
        if sources.is_empty() {
            return refuse(
                "intensity",
                format_args!("nothing to compute with: give intensity, country, intensity_file or tariff"),
            );
        }
        Ok(sources)
    }

    /// The fixed intensity, or the country's average.
    fn average(&self) -> Result<f64, Error> {
        if self.country.is_empty() {
            return Ok(self.intensity);
        }
        if self.intensity > 0.0 {
            return refuse("country", format_args!("intensity is given too; take one of them away"));
        }
        match countries::find(&self.country) {
            Some(country) => Ok(country.grams_per_kwh),
            None => refuse(
                "country",
                format_args!(
                    "\"{}\" is not in the table; give intensity, in grams per kilowatt hour. In it are {}",
                    self.country,
                    countries::codes()
                ),
            ),
        }
    }

    /// `None`: neither a number nor a file is given.
    fn fixed(&self, number: f64, file: &Path) -> Option<f64> {
        (number > 0.0 || !file.as_os_str().is_empty()).then_some(number)
    }

    fn source(
        &self,
        quantity: Quantity,
        key: &'static str,
        fixed: f64,
        file: &Path,
        unit: String,
    ) -> RateSource {
        let (file, pue, check) = (file.to_owned(), self.pue, self.check_interval);
        RateSource { quantity, key, fixed, times: None, file, unit, pue, check }
    }
}

pub(crate) fn refuse<T>(key: &str, why: std::fmt::Arguments<'_>) -> Result<T, Error> {
    Err(Error::fatal(format!("plugins.carbon.{key}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Result<Vec<RateSource>, String> {
        toml::from_str::<CarbonConfig>(text).unwrap().sources().map_err(|e| e.to_string())
    }

    #[test]
    fn a_number_a_country_or_a_file_gives_the_rate() {
        let fixed = |text: &str| sources(text).unwrap().iter().map(|s| s.fixed).collect::<Vec<_>>();
        assert_eq!(fixed("intensity = 400"), [400.0]);
        assert_eq!(fixed("country = \"fr\""), [56.04]);
        assert_eq!(fixed("country = \"FRA\"\ntariff = 0.25"), [56.04, 0.25]);
        assert_eq!(fixed("intensity_file = \"/run/grid\""), [0.0]);
        assert_eq!(fixed("tariff = 0.25"), [0.25]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (text, start) in [
            ("", "plugins.carbon.intensity: nothing"),
            ("intensity = -1", "plugins.carbon.intensity: "),
            ("country = \"XX\"", "plugins.carbon.country: \"XX\" is not in the table"),
            ("country = \"FR\"\nintensity = 10", "plugins.carbon.country: intensity is given too"),
            ("intensity = 1\npue = 0.9", "plugins.carbon.pue: "),
            ("tariff = 1\ncurrency = \"euro\"", "plugins.carbon.currency: "),
            ("tariff = 1\ncheck_interval = \"0s\"", "plugins.carbon.check_interval: "),
        ] {
            let message = sources(text).unwrap_err();
            assert!(message.starts_with(start), "{message}");
        }
    }
}
