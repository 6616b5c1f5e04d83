//! What the consumers of a window are predicted to draw, by the effects that correct it (`code_costs.rs`): of
//! each kind of code, and of each consumer that has an effect of its own.

use super::constants::KEPT_CONSUMERS;
use crate::code::{ByCode, Code};

/// A consumer whose own effect is learnt: its place among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own(u8);

impl Own {
    pub(super) fn new(place: usize) -> Self {
        Self(place as u8)
    }

    /// The place, below the number of them.
    pub(crate) fn place(self) -> usize {
        usize::from(self.0)
    }
}

/// A value for each consumer whose own effect is learnt.
pub(crate) type ByOwn = [f64; KEPT_CONSUMERS];

/// Predicted dynamic energy in J, or power in W.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Predicted {
    pub(super) by_code: ByCode,
    pub(super) by_own: ByOwn,
    /// The slot of the largest consumer without an effect of its own, and what it is predicted.
    pub(super) largest: Option<(usize, f64)>,
}

impl Predicted {
    /// Adds what the consumer in `slot` is predicted, which ran `code`.
    pub(super) fn add(&mut self, slot: usize, own: Option<Own>, code: Code, amount: f64) {
        self.by_code.add(code, amount);
        match own {
            Some(own) => self.by_own[own.place()] += amount,
            None => self.offer(slot, amount),
        }
    }

    /// Adds another's values to these.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.by_code.add_all(&other.by_code);
        self.by_own.iter_mut().zip(other.by_own).for_each(|(sum, value)| *sum += value);
        if let Some((slot, amount)) = other.largest {
            self.offer(slot, amount);
        }
    }

    /// The consumer in `slot` has ended: it gets no effect of its own any more.
    pub(super) fn end_consumer(&mut self, slot: usize) {
        self.largest = self.largest.filter(|(largest, _)| *largest != slot);
    }

    /// All values times `factor`.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self {
            by_code: self.by_code.scaled(factor),
            by_own: self.by_own.map(|value| value * factor),
            largest: self.largest.map(|(slot, amount)| (slot, amount * factor)),
        }
    }

    fn offer(&mut self, slot: usize, amount: f64) {
        if self.largest.is_none_or(|(_, most)| amount > most) {
            self.largest = Some((slot, amount));
        }
    }
}
