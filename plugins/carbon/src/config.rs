//! The keys of `[plugins.carbon]`, and the sources of rates that they resolve to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

use crate::check::{MAX_PER_KWH, refuse};
use crate::countries;
use crate::rate::{Quantity, RateSource};
use crate::tariff::{Schedule, TariffTime};

/// `[plugins.carbon]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CarbonConfig {
    /// Carbon intensity of the electricity, in grams of CO₂ equivalent per kilowatt hour; 0: see `country`.
    pub intensity: f64,
    /// The country whose average intensity is used, by its ISO 3166 code: `FR` or `FRA`; also `EU` and
    /// `WORLD`.
    pub country: String,
    /// A file with the current intensity, as a number, or as Electricity Maps' JSON. It is read again when it
    /// has changed. Until it can be read, `intensity` or `country` is used, if one is given.
    pub intensity_file: PathBuf,
    /// Price of a kilowatt hour; 0: see `tariff_times` and `tariff_file`.
    pub tariff: f64,
    /// Prices by the time of day. The first that covers a moment applies; if none does, `tariff` applies.
    pub tariff_times: Vec<TariffTime>,
    /// The time zone of `tariff_times`, as `Europe/Paris`; empty: this machine's.
    pub time_zone: String,
    /// A file with the current price, as a number, or in JSON as `price`.
    pub tariff_file: PathBuf,
    /// Currency of the price: three letters, as in ISO 4217.
    pub currency: String,
    /// Power usage effectiveness: the joules that the building uses for each joule of the machine; 1 or more.
    pub pue: f64,
    /// Time between two checks of the files.
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

impl CarbonConfig {
    /// The sources of the rates of carbon, of cost, or of both.
    ///
    /// # Errors
    /// Fatal, if a value is invalid or none is given. The message names the key.
    pub(crate) fn resolve(&self) -> Result<Vec<RateSource>, Error> {
        for (key, value) in [("intensity", self.intensity), ("tariff", self.tariff)] {
            if !(0.0..=MAX_PER_KWH).contains(&value) {
                return refuse(key, format_args!("{value} is not between 0 and {MAX_PER_KWH}"));
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
        if let Some(fixed) = given(self.resolve_intensity()?, &self.intensity_file) {
            let key = "plugins.carbon.intensity_file";
            sources.push(self.source(Quantity::Carbon, key, fixed, &self.intensity_file, "g".to_owned()));
        }
        let schedule = Schedule::new(&self.tariff_times, &self.time_zone, self.tariff)?;
        if schedule.is_some() || given(self.tariff, &self.tariff_file).is_some() {
            let (key, unit) = ("plugins.carbon.tariff_file", format!("{{{}}}", self.currency));
            let source = self.source(Quantity::Cost, key, self.tariff, &self.tariff_file, unit);
            sources.push(RateSource { schedule, ..source });
        }
        if sources.is_empty() {
            return refuse(
                "intensity",
                format_args!("no rate is given: set intensity, country, intensity_file or tariff"),
            );
        }
        Ok(sources)
    }

    /// The fixed intensity, or the country's average.
    fn resolve_intensity(&self) -> Result<f64, Error> {
        if self.country.is_empty() {
            return Ok(self.intensity);
        }
        if self.intensity > 0.0 {
            return refuse("country", format_args!("intensity is given too; remove one of them"));
        }
        match countries::find(&self.country) {
            Some(country) => Ok(country.grams_per_kwh),
            None => refuse(
                "country",
                format_args!(
                    "\"{}\" is not in the table; set intensity, in grams per kilowatt hour. The table has {}",
                    self.country,
                    countries::codes()
                ),
            ),
        }
    }

    fn source(
        &self,
        quantity: Quantity,
        key: &'static str,
        fixed: f64,
        file: &Path,
        unit: String,
    ) -> RateSource {
        let (file, pue, check_interval) = (file.to_owned(), self.pue, self.check_interval);
        RateSource { quantity, key, fixed, schedule: None, file, unit, pue, check_interval }
    }
}

/// `number`; `None` if neither a number nor a file is given.
fn given(number: f64, file: &Path) -> Option<f64> {
    (number > 0.0 || !file.as_os_str().is_empty()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Result<Vec<RateSource>, String> {
        toml::from_str::<CarbonConfig>(text).unwrap().resolve().map_err(|e| e.to_string())
    }

    #[test]
    fn a_rate_comes_from_a_number_a_country_or_a_file() {
        let fixed = |text: &str| sources(text).unwrap().iter().map(|s| s.fixed).collect::<Vec<_>>();
        assert_eq!(fixed("intensity = 400"), [400.0]);
        assert_eq!(fixed("country = \"fr\""), [56.04]);
        assert_eq!(fixed("country = \"FRA\"\ntariff = 0.25"), [56.04, 0.25]);
        assert_eq!(fixed("intensity_file = \"/run/grid\""), [0.0]);
        assert_eq!(fixed("tariff = 0.25"), [0.25]);
    }

    #[test]
    fn an_error_names_the_key_of_the_invalid_value() {
        for (text, start) in [
            ("", "plugins.carbon.intensity: no rate"),
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
