//! What `config`, `rate` and `tariff` check values with.

use wattrace_api::Error;

/// More than a kilowatt hour emits in grams, or costs in any currency.
pub(crate) const MAX_PER_KWH: f64 = 1e6;

/// The error about the value of `plugins.carbon.KEY`.
pub(crate) fn refuse<T>(key: &str, why: std::fmt::Arguments<'_>) -> Result<T, Error> {
    Err(Error::fatal(format!("plugins.carbon.{key}: {why}")))
}
