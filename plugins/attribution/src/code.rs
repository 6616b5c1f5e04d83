//! Which kind of code a consumer runs, as far as counters show it. Programs of one kind probably differ alike
//! from what the counters say of their power: the model (`model/code_costs.rs`) learns by how much, and the
//! books divide energy by it.

use std::f64::consts::SQRT_2;

use crate::amounts::{Amounts, Quantity};

/// Values of each rate that are distinguished; the first and the last take all beyond them.
const VALUES: i32 = 16;
/// The value of one instruction per cycle, and that of one cache miss per instruction.
const ONE_PER_CYCLE: i32 = 8;
const ONE_PER_INSTRUCTION: i32 = 15;

/// Number of kinds, and the bits of a word that says which of them there are.
const CODES: usize = (VALUES * VALUES) as usize;
const BITS: usize = u64::BITS as usize;

/// A kind of code: instructions per cycle and cache misses per instruction, each rounded to a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(u8);

impl Code {
    /// That of a consumer which used `amounts`; `None` if cycles and instructions were not counted: time
    /// alone does not distinguish programs.
    pub(crate) fn of(amounts: &Amounts) -> Option<Self> {
        let [cycles, instructions, misses] =
            [Quantity::Cycles, Quantity::Instructions, Quantity::CacheMisses].map(|q| amounts[q as usize]);
        if cycles == 0 || instructions == 0 {
            return None;
        }
        let value = |a: u64, b: u64, one: i32| (doublings(a as f64 / b as f64) + one).clamp(0, VALUES - 1);
        let busy = value(instructions, cycles, ONE_PER_CYCLE);
        let missing = value(misses, instructions, ONE_PER_INSTRUCTION);
        Some(Self((busy * VALUES + missing) as u8))
    }
}

/// What a consumer ran in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Code,
    /// It looked like another kind when it ran last: it runs several, and this may be a mixture of them.
    pub(crate) is_mixed: bool,
}

impl Ran {
    /// That of a consumer which used `amounts`, and ran code of the kind `before` when it ran last.
    pub(crate) fn of(amounts: &Amounts, before: Option<Code>) -> Option<Self> {
        let code = Code::of(amounts)?;
        Some(Self { code, is_mixed: before.is_some_and(|before| before != code) })
    }

    /// Code of one kind alone.
    #[cfg(test)]
    pub(crate) fn pure(code: Code) -> Self {
        Self { code, is_mixed: false }
    }
}

/// The logarithm of a `ratio` of at least 0 to the base of 2, rounded: the exponent of its representation.
/// That of 0 is very small.
fn doublings(ratio: f64) -> i32 {
    ((ratio * SQRT_2).to_bits() >> (f64::MANTISSA_DIGITS - 1)) as i32 - (f64::MAX_EXP - 1)
}

/// A value for each kind of code. Mostly of a few kinds: it takes no longer to go through than they do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ByCode {
    values: [f64; CODES],
    /// A bit for each kind that was set.
    present: [u64; CODES / BITS],
}

impl Default for ByCode {
    fn default() -> Self {
        Self { values: [0.0; CODES], present: [0; CODES / BITS] }
    }
}

impl ByCode {
    /// The value of `code`; 0 if it has none.
    pub(crate) fn of(&self, code: Code) -> f64 {
        self.values[usize::from(code.0)]
    }

    pub(crate) fn set(&mut self, code: Code, value: f64) {
        let at = usize::from(code.0);
        self.present[at / BITS] |= 1 << (at % BITS);
        self.values[at] = value;
    }

    pub(crate) fn add(&mut self, code: Code, amount: f64) {
        self.set(code, self.of(code) + amount);
    }

    /// Adds another's values to these.
    pub(crate) fn add_all(&mut self, other: &Self) {
        other.all().for_each(|(code, value)| self.add(code, value));
    }

    /// The kinds that have a value, and the value.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Code, f64)> {
        self.present.iter().enumerate().flat_map(move |(word, &bits)| {
            ones(bits).map(move |bit| {
                let at = word * BITS + bit;
                (Code(at as u8), self.values[at])
            })
        })
    }

    /// The sum of the products of both values.
    pub(crate) fn dot(&self, other: &Self) -> f64 {
        self.all().map(|(code, value)| value * other.of(code)).sum()
    }

    /// All values times `factor`.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self { values: self.values.map(|value| value * factor), ..*self }
    }
}

/// The positions of the ones in `bits`.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(position)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(cycles: u64, instructions: u64, misses: u64) -> Option<Code> {
        Code::of(&[1_000_000, 0, cycles, instructions, misses, 0])
    }

    #[test]
    fn programs_are_alike_whose_rates_differ_little() {
        assert_eq!(code(3_000_000, 6_000_000, 600), code(6_100_000, 12_000_000, 1_300));
        assert_ne!(code(3_000_000, 6_000_000, 600), code(3_000_000, 2_000_000, 200), "other instructions");
        assert_ne!(code(3_000_000, 6_000_000, 600), code(3_000_000, 6_000_000, 60_000), "other misses");
    }

    #[test]
    fn any_counts_are_of_some_kind_but_time_alone_is_not() {
        assert_eq!((code(0, 0, 0), code(9, 0, 9), code(0, 9, 9)), (None, None, None));
        for counts in [[1, 1, 0], [1, u64::MAX, 0], [u64::MAX, 1, u64::MAX], [1, 1, u64::MAX]] {
            let [cycles, instructions, misses] = counts;
            assert!(code(cycles, instructions, misses).is_some(), "{counts:?}");
        }
    }

    #[test]
    fn what_looks_like_another_kind_than_before_may_be_a_mixture() {
        let amounts = [1_000_000, 0, 3_000_000, 6_000_000, 600, 0];
        let is_mixed = |before| Ran::of(&amounts, before).map(|ran| ran.is_mixed);
        assert_eq!(is_mixed(None), Some(false));
        assert_eq!(is_mixed(code(3_000_000, 6_000_000, 600)), Some(false));
        assert_eq!(is_mixed(code(3_000_000, 2_000_000, 600)), Some(true));
        assert_eq!(Ran::of(&[1, 0, 0, 0, 0, 0], None), None);
    }

    #[test]
    fn ratios_are_rounded_to_the_nearest_power_of_two() {
        for ratio in [1e-9, 0.003, 0.49, 0.7, 0.72, 1.0, 1.41, 1.42, 2.9, 1e9] {
            assert_eq!(doublings(ratio), ratio.log2().round() as i32, "{ratio}");
        }
        assert!(doublings(0.0) < -1000);
    }

    #[test]
    fn values_are_kept_by_kind() {
        let (Some(a), Some(b)) = (code(1, 1, 0), code(1, 4, 0)) else { panic!("both are counted") };
        let mut values = ByCode::default();
        values.add(a, 2.0);
        values.add(a, 1.0);
        values.set(b, 5.0);
        assert_eq!((values.of(a), values.of(b)), (3.0, 5.0));
        assert_eq!(values.all().collect::<Vec<_>>(), [(a, 3.0), (b, 5.0)]);
        assert_eq!(values.dot(&values.scaled(2.0)), 68.0);
    }
}
