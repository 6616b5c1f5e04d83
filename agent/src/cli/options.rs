//! Options that several commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::Request;

/// The options that say which configuration to use.
#[derive(Debug, Clone, Args)]
pub(super) struct Configuration {
    /// Configuration file [default: /etc/wattrace/wattrace.toml, if there is one]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, as in plugins.rapl.interval=100ms; a value that is no TOML is taken as a string
    #[arg(short, long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Run with exactly these plugins
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    plugins: Option<Vec<String>>,
}

impl Configuration {
    /// Whether any of them is given.
    pub(super) fn is_given(&self) -> bool {
        self.config.is_some() || !self.set.is_empty() || self.plugins.is_some()
    }

    pub(super) fn request(&self) -> Request {
        Request { file: self.config.clone(), set: self.set.clone(), only: self.plugins.clone() }
    }
}

/// How a command writes its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Human,
    /// For programs
    Json,
}

/// An amount of energy: a number of joules above zero, with or without the unit.
///
/// # Errors
/// What is expected.
pub(super) fn joules(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('J').trim_end().parse().ok();
    number.filter(|j: &f64| j.is_finite() && *j > 0.0).ok_or_else(|| "joules above 0, as in 12.5".to_owned())
}

/// A part: percent, with or without the sign, as a fraction.
///
/// # Errors
/// What is expected.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end().parse().ok();
    let valid = number.filter(|percent: &f64| percent.is_finite() && *percent >= 0.0);
    valid.map(|percent| percent / 100.0).ok_or_else(|| "percent, as in 2%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_may_have_their_unit() {
        assert_eq!(
            (joules("12.5"), joules("3 J"), percent("2%"), percent("0.5")),
            (Ok(12.5), Ok(3.0), Ok(0.02), Ok(0.005))
        );
        for wrong in ["", "J", "-1", "0", "inf", "x"] {
            assert!(joules(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "%", "-1%", "NaN"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
