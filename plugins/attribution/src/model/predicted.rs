//! What is predicted to be drawn for what the consumers of a window execute, by the effects that correct it
//! (`code_costs.rs`): of each kind of code, and of each consumer that has an effect of its own.

use super::constants::KEPT_CONSUMERS;
use super::features::{FEATURES, Features};
use crate::code::{ByCode, Code, Ran};

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

/// The kind of code that each of those ran last; `None` where it ran none.
pub(super) type OwnCodes = [Option<Code>; KEPT_CONSUMERS];

/// What they ran `later` is what they ran last.
pub(super) fn ran_later(last: &mut OwnCodes, later: &OwnCodes) {
    last.iter_mut().zip(later).for_each(|(last, code)| *last = code.or(*last));
}

/// Energy that is predicted for what is executed in J, or power in W.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Predicted {
    pub(super) by_code: ByCode,
    pub(super) by_own: ByOwn,
    /// The slot of the largest consumer without an effect of its own, and what it is predicted.
    pub(super) largest: Option<(usize, f64)>,
    /// The root of the sum of the squares of what consumers without an effect of their own are predicted.
    /// That of several windows is at most the sum of theirs.
    pub(super) without_own: f64,
    /// The kind of code that each consumer with an effect of its own ran last.
    pub(super) own_codes: OwnCodes,
    /// What consumers are predicted whose code may be a mixture, and the root of the sum of the squares.
    /// Windows are mixed independently of each other.
    pub(super) mixed: ByCode,
    pub(super) mixed_root: f64,
}

/// What consumers of one kind of code used in a window.
#[derive(Clone, Copy, Debug, Default)]
struct KindUse {
    features: Features,
    /// The dynamic energy that is predicted for it, and the part of it for what is executed, J.
    energy: f64,
    executed: f64,
}

/// What each kind of code that has an effect used in a window.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByKind(Vec<KindUse>);

impl ByKind {
    /// Adds what a consumer used whose kind has this effect.
    pub(super) fn add(&mut self, effect: usize, features: &Features, energy: f64, executed: f64) {
        if self.0.len() <= effect {
            self.0.resize(effect + 1, KindUse::default());
        }
        self.0[effect].add(features, energy, executed);
    }

    /// The features of a kind for each joule; 0 if it used none.
    pub(super) fn per_joule(&self, effect: usize) -> Features {
        self.0.get(effect).map_or([0.0; FEATURES], KindUse::per_joule)
    }

    /// The part of its energy, 0 to 1, that a kind is predicted for what it executes; 0 if it used none.
    pub(super) fn executed(&self, effect: usize) -> f64 {
        self.0.get(effect).map_or(0.0, KindUse::executed_part)
    }

    /// Makes it ready for the next window.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl KindUse {
    fn add(&mut self, features: &Features, energy: f64, executed: f64) {
        self.features.iter_mut().zip(features).for_each(|(sum, feature)| *sum += feature);
        self.energy += energy;
        self.executed += executed;
    }

    fn executed_part(&self) -> f64 {
        if self.energy > 0.0 { self.executed / self.energy } else { 0.0 }
    }

    fn per_joule(&self) -> Features {
        if self.energy > 0.0 { self.features.map(|feature| feature / self.energy) } else { [0.0; FEATURES] }
    }
}

impl Predicted {
    /// Adds what is predicted for what the consumer in `slot` executed.
    pub(super) fn add(&mut self, slot: usize, own: Option<Own>, ran: Ran, amount: f64) {
        self.by_code.add(ran.code, amount);
        if ran.is_mixed {
            self.mixed.add(ran.code, amount);
            self.mixed_root = (self.mixed_root * self.mixed_root + amount * amount).sqrt();
        }
        match own {
            Some(own) => {
                self.by_own[own.place()] += amount;
                self.own_codes[own.place()] = Some(ran.code);
            }
            None => {
                self.without_own = (self.without_own * self.without_own + amount * amount).sqrt();
                self.offer(slot, amount);
            }
        }
    }

    /// Adds another's values to these.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.by_code.add_all(&other.by_code);
        self.by_own.iter_mut().zip(other.by_own).for_each(|(sum, value)| *sum += value);
        self.without_own += other.without_own;
        ran_later(&mut self.own_codes, &other.own_codes);
        self.mixed.add_all(&other.mixed);
        self.mixed_root = self.mixed_root.hypot(other.mixed_root);
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
            without_own: self.without_own * factor,
            own_codes: self.own_codes,
            mixed: self.mixed.scaled(factor),
            mixed_root: self.mixed_root * factor,
        }
    }

    fn offer(&mut self, slot: usize, amount: f64) {
        if self.largest.is_none_or(|(_, most)| amount > most) {
            self.largest = Some((slot, amount));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    #[test]
    fn what_a_consumer_ran_last_is_what_it_ran_in_the_last_window_in_which_it_did() {
        let [first, other] = [1, 4].map(|cycles| Code::of(&[1, 0, cycles, 4, 0, 0]).expect("it is counted"));
        let window = |place: usize, code: Code| {
            let mut window = Predicted::default();
            window.add(9, Some(Own::new(place)), Ran::pure(code), 1.0);
            window
        };
        let mut sum = window(1, first);
        sum.add_all(&window(1, other));
        sum.add_all(&window(2, first));
        assert_eq!(sum.scaled(0.5).own_codes[..3], [None, Some(other), Some(first)]);
    }

    #[test]
    fn what_mixtures_cost_adds_up_in_squares() {
        let code = Code::of(&[1, 0, 1, 1, 0, 0]).expect("it is counted");
        let mut window = Predicted::default();
        window.add(0, None, Ran { code, is_mixed: true }, 3.0);
        window.add(1, None, Ran { code, is_mixed: true }, 4.0);
        window.add(2, None, Ran::pure(code), 5.0);
        let mut sum = window;
        (0..3).for_each(|_| sum.add_all(&window));
        let Predicted { mixed, mixed_root, .. } = sum.scaled(0.5);
        assert_eq!((mixed.of(code), mixed_root), (14.0, 5.0));
    }
}
