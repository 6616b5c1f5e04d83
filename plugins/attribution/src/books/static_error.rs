//! How far off what a consumer received is because static power is not known exactly. All consumers have that
//! error with the same sign, and it lasts. `spread.rs` adds their other errors.
//!
//! At the start of a run static power is only expected (`model/prior.rs`), and may be far off. Once the meter
//! has shown it, what was received before that is known to be off, and by how much. It is not taken back,
//! since it was published; but the interval then says that, instead of how far off it might have been.

use super::lasting_error::LastingError;
use crate::model::Uncertainty;

/// That of one consumer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StaticError {
    /// In windows in which static power was learnt, and once it is, in those before.
    learnt: LastingError,
    /// In windows in which it was only expected, until it is learnt.
    expected: LastingError,
    /// The static energy that was taken from the consumer's energy in those windows, µJ, and how long static
    /// power took to draw it, s.
    taken: f64,
    seconds: f64,
    /// By how much too little the consumer received in those, as far as is known now, µJ.
    known: f64,
}

impl StaticError {
    /// Adds a window of so many `seconds`, of whose static energy this part, the `exposure`, is taken from
    /// what the consumer would receive if there were none.
    #[inline(always)]
    pub(super) fn add(&mut self, exposure: f64, model: &Uncertainty, seconds: f64) {
        let variance = model.static_energy.powi(2);
        if model.is_static_expected {
            self.expected.add(exposure, variance);
            self.taken += exposure * model.cold_watts * seconds * 1e6;
            self.seconds += exposure * seconds;
            return;
        }
        if self.seconds != 0.0 {
            let before = std::mem::take(&mut self.expected);
            self.learnt.add(before.exposure(), variance);
            self.known = self.taken - model.cold_watts * self.seconds * 1e6;
        }
        self.learnt.add(exposure, variance);
    }

    /// Adds a window to the error of static energy itself. Standard errors add up: readers subtract what it
    /// was earlier, to know that of the time since.
    pub(super) fn add_static_energy(&mut self, model: &Uncertainty) {
        self.learnt.add_linearly(model.static_energy);
    }

    /// The variance of what is not known, µJ².
    pub(super) fn variance(&self) -> f64 {
        self.learnt.variance() + self.expected.variance()
    }

    /// How much too much or too little the consumer is known to have received, µJ.
    pub(super) fn known(&self) -> f64 {
        self.known.abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(is_static_expected: bool, cold_watts: f64, static_energy: f64) -> Uncertainty {
        Uncertainty { static_energy, cold_watts, is_static_expected, ..Uncertainty::default() }
    }

    /// The standard error and what is known, J, after half of the static energy of each of these windows of a
    /// second.
    fn after(windows: &[Uncertainty]) -> (f64, f64) {
        let mut error = StaticError::default();
        windows.iter().for_each(|window| error.add(0.5, window, 1.0));
        (error.variance().sqrt() * 1e-6, error.known() * 1e-6)
    }

    fn close((a, b): (f64, f64), (c, d): (f64, f64)) {
        assert!((a - c).abs() < 1e-9 && (b - d).abs() < 1e-9, "{a} {b}, not {c} {d}");
    }

    #[test]
    fn what_was_expected_is_known_to_be_off_once_static_power_is_learnt() {
        let (expected, learnt) = (model(true, 12.0, 4e6), model(false, 10.0, 0.1e6));
        close(after(&[expected]), (2.0, 0.0));
        close(after(&[expected, expected]), (4.0, 0.0));
        // Two watts too many, for two seconds; what is still unknown is unknown of all three.
        close(after(&[expected, expected, learnt]), (0.15, 2.0));
        close(after(&[expected, expected, learnt, learnt]), (0.2, 2.0));
        close(after(&[learnt, learnt]), (0.1, 0.0));
        // It turns out to be otherwise.
        close(after(&[expected, learnt, model(false, 13.0, 0.1e6)]), (0.15, 0.5));
    }
}
