//! What a kilowatt hour takes now, in millionths of a gram or of a currency: fixed, or read from a file that
//! others replace while we run.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};
use wattrace_api::{Error, Timestamp, Window};

use crate::config::MOST;
use crate::tariff::Schedule;

/// What is counted.
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
    /// The key of the file, for messages.
    pub(crate) key: &'static str,
    /// A kilowatt hour's until the file can be read; 0 if only the file knows.
    pub(crate) fixed: f64,
    /// A kilowatt hour's by the time of day, in place of `fixed`.
    pub(crate) times: Option<Schedule>,
    /// Empty if there is none.
    pub(crate) file: PathBuf,
    /// What is counted, in UCUM.
    pub(crate) unit: String,
    pub(crate) pue: f64,
    /// Time between two looks at the file.
    pub(crate) check: Duration,
}

/// A rate, as it is now.
#[derive(Debug)]
pub(crate) struct Rate {
    source: RateSource,
    value: f64,
    per_kwh: u64,
    next_check: Timestamp,
    /// When the file that was read last had been written.
    modified: Option<SystemTime>,
    /// Whether a file has ever been read.
    is_from_file: bool,
    failures: u64,
    failing: bool,
    /// What holds in the window at hand: up to how many of its nanoseconds, and per kilowatt hour. The last
    /// part is its end.
    parts: Vec<(u64, u64)>,
}

impl Rate {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// Retry, if it can't be read and there is no fixed rate to begin with.
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
                Err(error) if rate.source.fixed > 0.0 || rate.source.times.is_some() => rate.failed(&error),
                Err(error) => {
                    return Err(Error::retry(format!(
                        "{}: {error}; write a number into it",
                        rate.source.key
                    )));
                }
            }
        }
        Ok(rate)
    }

    /// Looks whether the file has changed, if it is time to. A file that can't be read or makes no sense
    /// leaves the rate as it was. Returns whether it looked.
    pub(crate) fn check(&mut self, now: Timestamp) -> bool {
        if now < self.next_check {
            return false;
        }
        self.next_check = now + self.source.check;
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
                    info!("{}: now {value} {} a kWh", self.source.key, self.source.unit);
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
            warn!("{}: {error}; {} {} a kWh stays in force", self.source.key, self.value, self.source.unit);
        }
        self.failing = true;
    }

    /// Finds out what holds in `window`, whose end is `end` in nanoseconds since the Unix epoch.
    pub(crate) fn cover(&mut self, window: Window, end: u64) {
        self.parts.clear();
        // A file that was read once knows better than a table.
        if let Some(times) = self.source.times.as_ref().filter(|_| !self.is_from_file) {
            let (parts, pue) = (&mut self.parts, self.source.pue);
            times.over(end.saturating_sub(window.nanos())..end, |until, price| {
                let per_kwh = millionths(price, pue);
                match parts.last_mut() {
                    Some((before, same)) if *same == per_kwh => *before = until,
                    _ => parts.push((until, per_kwh)),
                }
                self.value = price;
            });
        } else {
            self.parts.push((window.nanos(), self.per_kwh));
        }
    }

    /// What `energy` costs or emits that was used over the window covered last, evenly: microjoules times
    /// millionths per kilowatt hour, the building's share included.
    pub(crate) fn product(&self, energy: u64) -> u128 {
        let (whole, _) = self.parts.last().copied().unwrap_or_default();
        let (mut product, mut counted) = (0, 0);
        for &(until, per_kwh) in &self.parts {
            // Rounded once at each edge, so that the parts sum to the whole.
            let upto = if until == whole {
                energy
            } else {
                (u128::from(energy) * u128::from(until) / u128::from(whole)) as u64
            };
            product += u128::from(upto - counted) * u128::from(per_kwh);
            counted = upto;
        }
        product
    }

    /// Per kilowatt hour of the grid, as it was given.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// How often the file could not be read or made no sense.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// What it was opened from.
    pub(crate) fn source(&self) -> &RateSource {
        &self.source
    }
}

/// A rate in millionths, for what the building uses.
fn millionths(value: f64, pue: f64) -> u64 {
    (value * pue * 1e6).round() as u64
}

/// What a source's file says, and when that was written.
pub(crate) fn read(source: &RateSource) -> Result<(f64, Option<SystemTime>), String> {
    let place = source.file.display();
    let open = || {
        let file = File::open(&source.file)?;
        // Taken before the text, so that a change in between is read again.
        let modified = file.metadata()?.modified().ok();
        let mut text = String::new();
        file.take(1 << 16).read_to_string(&mut text)?;
        std::io::Result::Ok((text, modified))
    };
    let (text, modified) = open().map_err(|e| format!("{place}: {e}"))?;
    let number = parse(&text, source.quantity).map_err(|why| format!("{place}: {why}"))?;
    Ok((number, modified))
}

/// The number in `text`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str, quantity: Quantity) -> Result<f64, String> {
    let json_key = if quantity == Quantity::Carbon { "carbonIntensity" } else { "price" };
    let number = text.trim().parse::<f64>().ok().or_else(|| {
        let json: serde_json::Value = serde_json::from_str(text).ok()?;
        json.get(json_key)?.as_f64()
    });
    let Some(number) = number else {
        return Err(format!("holds neither a number nor JSON with a number as {json_key}"));
    };
    // A price can fall below zero for an hour; what was paid already can't.
    let number = if quantity == Quantity::Cost && number < 0.0 { 0.0 } else { number };
    if !(0.0..=MOST).contains(&number) {
        return Err(format!("{number} is not between 0 and {MOST}"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_no_price() {
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
