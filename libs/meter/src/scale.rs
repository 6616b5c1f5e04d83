//! The exact factor from a counter's units to microjoules, as a fraction of integers.
//!
//! The kernel writes perf's factor in decimal, `2.3283064365386962890625e-10` joules, which is 2⁻³² to the
//! last digit. Parsed as a decimal fraction and reduced it is exact, here 15625 / 2²⁶ µJ. A float would round
//! it, and cannot represent a factor such as `1e-9` at all.

/// Microjoules per unit of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    numerator: u64,
    denominator: u128,
}

impl Scale {
    /// The counter counts microjoules.
    pub const MICROJOULE: Scale = Scale { numerator: 1, denominator: 1 };

    /// Units of 2^`exponent` joules, as in registers. `None` outside -32 to 32.
    pub fn joules_times_two_to(exponent: i32) -> Option<Self> {
        let by = 1_u64.checked_shl(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 32)?;
        let (numerator, denominator) =
            if exponent < 0 { (1_000_000, u128::from(by)) } else { (by.checked_mul(1_000_000)?, 1) };
        Some(Self { numerator, denominator }.reduced())
    }

    /// Units of 2^`exponent` microjoules. `None` above 32.
    pub fn microjoules_times_two_to(exponent: u32) -> Option<Self> {
        let numerator = 1_u64.checked_shl(exponent).filter(|_| exponent <= 32)?;
        Some(Self { numerator, denominator: 1 })
    }

    fn reduced(self) -> Self {
        let common = greatest_common_divisor(self.numerator.into(), self.denominator);
        // The divisor of a 64-bit number fits into 64 bits.
        let numerator = u64::try_from(u128::from(self.numerator) / common).unwrap_or(self.numerator);
        Self { numerator, denominator: self.denominator / common }
    }

    /// Parses joules per unit in decimal, with or without an exponent. `None` if `text` is not a positive
    /// number, or has so many digits that a 64-bit count times it does not fit into 128 bits.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.trim().split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text.trim(), 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: u128 = 0;
        for c in whole.chars().chain(fraction.chars()) {
            digits = digits.checked_mul(10)?.checked_add(c.to_digit(10)?.into())?;
        }
        let power = exponent.checked_add(6)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let ten = 10_u128.checked_pow(power.unsigned_abs())?;
        let (numerator, denominator) = if power < 0 { (digits, ten) } else { (digits.checked_mul(ten)?, 1) };
        let common = greatest_common_divisor(numerator, denominator);
        let numerator = u64::try_from(numerator / common).ok().filter(|&n| n > 0)?;
        Some(Self { numerator, denominator: denominator / common })
    }

    /// The counter's units in `microjoules`, rounded up.
    pub fn counts(self, microjoules: u64) -> u128 {
        // The denominator can be as large as 10^38: then this saturates.
        u128::from(microjoules).saturating_mul(self.denominator).div_ceil(self.numerator.into())
    }

    /// Whole microjoules in `counts` units, rounded down; at most `u64::MAX`.
    pub fn microjoules(self, counts: u64) -> u64 {
        let exact = u128::from(counts) * u128::from(self.numerator) / self.denominator;
        u64::try_from(exact).unwrap_or(u64::MAX)
    }
}

/// At least 1 if `b` is not zero.
fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_factor_is_exactly_two_to_the_minus_32() {
        let rapl = Scale { numerator: 15_625, denominator: 1 << 26 };
        assert_eq!(Scale::parse("2.3283064365386962890625e-10\n"), Some(rapl));
        assert_eq!(Scale::parse("0.00000000023283064365386962890625"), Some(rapl));
    }

    #[test]
    fn decimals_are_parsed_and_nonsense_is_refused() {
        assert_eq!(Scale::parse("1e-9"), Some(Scale { numerator: 1, denominator: 1_000 }));
        assert_eq!(Scale::parse("2.5E-8"), Some(Scale { numerator: 1, denominator: 40 }));
        assert_eq!(Scale::parse("1"), Some(Scale { numerator: 1_000_000, denominator: 1 }));
        for nonsense in ["", "x", "-1e-9", "0", "1e", "1e-99999999999", "1e-60", "1e40", "0x2"] {
            assert_eq!(Scale::parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn registers_count_powers_of_two_of_joules_or_of_microjoules() {
        let sixteen = Scale::joules_times_two_to(-16).unwrap();
        assert_eq!(sixteen, Scale { numerator: 15_625, denominator: 1 << 10 });
        assert_eq!(Scale::joules_times_two_to(0).unwrap().microjoules(3), 3_000_000);
        assert_eq!(Scale::microjoules_times_two_to(5).unwrap().microjoules(3), 96);
        assert_eq!(Scale::joules_times_two_to(-33), None);
        assert_eq!(sixteen.counts(1_000_000), 1 << 16);
        assert_eq!(sixteen.counts(1), 1, "rounded up");
    }

    #[test]
    fn the_largest_count_does_not_overflow() {
        let joules = Scale::parse("2.3283064365386962890625e-10").unwrap();
        assert_eq!(joules.microjoules(u64::MAX), ((u128::from(u64::MAX) * 1_000_000) >> 32) as u64);
        assert_eq!(Scale::parse("1").unwrap().microjoules(u64::MAX), u64::MAX);
    }
}
