//! Sizes of files as people write them in a configuration: `100 MiB`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. Written as a whole number of the largest unit that fits: "512 KiB", "1 GiB"; read with
/// any of B, KiB, MiB, GiB, TiB, or without a unit if it is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(
    /// Bytes.
    pub u64,
);

const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&&(_, shift): &&(&str, u32)| self.0 != 0 && self.0.is_multiple_of(1 << shift);
        match UNITS.iter().find(fits) {
            Some((unit, shift)) => write!(f, "{} {unit}", self.0 >> shift),
            None => f.write_str("0"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no size: expected one as in \"100 MiB\", with B, KiB, MiB, GiB or TiB");
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = (text[..digits].parse::<u64>().map_err(|_| wrong())?, text[digits..].trim());
        if number == 0 && unit.is_empty() {
            return Ok(Self(0));
        }
        let (_, shift) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, written) in [
            ("1 GiB", 1 << 30, "1 GiB"),
            ("1536KiB", 1536 << 10, "1536 KiB"),
            ("2048 MiB", 2 << 30, "2 GiB"),
            ("1000 B", 1000, "1000 B"),
            ("0", 0, "0"),
            ("0 B", 0, "0"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written));
        }
        for wrong in ["", "1", "MiB", "1 MB", "-1 MiB", "1.5 GiB", "99999999 TiB", "1 mib"] {
            assert!(wrong.parse::<Size>().unwrap_err().contains("100 MiB"), "{wrong}");
        }
    }
}
