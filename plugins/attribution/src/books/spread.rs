//! How far off a consumer's energy of one domain may be: the errors of its windows, summed. The model gives
//! the standard errors of each window (`model/uncertainty.rs`); `totals.rs` publishes what comes of them.
//!
//! Errors add up in three ways. Static power's error lasts, and every consumer has it with the same sign:
//! linearly. That a consumer's code costs more or less than its weight lasts too, and cancels as far as the
//! other consumers of the window deviate likewise: linearly over windows, by what the others used. Those
//! whose code looks alike (`code.rs`) are taken to deviate alike to some extent. A meter that is early or
//! late at the edge between two windows only moves energy from one to the other: it matters as far as the
//! consumer's share differs in both, and adds up in squares.

use super::code::CodeSums;
use super::division::{Division, Share};
use crate::model::Uncertainty;

/// Standard deviations from the middle of a 95 % interval to its ends.
const DEVIATIONS: f64 = 1.96;

/// How far two consumers deviate alike whose code looks alike to the counters: the correlation.
const ALIKE: f64 = 0.8;

/// What is uncertain in one window, in µJ.
#[derive(Clone, Debug)]
pub(crate) struct WindowSpread {
    /// The window's number in its domain.
    number: u32,
    model: Uncertainty,
    /// Energy that was divided: dynamic, and static.
    dynamic: f64,
    at_idle: f64,
    /// The parts of the dynamic energy, 0 to 1, by the kind of code.
    alike: CodeSums,
    /// The sum of the squares of the consumers' parts, and as far as they deviate alike, of the kinds' parts.
    squares: f64,
}

impl WindowSpread {
    /// The spread of window `number`, of which the model's standard errors are known, after its dynamic and
    /// static energy was divided.
    pub(crate) fn new(number: u32, model: Uncertainty, energy: [u64; 2], division: &Division) -> Self {
        let energy = energy.map(|microjoules| microjoules as f64);
        Self::of(number, model, energy, division.shares().map(|(_, share)| share))
    }

    fn of(number: u32, model: Uncertainty, energy: [f64; 2], shares: impl Iterator<Item = Share>) -> Self {
        let [dynamic, at_idle] = energy;
        let part = 1.0 / dynamic.max(1.0);
        let (mut alike, mut squares) = (CodeSums::default(), 0.0);
        for share in shares {
            let part = share.dynamic as f64 * part;
            squares += part * part * share.code.map_or(1.0, |_| 1.0 - ALIKE);
            if let Some(code) = share.code {
                alike.add(code, part);
            }
        }
        squares += ALIKE * alike.all().map(|part| part * part).sum::<f64>();
        Self { number, model, dynamic, at_idle, alike, squares }
    }

    /// The part of the dynamic energy of the consumers that deviate as one with `share` does, which is
    /// `part`.
    fn deviates_with(&self, share: Share, part: f64) -> f64 {
        share.code.map_or(part, |code| ALIKE * self.alike.of(code) + (1.0 - ALIKE) * part)
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
        let WindowSpread { number, model, dynamic, at_idle, squares, .. } = window;
        let energy = share.dynamic as f64;
        let part = energy / dynamic.max(1.0);
        // What idle received too little it received too much, unless it gets static energy itself.
        let static_part = if *at_idle > 0.0 { share.at_idle as f64 / at_idle } else { 0.0 };
        self.common += (part - static_part) * model.static_energy;
        // Its own deviation, as far as it is not alone with its like, and those of the others.
        let alike = window.deviates_with(share, part);
        self.own += energy * model.deviation * (1.0 - 2.0 * alike + squares).max(0.0).sqrt();
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
    use super::super::code::Code;
    use super::*;

    const SHARE: Share = Share { dynamic: 500_000, at_idle: 0, code: None };

    fn window(number: u32, model: Uncertainty) -> WindowSpread {
        let alike = CodeSums::default();
        WindowSpread { number, model, dynamic: 1e6, at_idle: 1e6, alike, squares: 0.5 }
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
        let all = Share { dynamic: 1_000_000, ..SHARE };
        spread.add(&WindowSpread { squares: 1.0, ..window(1, model) }, all);
        close(spread.half_width(), 0.0);
    }

    #[test]
    fn consumers_whose_code_looks_alike_deviate_alike() {
        let model = Uncertainty { deviation: 0.1, ..Uncertainty::default() };
        let counted = |cycles, instructions| Code::of(&[1, 0, cycles, instructions, 0, 0]);
        // Half of the window's energy each: the same code, other code, or not counted.
        let error = |codes: [Option<Code>; 2]| {
            let share = |code| Share { code, ..SHARE };
            let window = WindowSpread::of(1, model, [1e6, 1e6], codes.into_iter().map(share));
            let mut spread = Spread::default();
            spread.add(&window, share(codes[0]));
            spread.half_width() / DEVIATIONS
        };
        let apart = 0.5 * 0.1 * 0.5_f64.sqrt();
        close(error([None, None]), apart);
        close(error([counted(1, 2), counted(2, 1)]), apart);
        close(error([counted(1, 2), counted(1, 2)]), apart * (1.0 - ALIKE).sqrt());
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
        spread.add(&window(1, model), Share { at_idle: 500_000, ..SHARE });
        close(spread.half_width(), 0.0);
        idle.add_static(&window(1, model));
        idle.add_static(&WindowSpread { dynamic: 0.0, ..window(2, model) });
        close(idle.half_width() / DEVIATIONS, 0.04);
    }
}
