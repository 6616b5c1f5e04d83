//! Which consumers of a window run code that looks alike to the counters. What their code costs more or less
//! than the counters say is probably alike, too: `spread.rs` takes it to be shared to some extent.

use crate::amounts::{Amounts, Quantity};

/// Values of each rate that are distinguished; the first and the last take all beyond them.
const VALUES: i32 = 16;
/// The value of one instruction per cycle, and that of one cache miss per instruction.
const ONE_PER_CYCLE: i32 = 8;
const ONE_PER_INSTRUCTION: i32 = 15;

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
        // No misses at all are minus infinity, which saturates.
        let value = |a: u64, b: u64, one: i32| {
            let doublings = (a as f64 / b as f64).log2().round() as i32;
            doublings.saturating_add(one).clamp(0, VALUES - 1)
        };
        let busy = value(instructions, cycles, ONE_PER_CYCLE);
        let missing = value(misses, instructions, ONE_PER_INSTRUCTION);
        Some(Self((busy * VALUES + missing) as u8))
    }
}

/// A sum for each kind of code.
#[derive(Clone, Debug)]
pub(crate) struct CodeSums([f64; (VALUES * VALUES) as usize]);

impl Default for CodeSums {
    fn default() -> Self {
        Self([0.0; (VALUES * VALUES) as usize])
    }
}

impl CodeSums {
    pub(crate) fn add(&mut self, code: Code, amount: f64) {
        self.0[usize::from(code.0)] += amount;
    }

    pub(crate) fn of(&self, code: Code) -> f64 {
        self.0[usize::from(code.0)]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = f64> {
        self.0.iter().copied()
    }
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
}
