//! How far off a consumer's energy of one domain may be: the errors of its windows, summed. The model gives
//! the standard errors of each window (`model/uncertainty.rs`); `totals.rs` publishes what comes of them.
//!
//! Errors add up in three ways. Static power's error lasts, and every consumer has it with the same sign:
//! linearly. That a consumer's code costs more or less than its weight lasts too, and cancels as far as the
//! other consumers of the window deviate likewise: linearly over windows, by what the others used. A meter
//! that is early or late at the edge between two windows only moves energy from one to the other: it matters
//! as far as the consumer's share differs in both, and adds up in squares.

use super::division::{Division, Share};
use crate::model::Uncertainty;

/// Standard deviations from the middle of a 95 % interval to its ends.
const DEVIATIONS: f64 = 1.96;

/// What is uncertain in one window, in µJ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowSpread {
    /// The window's number in its domain.
    number: u32,
    model: Uncertainty,
    /// Energy that was divided: dynamic, and static.
    dynamic: f64,
    at_idle: f64,
    /// The sum of the squares of the consumers' parts of the dynamic energy.
    squares: f64,
}

impl WindowSpread {
    /// The spread of window `number`, of which the model's standard errors are known, after its dynamic and
    /// static energy was divided.
    pub(crate) fn new(number: u32, model: Uncertainty, energy: [u64; 2], division: &Division) -> Self {
        let [dynamic, at_idle] = energy.map(|microjoules| microjoules as f64);
        let part = 1.0 / dynamic.max(1.0);
        let squares = division.shares().map(|(_, share)| (share.dynamic as f64 * part).powi(2)).sum();
        Self { number, model, dynamic, at_idle, squares }
    }
}

/// The errors of a consumer's windows so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    /// Static power's, µJ.
    common: f64,
    /// That of its own cost, µJ.
    own: f64,
    /// Those at edges, µJ².
    edges: f64,
    /// At the end of its last window, µJ; and which one that was.
    last_edge: f64,
    last_window: u32,
}

impl Spread {
    /// Adds a window in which the consumer received `share`.
    pub(crate) fn add(&mut self, window: &WindowSpread, share: Share) {
        let WindowSpread { number, model, dynamic, at_idle, squares } = window;
        let energy = share.dynamic as f64;
        let part = energy / dynamic.max(1.0);
        // What idle received too little it received too much, unless it gets static energy itself.
        let static_part = if *at_idle > 0.0 { share.at_idle as f64 / at_idle } else { 0.0 };
        self.common += (part - static_part) * model.static_energy;
        // Its own deviation, as far as it is not alone, and those of the others.
        self.own += energy * model.deviation * (1.0 - 2.0 * part + squares).max(0.0).sqrt();
        let edge = part * model.edge_energy;
        let before = if self.last_window + 1 == *number { self.last_edge } else { 0.0 };
        if before == 0.0 {
            self.edges += self.last_edge * self.last_edge;
        }
        self.edges += (edge - before).powi(2);
        (self.last_edge, self.last_window) = (edge, *number);
    }

    /// Adds a window to the spread of static energy itself.
    pub(crate) fn add_static(&mut self, window: &WindowSpread) {
        if window.dynamic > 0.0 {
            self.common += window.model.static_energy;
        }
    }

    /// Half the width of the 95 % interval, in joules.
    pub(crate) fn half_width(&self) -> f64 {
        let variance = self.common.powi(2) + self.own.powi(2) + self.edges + self.last_edge.powi(2);
        DEVIATIONS * variance.sqrt() * 1e-6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share { dynamic: 500_000, at_idle: 0 };

    fn window(number: u32, model: Uncertainty) -> WindowSpread {
        WindowSpread { number, model, dynamic: 1e6, at_idle: 1e6, squares: 0.5 }
    }

    /// Half the width, in standard errors of joules, after `SHARE` in each of these windows.
    fn errors(numbers: &[u32], model: Uncertainty) -> f64 {
        let mut spread = Spread::default();
        numbers.iter().for_each(|&number| spread.add(&window(number, model), SHARE));
        spread.half_width() / DEVIATIONS
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a}, not {b}");
    }

    #[test]
    fn static_power_s_error_and_the_consumer_s_own_add_up_linearly() {
        let of_static = Uncertainty { static_energy: 40_000.0, ..Uncertainty::default() };
        close(errors(&[1, 2, 3], of_static), 3.0 * 0.02);
        // Two equal consumers that deviate by 10 %: each by 5 % of the other's, √(0.05² + 0.05²) of its own.
        let of_cost = Uncertainty { deviation: 0.1, ..Uncertainty::default() };
        close(errors(&[1, 2, 3], of_cost), 3.0 * 0.5 * 0.1 * 0.5_f64.sqrt());
    }

    #[test]
    fn a_consumer_that_was_alone_has_only_static_power_s_error_and_the_edges() {
        let model = Uncertainty { static_energy: 0.0, deviation: 0.1, edge_energy: 0.0 };
        let mut spread = Spread::default();
        let all = Share { dynamic: 1_000_000, at_idle: 0 };
        spread.add(&WindowSpread { squares: 1.0, ..window(1, model) }, all);
        close(spread.half_width(), 0.0);
    }

    #[test]
    fn edges_between_windows_matter_as_far_as_the_share_differs() {
        let model = Uncertainty { edge_energy: 10_000.0, ..Uncertainty::default() };
        let both_ends = 0.005 * 2.0_f64.sqrt();
        close(errors(&[1], model), both_ends);
        close(errors(&[1, 2, 3, 4], model), both_ends);
        close(errors(&[1, 3], model), 0.01);
    }

    #[test]
    fn who_gets_static_energy_in_proportion_does_not_depend_on_how_much_it_is() {
        let model = Uncertainty { static_energy: 40_000.0, ..Uncertainty::default() };
        let (mut spread, mut idle) = (Spread::default(), Spread::default());
        spread.add(&window(1, model), Share { dynamic: 500_000, at_idle: 500_000 });
        close(spread.half_width(), 0.0);
        idle.add_static(&window(1, model));
        idle.add_static(&WindowSpread { dynamic: 0.0, ..window(2, model) });
        close(idle.half_width() / DEVIATIONS, 0.04);
    }
}
