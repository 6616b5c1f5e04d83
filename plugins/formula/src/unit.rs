//! UCUM units as a factor and a dimension, for the units in which machines are measured.
//!
//! A dimension is the exponents of the base units. Formulas are computed in units with the factor 1: J, W, s,
//! kg, m, A, By, K. Annotations (`{point}`) have no dimension. `Cel` is a difference of temperatures, without
//! an offset.

/// Exponents of m, s, kg, A, K (and Cel), By.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dimension([i8; 6]);

/// A unit: its dimension, and its factor to the unit of that dimension with the factor 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) factor: f64,
    pub(crate) dimension: Dimension,
}

const NONE: Dimension = Dimension([0; 6]);
const ENERGY: Dimension = Dimension([2, -2, 1, 0, 0, 0]);
const POWER: Dimension = Dimension([2, -3, 1, 0, 0, 0]);
const TIME: Dimension = Dimension([0, 1, 0, 0, 0, 0]);
const DATA: Dimension = Dimension([0, 0, 0, 0, 0, 1]);

/// Units that take a prefix.
const METRIC: [(&str, f64, Dimension); 12] = [
    ("J", 1.0, ENERGY),
    ("W", 1.0, POWER),
    ("s", 1.0, TIME),
    ("By", 1.0, DATA),
    ("bit", 0.125, DATA),
    ("Hz", 1.0, Dimension([0, -1, 0, 0, 0, 0])),
    ("g", 1e-3, Dimension([0, 0, 1, 0, 0, 0])),
    ("t", 1e3, Dimension([0, 0, 1, 0, 0, 0])),
    ("m", 1.0, Dimension([1, 0, 0, 0, 0, 0])),
    ("A", 1.0, Dimension([0, 0, 0, 1, 0, 0])),
    ("V", 1.0, Dimension([2, -3, 1, -1, 0, 0])),
    ("K", 1.0, Dimension([0, 0, 0, 0, 1, 0])),
];
/// Units that do not take a prefix.
const PLAIN: [(&str, f64, Dimension); 6] = [
    ("1", 1.0, NONE),
    ("%", 0.01, NONE),
    ("Cel", 1.0, Dimension([0, 0, 0, 0, 1, 0])),
    ("min", 60.0, TIME),
    ("h", 3600.0, TIME),
    ("d", 86_400.0, TIME),
];
const PREFIXES: [(&str, f64); 14] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("p", 1e-12),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("c", 1e-2),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
];
/// Units in which results are written, with their factors and dimensions.
const RESULT_UNITS: [(&str, f64, Dimension); 9] = [
    ("1", 1.0, NONE),
    ("J", 1.0, ENERGY),
    ("W", 1.0, POWER),
    ("s", 1.0, TIME),
    ("By", 1.0, DATA),
    ("g", 1e-3, Dimension([0, 0, 1, 0, 0, 0])),
    ("Hz", 1.0, Dimension([0, -1, 0, 0, 0, 0])),
    ("Cel", 1.0, Dimension([0, 0, 0, 0, 1, 0])),
    ("m", 1.0, Dimension([1, 0, 0, 0, 0, 0])),
];

impl Dimension {
    /// `self` times `other` to the power `exponent`.
    pub(crate) fn times(self, other: Self, exponent: i8) -> Self {
        let mut product = self.0;
        for (a, b) in product.iter_mut().zip(other.0) {
            *a = a.saturating_add(b.saturating_mul(exponent));
        }
        Self(product)
    }

    /// The most common unit of this dimension, and its factor.
    pub(crate) fn common_unit(self) -> (String, f64) {
        if let Some((name, factor, _)) = RESULT_UNITS.iter().find(|unit| unit.2 == self) {
            return ((*name).to_owned(), *factor);
        }
        for (a, fa, da) in RESULT_UNITS {
            for (b, fb, db) in RESULT_UNITS {
                if da.times(db, -1) == self {
                    return (format!("{a}/{b}"), fa / fb);
                }
                if da.times(db, 1) == self {
                    return (format!("{a}.{b}"), fa * fb);
                }
            }
        }
        let bases = ["m", "s", "kg", "A", "K", "By"].iter().zip(self.0).filter(|base| base.1 != 0);
        (bases.map(|(name, exponent)| format!("{name}{exponent}")).collect::<Vec<_>>().join("."), 1.0)
    }
}

impl Scale {
    /// The unit `1`.
    pub(crate) const ONE: Scale = Scale { factor: 1.0, dimension: NONE };
    /// Seconds.
    pub(crate) const SECOND: Scale = Scale { factor: 1.0, dimension: TIME };

    /// Parses a UCUM code.
    ///
    /// # Errors
    /// The part that is not a known unit.
    pub(crate) fn parse(code: &str) -> Result<Self, String> {
        let mut rest = code;
        let scale = product(&mut rest, MAX_DEPTH).map_err(|why| format!("unit `{code}`: {why}"))?;
        if rest.is_empty() { Ok(scale) } else { Err(format!("unit `{code}`: unexpected `{rest}`")) }
    }

    fn times(self, other: Self, exponent: i8) -> Self {
        let factor = self.factor * other.factor.powi(exponent.into());
        Self { factor, dimension: self.dimension.times(other.dimension, exponent) }
    }
}

/// Most nested parentheses: units that are received from other machines may have any length.
const MAX_DEPTH: usize = 20;

/// Factors joined by `.` and `/`, evaluated from left to right as UCUM defines: `g/kW.h` is (g/kW)·h. At most
/// `depth` parentheses are nested.
fn product(rest: &mut &str, depth: usize) -> Result<Scale, String> {
    let mut scale = Scale::ONE;
    let mut exponent = 1;
    if let Some(after) = rest.strip_prefix('/') {
        (*rest, exponent) = (after, -1);
    }
    loop {
        scale = scale.times(factor(rest, depth)?, exponent);
        exponent = match rest.chars().next() {
            Some('.') => 1,
            Some('/') => -1,
            _ => return Ok(scale),
        };
        *rest = &rest[1..];
    }
}

/// A unit with its exponent and annotation, or units in parentheses.
fn factor(rest: &mut &str, depth: usize) -> Result<Scale, String> {
    if let Some(inner) = rest.strip_prefix('(') {
        let depth = depth.checked_sub(1).ok_or("has too many nested parentheses")?;
        *rest = inner;
        let scale = product(rest, depth)?;
        *rest = rest.strip_prefix(')').ok_or("a parenthesis is not closed")?;
        return Ok(scale);
    }
    let part = &rest[..rest.find(['.', '/', ')']).unwrap_or(rest.len())];
    *rest = &rest[part.len()..];
    let (unit, annotated) = match part.split_once('{') {
        Some((unit, annotation)) if annotation.ends_with('}') => (unit, true),
        Some(_) => return Err(format!("`{part}`: a brace is not closed")),
        None => (part, false),
    };
    if unit.is_empty() && annotated {
        return Ok(Scale::ONE);
    }
    if let Some(scale) = atom(unit) {
        return Ok(scale);
    }
    let name = unit.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '+');
    match (atom(name), unit[name.len()..].parse()) {
        (Some(scale), Ok(exponent)) => Ok(Scale::ONE.times(scale, exponent)),
        _ => Err(format!("`{part}` is not a known unit")),
    }
}

fn atom(name: &str) -> Option<Scale> {
    let find = |units: &[(&str, f64, Dimension)], name: &str| {
        let unit = units.iter().find(|unit| unit.0 == name)?;
        Some(Scale { factor: unit.1, dimension: unit.2 })
    };
    let prefixed = |(prefix, power): &(&str, f64)| {
        let unit = find(&METRIC, name.strip_prefix(prefix)?)?;
        Some(Scale { factor: unit.factor * power, ..unit })
    };
    find(&PLAIN, name).or_else(|| find(&METRIC, name)).or_else(|| PREFIXES.iter().find_map(prefixed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_a_factor_and_a_dimension() {
        for (code, factor, same) in [
            ("kW.h", 3.6e6, "J"),
            ("g/(kW.h)", 1e-3 / 3.6e6, "g/J"),
            ("W.s", 1.0, "J"),
            ("V.A", 1.0, "W"),
            ("J/s", 1.0, "W"),
            ("kg.m2.s-2", 1.0, "J"),
            ("{request}/s", 1.0, "Hz"),
            ("MiBy", 1_048_576.0, "By"),
            ("bit", 0.125, "By"),
            ("/min", 1.0 / 60.0, "Hz"),
            ("%", 0.01, "1"),
            ("g{CO2e}", 1e-3, "kg"),
            ("ms", 1e-3, "s"),
            ("{EUR}", 1.0, "1"),
        ] {
            let scale = Scale::parse(code).unwrap();
            assert!((scale.factor / factor - 1.0).abs() < 1e-12, "{code}: {}", scale.factor);
            assert_eq!(scale.dimension, Scale::parse(same).unwrap().dimension, "{code}");
        }
    }

    #[test]
    fn an_error_names_the_invalid_part() {
        for (code, part) in [
            ("joule", "`joule`"),
            ("J/sec", "`sec`"),
            ("kmin", "`kmin`"),
            ("J//s", "``"),
            ("(J", "parenthesis"),
            ("J)", "`)`"),
            ("{a", "brace"),
            ("", "``"),
        ] {
            let message = Scale::parse(code).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn deeply_nested_units_are_refused() {
        let deep = |depth| format!("{}J{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Scale::parse(&deep(MAX_DEPTH)).is_ok());
        assert!(Scale::parse(&deep(1_000_000)).unwrap_err().contains("nested"));
    }

    #[test]
    fn a_result_has_the_common_unit_of_its_dimension() {
        for (code, unit, factor) in [
            ("kW.h", "J", 1.0),
            ("J/s", "W", 1.0),
            ("mg", "g", 1e-3),
            ("J/By", "J/By", 1.0),
            ("J.s", "J.s", 1.0),
            ("s/min", "1", 1.0),
            ("g/J", "g/J", 1e-3),
            ("m3/K2", "m3.K-2", 1.0),
        ] {
            assert_eq!(
                Scale::parse(code).unwrap().dimension.common_unit(),
                (unit.to_owned(), factor),
                "{code}"
            );
        }
    }
}
