//! An amount of energy as it is written on the command line: `50J`, `1.5 kJ`, `0.2Wh`.

/// Units, and their microjoules. Joules are meant where none is written.
const UNITS: [(&str, f64); 7] =
    [("kWh", 3.6e12), ("Wh", 3.6e9), ("MJ", 1e12), ("kJ", 1e9), ("mJ", 1e3), ("J", 1e6), ("", 1e6)];

/// Whole microjoules, at least one.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let known = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim(), factor)));
    let amount = known.and_then(|(number, factor)| Some(number.parse::<f64>().ok()? * factor));
    match amount {
        Some(microjoules) if (1.0..1e18).contains(&microjoules) => Ok(microjoules.round() as u64),
        _ => Err("must be an amount of energy, as in 50J, 1.5kJ or 0.2Wh".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_has_a_unit_or_is_in_joules() {
        let amounts = [
            ("50J", 50_000_000),
            ("50", 50_000_000),
            (" 1.5 kJ ", 1_500_000_000),
            ("250mJ", 250_000),
            ("0.2Wh", 720_000_000),
            ("1kWh", 3_600_000_000_000),
            ("2MJ", 2_000_000_000_000),
        ];
        for (text, expected) in amounts {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["", "J", "0J", "-5J", "nanJ", "infJ", "5 watts", "1e300J"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
