//! How far what is learnt of kinds of code is of mixtures. In windows that are longer than a program runs the
//! same code, most look like a kind that none of it is of. A program that is of that kind may cost something
//! else.

use super::constants::DIFFERENCE_SECONDS;

/// Sums over the last minutes of the squares of changes in power, which is what effects are learnt from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mixtures {
    all: f64,
    mixed: f64,
}

impl Mixtures {
    /// Adds an observation of so many `seconds`, in which the power of kinds changed by this sum of
    /// `squares`, and this `part` of it, 0 to 1, may be of mixtures.
    pub(super) fn add(&mut self, squares: f64, part: f64, seconds: f64) {
        let keep = (-seconds / DIFFERENCE_SECONDS).exp();
        self.all = self.all * keep + squares * seconds;
        self.mixed = self.mixed * keep + squares * seconds * part;
    }

    /// The part of what was learnt, 0 to 1, that is of mixtures.
    pub(super) fn share(&self) -> f64 {
        if self.all > 0.0 { self.mixed / self.all } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_more_counts_more_and_a_constant_load_teaches_nothing() {
        let mut mixtures = Mixtures::default();
        assert_eq!(mixtures.share(), 0.0);
        mixtures.add(9.0, 1.0, 1.0);
        mixtures.add(3.0, 0.0, 1.0);
        let share = mixtures.share();
        assert!((share - 0.747).abs() < 0.001, "{share}: a second fades by a sixtieth");
        (0..100).for_each(|_| mixtures.add(0.0, 0.0, 1.0));
        assert!((mixtures.share() - share).abs() < 1e-9);
    }
}
