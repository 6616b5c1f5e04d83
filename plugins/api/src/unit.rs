//! Units, spelt in UCUM as OpenTelemetry does. A unit in code is a variant; one that people write is read by
//! [`Unit::parse`], which knows the units that measurements of machines come in and says so when it meets
//! another.

use std::borrow::Cow;

/// A metric's unit. [`Unit::ucum`] is its spelling in UCUM, the code OpenTelemetry uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Energy, `J`.
    Joule,
    /// Power, `W`.
    Watt,
    /// Time, `s`.
    Second,
    /// Memory, `By`.
    Byte,
    /// A plain number, `1`, or of something, `{point}`.
    Count(&'static str),
    /// Any other UCUM code.
    Other(Cow<'static, str>),
}

/// A text is no unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unit `{unit}`: {why}")]
pub struct UnitError {
    unit: String,
    why: String,
}

/// Units that take a metric prefix (`kW`, `ms`), and those that don't.
const METRIC: [&str; 13] = ["J", "W", "s", "By", "bit", "Hz", "A", "V", "g", "m", "K", "Pa", "eV"];
const PLAIN: [&str; 9] = ["1", "%", "Cel", "min", "h", "d", "a", "[degF]", "[ppm]"];
const PREFIXES: [&str; 19] =
    ["Ki", "Mi", "Gi", "Ti", "da", "n", "u", "m", "c", "d", "h", "k", "M", "G", "T", "P", "E", "p", "f"];

impl Unit {
    /// The unit's UCUM code.
    pub fn ucum(&self) -> &str {
        match self {
            Unit::Joule => "J",
            Unit::Watt => "W",
            Unit::Second => "s",
            Unit::Byte => "By",
            Unit::Count(what) => what,
            Unit::Other(code) => code,
        }
    }

    /// Reads a unit that somebody wrote: units of measurements of machines, with prefixes (`mW`, `KiBy`),
    /// exponents (`m2`), products and quotients (`kW.h`, `g/s`), and annotations (`{point}`, `g{CO2e}`).
    ///
    /// # Errors
    /// [`UnitError`] with the part that is no unit known here, and the way round.
    pub fn parse(code: &str) -> Result<Unit, UnitError> {
        Ok(match code {
            "J" => Unit::Joule,
            "W" => Unit::Watt,
            "s" => Unit::Second,
            "By" => Unit::Byte,
            _ => {
                check_characters(code)?;
                code.split(['.', '/']).try_for_each(|part| check_part(code, part))?;
                Unit::Other(Cow::Owned(code.to_owned()))
            }
        })
    }

    /// Whether its spelling is sound. [`Unit::Other`] may be a unit that is unknown here, but its characters
    /// must be UCUM's.
    pub(crate) fn check(&self) -> Result<(), UnitError> {
        match self {
            Unit::Count("1" | "%") => Ok(()),
            Unit::Count(what) if !(what.starts_with('{') && what.ends_with('}')) => {
                Err(error(what, "a count is `1`, `%`, or of something in braces, as in `{point}`"))
            }
            unit => check_characters(unit.ucum()),
        }
    }
}

fn error(unit: &str, why: impl Into<String>) -> UnitError {
    UnitError { unit: unit.to_owned(), why: why.into() }
}

fn check_characters(code: &str) -> Result<(), UnitError> {
    if code.is_empty() {
        return Err(error(code, "is empty: a plain number has the unit `1`"));
    }
    if let Some(wrong) = code.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(error(code, format!("`{}` is no character of UCUM", wrong.escape_default())));
    }
    let mut open = false;
    for c in code.chars() {
        match (c, open) {
            ('{', false) => open = true,
            ('}', true) => open = false,
            ('{', true) | ('}', false) => return Err(error(code, "its braces do not match")),
            _ => {}
        }
    }
    if open { Err(error(code, "its braces do not match")) } else { Ok(()) }
}

/// Checks one factor: prefix, unit, exponent, annotation.
fn check_part(code: &str, part: &str) -> Result<(), UnitError> {
    let (symbol, annotated) = match part.split_once('{') {
        Some((symbol, _)) => (symbol, true),
        None => (part, false),
    };
    if symbol.is_empty() && annotated || PLAIN.contains(&symbol) {
        return Ok(());
    }
    let symbol = symbol.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['+', '-']);
    let prefixed = |prefix: &&str| symbol.strip_prefix(*prefix).is_some_and(|unit| METRIC.contains(&unit));
    if METRIC.contains(&symbol) || PLAIN.contains(&symbol) || PREFIXES.iter().any(prefixed) {
        return Ok(());
    }
    let known = [METRIC.as_slice(), PLAIN.as_slice()].concat().join(", ");
    let why = format!("`{part}` is no unit known here ({known}); a count of things is written `{{thing}}`");
    Err(error(code, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_measurements_are_read_and_others_are_refused_by_name() {
        for good in
            ["mW", "KiBy", "g{CO2e}", "{point}", "kW.h", "By/s", "m2", "s-1", "Cel", "1", "%", "{request}/s"]
        {
            assert_eq!(Unit::parse(good).unwrap().ucum(), good);
        }
        assert_eq!(Unit::parse("J"), Ok(Unit::Joule));
        for (bad, part) in
            [("joule", "joule"), ("J/sec", "sec"), ("points", "points"), ("k", "k"), ("J//s", "")]
        {
            let message = Unit::parse(bad).unwrap_err().to_string();
            assert!(message.contains(&format!("unit `{bad}`: `{part}` is no unit known here")), "{message}");
        }
    }

    #[test]
    fn the_spelling_of_any_unit_is_checked() {
        for good in [Unit::Count("{point}"), Unit::Count("1"), Unit::Other("[lb_av]".into()), Unit::Joule] {
            assert_eq!(good.check(), Ok(()));
        }
        for bad in ["", "a b", "µs", "{a", "a}", "{a{b}}"] {
            assert!(Unit::Other(bad.to_owned().into()).check().is_err(), "{bad}");
        }
        assert!(Unit::Count("points").check().is_err());
    }
}
