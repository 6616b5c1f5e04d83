//! Converts numbers from outside to whole steps of 10⁻ⁿ units. Both conversions round once, to the nearest
//! step, halves up: decimal text is never parsed to a float, and a float is converted from its exact binary
//! value.

/// Why a number is not a valid value of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Text that is not a number, NaN, or an infinity.
    #[error("the value is not a number")]
    NotANumber,
    /// Below zero.
    #[error("a counter is never negative")]
    Negative,
    /// More steps than 64 bits hold.
    #[error("the counter is too large")]
    TooLarge,
}

/// Most significant digits of a mantissa: what 128 bits hold with room for rounding.
const MOST_DIGITS: usize = 36;

/// Steps of 10⁻`digits` in `text`, a number as in JSON.
///
/// # Errors
/// See [`NumberError`].
pub fn steps_of_text(text: &str, digits: u32) -> Result<u64, NumberError> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| NumberError::NotANumber)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(NumberError::NotANumber);
    }
    // Zeros in front count for nothing, wherever the point is, and neither does what follows the digits kept.
    let all = || whole.bytes().chain(fraction.bytes());
    let zeros = all().take_while(|b| *b == b'0').count();
    let kept = (whole.len() + fraction.len() - zeros).min(MOST_DIGITS);
    let number = all().skip(zeros).take(kept).fold(0_u128, |n, b| n * 10 + u128::from(b - b'0'));
    if number == 0 {
        return Ok(0);
    }
    if negative {
        return Err(NumberError::Negative);
    }
    let shift = i64::from(exponent) + i64::from(digits) + whole.len() as i64 - (zeros + kept) as i64;
    let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|by| 10_u128.checked_pow(by));
    let steps = match power {
        Some(power) if shift >= 0 => number.checked_mul(power).ok_or(NumberError::TooLarge)?,
        Some(power) => number / power + u128::from(number % power >= power.div_ceil(2)),
        None if shift >= 0 => return Err(NumberError::TooLarge),
        None => 0,
    };
    u64::try_from(steps).map_err(|_| NumberError::TooLarge)
}

/// Steps of 10⁻`digits` in `value`; `digits` is at most 18.
///
/// # Errors
/// See [`NumberError`].
pub fn steps_of_f64(value: f64, digits: u32) -> Result<u64, NumberError> {
    if !value.is_finite() {
        return Err(NumberError::NotANumber);
    }
    if value < 0.0 {
        return Err(NumberError::Negative);
    }
    // A finite double is mantissa · 2^exponent with 53 bits of mantissa, and 10¹⁸ has 60 bits, so the product
    // is exact in 128 bits.
    let bits = value.to_bits();
    let (raw, low) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
    let (mantissa, exponent) = if raw == 0 { (low, -1074) } else { (low | 1 << 52, raw as i32 - 1075) };
    let scaled = u128::from(mantissa) * 10_u128.pow(digits.min(18));
    let steps = match u32::try_from(exponent) {
        Ok(up) if up < 64 => scaled.checked_mul(1 << up).ok_or(NumberError::TooLarge)?,
        Ok(_) if scaled == 0 => 0,
        Ok(_) => return Err(NumberError::TooLarge),
        Err(_) => match exponent.unsigned_abs() {
            down @ ..=120 => (scaled + (1 << (down - 1))) >> down,
            _ => 0,
        },
    };
    u64::try_from(steps).map_err(|_| NumberError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_converts_exactly_and_rounds_once() {
        let joules = |text: &str| steps_of_text(text, 6);
        assert_eq!(joules("18446744073709.551615"), Ok(u64::MAX));
        assert_eq!(joules("18446744073709.551616"), Err(NumberError::TooLarge));
        assert_eq!(joules("0.1234564"), Ok(123_456));
        assert_eq!(joules("0.1234565"), Ok(123_457));
        assert_eq!(joules("1e-6"), Ok(1));
        assert_eq!(joules("1.5E+3"), Ok(1_500_000_000));
        assert_eq!(joules("4e-7"), Ok(0));
        assert_eq!(joules("1e400"), Err(NumberError::TooLarge));
        assert_eq!(joules("1e-400"), Ok(0));
        assert_eq!(joules("0e400"), Ok(0));
        assert_eq!(joules("-0.0"), Ok(0));
        assert_eq!(joules("-1"), Err(NumberError::Negative));
        let zeros = "0".repeat(60);
        assert_eq!(joules(&format!("0.{zeros}12e60")), Ok(120_000));
        assert_eq!(joules(&format!("{zeros}7")), Ok(7_000_000));
        assert_eq!(joules(&format!("12{zeros}e-60")), Ok(12_000_000));
        assert_eq!(joules(&format!("12{zeros}")), Err(NumberError::TooLarge));
        assert_eq!(steps_of_text("9007199.254740993", 9), Ok(9_007_199_254_740_993));
        for text in ["null", "true", "\"7\"", "", "NaN", "1e", ".5", "1.2.3", "0x1"] {
            assert_eq!(joules(text), Err(NumberError::NotANumber), "{text}");
        }
    }

    #[test]
    fn steps_survive_the_division_of_the_otlp_output() {
        let mut steps = 1_u64;
        // Beyond 2^52 steps neighbouring doubles are more than a step apart.
        while steps < 1 << 52 {
            for (unit, digits) in [(1e6, 6), (1e9, 9)] {
                assert_eq!(steps_of_f64(steps as f64 / unit, digits), Ok(steps));
            }
            steps = steps * 7 / 4 + 13;
        }
    }

    #[test]
    fn extreme_floats_convert_or_are_refused() {
        assert_eq!(steps_of_f64(0.0, 6), Ok(0));
        assert_eq!(steps_of_f64(-0.0, 6), Ok(0));
        assert_eq!(steps_of_f64(0.5, 0), Ok(1));
        assert_eq!(steps_of_f64(f64::MIN_POSITIVE / 2.0, 18), Ok(0));
        assert_eq!(steps_of_f64(1e300, 0), Err(NumberError::TooLarge));
        assert_eq!(steps_of_f64(f64::NAN, 6), Err(NumberError::NotANumber));
        assert_eq!(steps_of_f64(f64::INFINITY, 6), Err(NumberError::NotANumber));
        assert_eq!(steps_of_f64(-1e-9, 6), Err(NumberError::Negative));
        assert_eq!(steps_of_f64((1_u64 << 63) as f64, 0), Ok(1 << 63));
    }
}
