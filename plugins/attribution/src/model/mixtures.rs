//! How far what is learnt of kinds of code is of mixtures. In windows that are longer than a program runs the
//! same code, most look like a kind that none of it is of. A program that is of that kind may cost something
//! else.

use super::constants::{DIFFERENCE_SECONDS, KEPT_CODES};

/// For each kind of code that has an effect, what it was learnt from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mixtures {
    kinds: [Squares; KEPT_CODES],
    /// Of all kinds together. Kept, because each consumer of a kind without an effect needs it in each
    /// window.
    share: f64,
}

/// Sums over the last minutes of the squares of changes in power, which is what effects are learnt from.
#[derive(Clone, Copy, Debug, Default)]
struct Squares {
    all: f64,
    mixed: f64,
}

impl Squares {
    fn share(self) -> f64 {
        if self.all > 0.0 { self.mixed / self.all } else { 0.0 }
    }
}

impl Mixtures {
    /// Adds an observation of so many `seconds`, in which the power of the kind with this effect changed by
    /// `change`, and this `part` of what it draws, 0 to 1, may be of mixtures; 0 where it draws nothing.
    pub(super) fn add(&mut self, effect: usize, change: f64, part: f64, seconds: f64) {
        let keep = (-seconds / DIFFERENCE_SECONDS).exp();
        let Squares { all, mixed } = &mut self.kinds[effect];
        let square = change * change * seconds;
        *all = *all * keep + square;
        *mixed = *mixed * keep + square * part;
        self.share = self.share_of_all();
    }

    /// Another kind has this effect from now on.
    pub(super) fn forget(&mut self, effect: usize) {
        self.kinds[effect] = Squares::default();
        self.share = self.share_of_all();
    }

    /// The part of what was learnt of a kind, 0 to 1, that is of mixtures.
    pub(super) fn share_of(&self, effect: usize) -> f64 {
        self.kinds[effect].share()
    }

    /// The same of all kinds together.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    fn share_of_all(&self) -> f64 {
        let add =
            |sum: Squares, kind: &Squares| Squares { all: sum.all + kind.all, mixed: sum.mixed + kind.mixed };
        self.kinds.iter().fold(Squares::default(), add).share()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_more_counts_more_and_a_constant_load_teaches_nothing() {
        let mut mixtures = Mixtures::default();
        assert_eq!((mixtures.share_of(1), mixtures.share()), (0.0, 0.0));
        mixtures.add(1, 3.0, 1.0, 1.0);
        mixtures.add(1, 3.0_f64.sqrt(), 0.0, 1.0);
        let share = mixtures.share_of(1);
        assert!((share - 0.747).abs() < 0.001, "{share}: a second fades by a sixtieth");
        (0..100).for_each(|_| mixtures.add(1, 0.0, 0.0, 1.0));
        assert!((mixtures.share_of(1) - share).abs() < 1e-9);
    }

    #[test]
    fn each_kind_has_its_own_share_until_another_takes_its_place() {
        let mut mixtures = Mixtures::default();
        mixtures.add(0, 2.0, 1.0, 1.0);
        mixtures.add(1, 2.0, 0.0, 1.0);
        assert_eq!((mixtures.share_of(0), mixtures.share_of(1), mixtures.share()), (1.0, 0.0, 0.5));
        mixtures.forget(0);
        assert_eq!((mixtures.share_of(0), mixtures.share()), (0.0, 0.0));
    }
}
