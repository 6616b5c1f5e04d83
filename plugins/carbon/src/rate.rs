//! The rate of carbon or cost per kilowatt hour, in millionths of a gram or of a currency: a fixed number, a
//! `tariff` schedule, or a file that is read again when it changes.

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};
use wattrace_api::files::open_regular;
use wattrace_api::{Error, Timestamp, Window};

use crate::check::MAX_PER_KWH;
use crate::tariff::Schedule;

/// What a rate measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Grams of CO₂ equivalent.
    Carbon,
    /// Money.
    Cost,
}

/// Where a rate comes from.
#[derive(Clone, Debug)]
pub(crate) struct RateSource {
    pub(crate) quantity: Quantity,
    /// The file's key in the configuration, for messages.
    pub(crate) key: &'static str,
    /// Per kilowatt hour, used until the file can be read; 0: there is only the file.
    pub(crate) fixed: f64,
    /// Per kilowatt hour by the time of day, used instead of `fixed`.
    pub(crate) schedule: Option<Schedule>,
    /// Empty: there is none.
    pub(crate) file: PathBuf,
    /// Unit of the quantity, in UCUM.
    pub(crate) unit: String,
    pub(crate) pue: f64,
    /// Time between two checks of the file.
    pub(crate) check_interval: Duration,
}

/// The current rate of a source.
#[derive(Debug)]
pub(crate) struct Rate {
    source: RateSource,
    value: f64,
    per_kwh: u64,
    next_check: Timestamp,
    /// Modification time of the file when it was last read.
    modified: Option<SystemTime>,
    /// Whether a file has ever been read.
    is_from_file: bool,
    failures: u64,
    failing: bool,
    /// The rates in the current window: each one's end in nanoseconds since the window's start, and
    /// millionths per kilowatt hour. The last part ends with the window.
    parts: Vec<(u64, u64)>,
}

impl Rate {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// Retry, if the file cannot be read and there is no other rate to begin with.
    pub(crate) fn open(source: RateSource) -> Result<Self, Error> {
        let mut rate = Self {
            value: source.fixed,
            per_kwh: 0,
            next_check: Timestamp(0),
            modified: None,
            is_from_file: false,
            failures: 0,
            failing: false,
            parts: Vec::new(),
            source,
        };
        rate.set(rate.source.fixed);
        if !rate.source.file.as_os_str().is_empty() {
            match read(&rate.source) {
                Ok((value, modified)) => {
                    rate.set(value);
                    (rate.modified, rate.is_from_file) = (modified, true);
                }
                Err(error) if rate.source.fixed > 0.0 || rate.source.schedule.is_some() => {
                    rate.failed(&error)
                }
                Err(error) => {
                    return Err(Error::retry(format!("{}: {error}; write a number to it", rate.source.key)));
                }
            }
        }
        Ok(rate)
    }

    /// Reads the file again if the check interval has passed and the file has changed. A file that cannot be
    /// read or is invalid leaves the rate as it was. Returns whether the interval had passed.
    pub(crate) fn check(&mut self, now: Timestamp) -> bool {
        if now < self.next_check {
            return false;
        }
        self.next_check = now + self.source.check_interval;
        if self.source.file.as_os_str().is_empty() {
            return true;
        }
        let modified = self.source.file.metadata().and_then(|metadata| metadata.modified()).ok();
        if modified.is_some() && modified == self.modified {
            return true;
        }
        match read(&self.source) {
            Ok((value, modified)) => {
                if self.failing || value != self.value {
                    info!("{}: the rate is now {value} {} per kWh", self.source.key, self.source.unit);
                }
                self.set(value);
                (self.modified, self.failing, self.is_from_file) = (modified, false, true);
            }
            Err(error) => {
                self.modified = modified;
                self.failed(&error);
            }
        }
        true
    }

    fn set(&mut self, value: f64) {
        self.value = value;
        self.per_kwh = millionths(value, self.source.pue);
    }

    fn failed(&mut self, error: &str) {
        self.failures += 1;
        if !self.failing {
            warn!(
                "{}: {error}; the rate stays at {} {} per kWh",
                self.source.key, self.value, self.source.unit
            );
        }
        self.failing = true;
    }

    /// Determines the rates in `window`, whose end is `end` in nanoseconds since the Unix epoch.
    pub(crate) fn cover(&mut self, window: Window, end: u64) {
        self.parts.clear();
        // A file that was read once takes precedence over the schedule.
        if let Some(schedule) = self.source.schedule.as_ref().filter(|_| !self.is_from_file) {
            let (parts, pue) = (&mut self.parts, self.source.pue);
            schedule.for_each_price(end.saturating_sub(window.nanos())..end, |until, price| {
                let per_kwh = millionths(price, pue);
                match parts.last_mut() {
                    Some((end, same)) if *same == per_kwh => *end = until,
                    _ => parts.push((until, per_kwh)),
                }
                self.value = price;
            });
        } else {
            self.parts.push((window.nanos(), self.per_kwh));
        }
    }

    /// What `energy` costs or emits if it was used evenly over the window of the last [`Rate::cover`]:
    /// microjoules times millionths per kilowatt hour, with the PUE included.
    pub(crate) fn product(&self, energy: u64) -> u128 {
        let (whole, _) = self.parts.last().copied().unwrap_or_default();
        let (mut product, mut counted) = (0, 0);
        for &(until, per_kwh) in &self.parts {
            // Rounded once per boundary, so that the parts sum to the whole.
            let used = if until == whole {
                energy
            } else {
                (u128::from(energy) * u128::from(until) / u128::from(whole)) as u64
            };
            product += u128::from(used - counted) * u128::from(per_kwh);
            counted = used;
        }
        product
    }

    /// Per kilowatt hour, as given: without the PUE.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// How often the file could not be read or was invalid.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// Its source.
    pub(crate) fn source(&self) -> &RateSource {
        &self.source
    }
}

/// A rate in millionths, with the PUE included.
fn millionths(value: f64, pue: f64) -> u64 {
    (value * pue * 1e6).round() as u64
}

/// The rate in a source's file, and the file's modification time.
pub(crate) fn read(source: &RateSource) -> Result<(f64, Option<SystemTime>), String> {
    let path = source.file.display();
    let open = || {
        let file = open_regular(&source.file)?;
        // Read before the text, so that a change in between is noticed at the next check.
        let modified = file.metadata()?.modified().ok();
        let mut text = String::new();
        file.take(1 << 16).read_to_string(&mut text)?;
        std::io::Result::Ok((text, modified))
    };
    let (text, modified) = open().map_err(|e| format!("{path}: {e}"))?;
    let number = parse(&text, source.quantity).map_err(|why| format!("{path}: {why}"))?;
    Ok((number, modified))
}

/// The number in `text`.
///
/// # Errors
/// Why it is not a valid rate.
pub(crate) fn parse(text: &str, quantity: Quantity) -> Result<f64, String> {
    let json_key = if quantity == Quantity::Carbon { "carbonIntensity" } else { "price" };
    let number = text.trim().parse::<f64>().ok().or_else(|| {
        let json: serde_json::Value = serde_json::from_str(text).ok()?;
        json.get(json_key)?.as_f64()
    });
    let Some(number) = number else {
        return Err(format!("holds neither a number nor JSON with a number as {json_key}"));
    };
    // A price may be negative for an hour, but a counter of cost cannot decrease.
    let number = if quantity == Quantity::Cost && number < 0.0 { 0.0 } else { number };
    if !(0.0..=MAX_PER_KWH).contains(&number) {
        return Err(format!("{number} is not between 0 and {MAX_PER_KWH}"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_finite_number_is_a_rate() {
        for quantity in [Quantity::Carbon, Quantity::Cost] {
            for text in ["nan", "-nan", "NaN\n", "inf", r#"{"price":"nan","carbonIntensity":null}"#, ""] {
                assert!(parse(text, quantity).is_err(), "{text} as {quantity:?}");
            }
        }
        assert_eq!(parse("-inf", Quantity::Cost), Ok(0.0));
        assert_eq!(parse(r#"{"price": -0.03}"#, Quantity::Cost), Ok(0.0));
        assert_eq!(parse(" 58\n", Quantity::Carbon), Ok(58.0));
    }
}
