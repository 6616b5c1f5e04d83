//! How far off a consumer's energy of one domain may be: the errors of its windows, summed. The model gives
//! the standard errors of each window (`model/uncertainty.rs`); `totals.rs` publishes what comes of them.
//!
//! Static power's error lasts, and every consumer has it with the same sign. That a consumer's code costs
//! more or less than its weight lasts too, and cancels as far as the others of the window deviate likewise.
//! It is that of its kind of code, and its own beside others of that kind (`model/cost_variances.rs`). Both
//! are the same error in every window, but less and less of it remains unknown ([`LastingError`]). A meter
//! that is early or late at the edge between two windows only moves energy from one to the other: it matters
//! as far as the consumer's share differs in both, and adds up in squares. So does not knowing when within a
//! window each ran, where that decides who kept a package awake. What a high clock costs is off in the same
//! direction in every window, so who ran both at high and at low clocks is hardly affected.

use super::closed_window::ClosedWindow;
use super::division::{Division, Share};
use super::lasting_error::LastingError;
use super::static_error::StaticError;
use crate::code::ByCode;
use crate::model::{ByKind, ByOwn, CLOCK_ERROR, CodeCosts, CostVariances, Uncertainty};

/// Standard deviations from the middle of a 95 % interval to its ends.
const DEVIATIONS: f64 = 1.96;
/// The same to the one end that matters where the middle is off by more than that.
const DEVIATIONS_TO_ONE_END: f64 = 1.645;

/// The part of what the model leaves unexplained, as a standard deviation, by which a consumer's cost is off
/// at least: coefficients that were fitted to a meter of much noise are off, too.
const OWN_PART: f64 = 0.1;

/// What is uncertain in one window, in µJ.
#[derive(Clone, Debug)]
pub(crate) struct WindowSpread<'a> {
    /// The window's number in its domain, and how long it is, s.
    number: u32,
    seconds: f64,
    model: Uncertainty,
    /// How far off what the consumers' code costs is.
    costs: CostVariances<'a>,
    /// Energy that was divided: dynamic, and static.
    dynamic: f64,
    at_idle: f64,
    /// One over the dynamic energy, 1/µJ.
    per_energy: f64,
    /// The sum of the squares of the consumers' parts.
    squares: f64,
    /// The part of the energy that is drawn because of clocks, as in [`Share::clock`].
    clock: f64,
}

impl<'a> WindowSpread<'a> {
    /// The spread of `closed`, which is window `number`, after its energy was divided.
    pub(crate) fn new(number: u32, closed: &ClosedWindow<'a>, division: &Division) -> Self {
        let energy = closed.divided.map(|microjoules| microjoules as f64);
        let shares = division.shares().map(|(_, share)| share);
        let seconds = closed.window.nanos() as f64 * 1e-9;
        Self::of((number, seconds), closed.uncertainty, (closed.codes, division.kinds()), energy, shares)
    }

    fn of(
        (number, seconds): (u32, f64),
        model: Uncertainty,
        (codes, kinds): (&'a CodeCosts, &ByKind),
        energy: [f64; 2],
        shares: impl Iterator<Item = Share>,
    ) -> Self {
        let [dynamic, at_idle] = energy;
        let per_energy = 1.0 / dynamic.max(1.0);
        let (mut by_code, mut by_own) = (ByCode::default(), ByOwn::default());
        let (mut squares, mut of_small, mut clock) = (0.0, 0.0, 0.0);
        for share in shares {
            let part = share.dynamic as f64 * per_energy;
            squares += part * part;
            clock += part * f64::from(share.clock);
            if let Some(code) = share.code {
                by_code.add(code, part);
                match share.own {
                    Some(own) => by_own[own.place()] += part * codes.executed_part(kinds, code),
                    None => of_small += codes.of_small(kinds, code, part),
                }
            }
        }
        let costs = codes.variances(kinds, by_code, &by_own, of_small);
        // What all cost more or less than is predicted, as far as the last seconds do not show it.
        let known = model.dynamic_precision + 1.0 / costs.of_mean().max(f64::MIN_POSITIVE);
        let to_idle = model.to_idle * dynamic * known.powf(-0.5);
        let model = Uncertainty { static_energy: model.static_energy.hypot(to_idle), ..model };
        Self { number, seconds, model, costs, dynamic, per_energy, at_idle, squares, clock }
    }
}

/// The errors of a consumer's windows so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    /// That of static power.
    common: StaticError,
    /// That of its own cost, in µJ.
    own: LastingError,
    /// What it received because its clock was higher than the others', µJ; negative if it was lower.
    clock: f64,
    /// Those at edges, and of who kept the package awake, µJ².
    edges: f64,
    /// At the end of its last window, µJ; and which one that was.
    last_edge: f64,
    last_window: u32,
}

impl Spread {
    /// Adds a window in which the consumer received `share`. Inlined: a call for each point costs a fifth of
    /// closing the books.
    #[inline(always)]
    pub(crate) fn add(&mut self, window: &WindowSpread<'_>, share: Share) {
        let WindowSpread { number, model, per_energy, at_idle, squares, .. } = window;
        let energy = share.dynamic as f64;
        let part = energy * per_energy;
        // What idle received too little it received too much, unless it gets static energy itself.
        let static_part = if share.at_idle > 0 { share.at_idle as f64 / at_idle.max(1.0) } else { 0.0 };
        self.common.add(part - static_part, model, window.seconds);
        let follows = self.last_window + 1 == *number;
        let variance = match share.code {
            Some(code) => {
                // What it received too much others received too little: no more than theirs deviates.
                let others = if part > 0.5 { (1.0 / part - 1.0).max(0.0) } else { 1.0 };
                window.costs.of(code, share.own, part).max((OWN_PART * model.deviation * others).powi(2))
            }
            // As far as it is not all of the window.
            None => model.deviation.powi(2) * (1.0 - 2.0 * part + squares).max(0.0),
        };
        self.own.add(energy, variance);
        self.clock += energy * (f64::from(share.clock) - window.clock);
        if share.awake > 0.0 {
            // Those that run at the same time share it: each is off by half of what that time is off by,
            // which is anywhere between none of its own and all of it.
            let own = energy * f64::from(share.awake) / 12.0_f64.sqrt();
            self.edges += (0.5 * own.min(model.awake_energy)).powi(2);
        }
        if share.code.is_some() {
            // It may be anyone's. All receive it in proportion.
            self.edges += (part * (1.0 - part) * model.unexplained_energy).powi(2);
        }
        let edge = part * model.edge_energy;
        let before = if follows { self.last_edge } else { 0.0 };
        if before == 0.0 {
            self.edges += self.last_edge * self.last_edge;
        }
        self.edges += (edge - before).powi(2);
        (self.last_edge, self.last_window) = (edge, *number);
    }

    /// Adds a window to the spread of static energy itself.
    pub(crate) fn add_static(&mut self, window: &WindowSpread<'_>) {
        if window.dynamic > 0.0 {
            self.common.add_static_energy(&window.model);
        }
    }

    /// Half the width of the 95 % interval, in joules.
    pub(crate) fn half_width(&self) -> f64 {
        let of_clock = (CLOCK_ERROR * self.clock).powi(2);
        let at_edges = self.edges + self.last_edge.powi(2);
        let variance = self.common.variance() + self.own.variance() + of_clock + at_edges;
        let error = variance.max(0.0).sqrt();
        (DEVIATIONS * error).max(self.common.known() + DEVIATIONS_TO_ONE_END * error) * 1e-6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    const SHARE: Share =
        Share { dynamic: 500_000, at_idle: 0, code: None, own: None, awake: 0.0, clock: 0.0 };

    fn window(codes: &CodeCosts, number: u32, model: Uncertainty) -> WindowSpread<'_> {
        window_of(codes, number, model, [SHARE, SHARE])
    }

    /// A window of a second with these shares.
    fn window_of<const N: usize>(
        codes: &CodeCosts,
        number: u32,
        model: Uncertainty,
        shares: [Share; N],
    ) -> WindowSpread<'_> {
        let kinds = ByKind::default();
        WindowSpread::of((number, 1.0), model, (codes, &kinds), [1e6, 1e6], shares.into_iter())
    }

    /// Half the width, in standard errors of joules, after `SHARE` in each of these windows.
    fn errors(numbers: &[u32], model: Uncertainty) -> f64 {
        let (codes, mut spread) = (CodeCosts::default(), Spread::default());
        numbers.iter().for_each(|&number| spread.add(&window(&codes, number, model), SHARE));
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
    fn what_static_power_was_off_by_at_first_is_not_what_it_is_off_by_once_it_is_known() {
        let (codes, mut spread) = (CodeCosts::default(), Spread::default());
        for (number, static_energy) in [40_000.0, 10_000.0].into_iter().enumerate() {
            let model = Uncertainty { static_energy, ..Uncertainty::default() };
            spread.add(&window(&codes, number as u32 + 1, model), SHARE);
        }
        // Half of each: what is unknown of the second window is unknown of both, 0.5² · (0.04² + 3 · 0.01²).
        close(spread.half_width() / DEVIATIONS, 0.5 * (0.0016_f64 + 3.0 * 0.0001).sqrt());
    }

    #[test]
    fn what_is_known_to_be_off_is_in_the_interval_whole_and_what_is_not_with_one_end() {
        let model = |is_static_expected, cold_watts, static_energy| Uncertainty {
            is_static_expected,
            cold_watts,
            static_energy,
            ..Uncertainty::default()
        };
        let half_width = |models: [Uncertainty; 2]| {
            let (codes, mut spread) = (CodeCosts::default(), Spread::default());
            for (number, model) in models.into_iter().enumerate() {
                spread.add(&window(&codes, number as u32 + 1, model), SHARE);
            }
            spread.half_width()
        };
        // Half of a watt too much for a second, and what is unknown of static power in both.
        let learnt = model(false, 10.0, 20_000.0);
        close(half_width([model(true, 11.0, 400_000.0), learnt]), 0.5 + DEVIATIONS_TO_ONE_END * 0.02);
        close(half_width([model(true, 10.001, 400_000.0), learnt]), DEVIATIONS * 0.02);
    }

    #[test]
    fn what_a_cost_was_off_by_before_more_was_known_of_it_is_not_what_it_is_off_by_now() {
        let codes = CodeCosts::default();
        let error = |deviations: &[f64]| {
            let mut spread = Spread::default();
            for deviation in deviations {
                // Half of a window of two equal consumers.
                let model = Uncertainty { deviation: deviation / 0.5_f64.sqrt(), ..Uncertainty::default() };
                spread.add(&window(&codes, 1, model), SHARE);
            }
            spread.half_width() / DEVIATIONS
        };
        close(error(&[0.1; 4]), 4.0 * 0.05);
        // Half a joule each: the estimate's variance halves with each window, and E · Σ (2n − 1) · variance
        // remains.
        let halves = [0.04, 0.02, 0.01].map(f64::sqrt);
        close(error(&halves), 0.5 * (0.04_f64 + 3.0 * 0.02 + 5.0 * 0.01).sqrt());
        // Where it is known less than before, errors are the same at most: they add up.
        close(error(&[0.1, 0.2]), 0.5 * (0.1 + 0.2));
    }

    #[test]
    fn a_consumer_that_was_alone_has_only_static_power_s_error_and_the_edges() {
        let model = Uncertainty { deviation: 0.1, ..Uncertainty::default() };
        let (codes, mut spread) = (CodeCosts::default(), Spread::default());
        let code = Code::of(&[1, 0, 1, 1, 0, 0]);
        for code in [None, code] {
            let all = Share { dynamic: 1_000_000, code, ..SHARE };
            spread.add(&window_of(&codes, 1, model, [all]), all);
            close(spread.half_width(), 0.0);
        }
    }

    #[test]
    fn what_a_kind_of_code_costs_matters_unless_all_run_the_same() {
        let counted = |cycles, instructions| Code::of(&[1, 0, cycles, instructions, 0, 0]);
        let codes = CodeCosts::default();
        // Half of the window's energy each, at the first of their windows.
        let error = |kinds: [Option<Code>; 2]| {
            let share = |code| Share { code, ..SHARE };
            let window = window_of(&codes, 1, Uncertainty::default(), kinds.map(share));
            let mut spread = Spread::default();
            spread.add(&window, share(kinds[0]));
            spread.half_width() / DEVIATIONS
        };
        // Of equal parts of two consumers, of which nothing is known.
        let kinds = [counted(1, 2), counted(2, 1)];
        let expected = |kinds: [Option<Code>; 2]| {
            let mut by_code = ByCode::default();
            kinds.into_iter().flatten().for_each(|code| by_code.add(code, 0.5));
            let by_kind = ByKind::default();
            let of_small = kinds.into_iter().flatten().map(|code| codes.of_small(&by_kind, code, 0.5)).sum();
            let variances = codes.variances(&by_kind, by_code, &ByOwn::default(), of_small);
            0.5 * kinds[0].map_or(0.0, |code| variances.of(code, None, 0.5)).sqrt()
        };
        let (alike, different) = ([kinds[0]; 2], kinds);
        close(error(alike), expected(alike));
        close(error(different), expected(different));
        assert!(error(different) > 2.0 * error(alike) && error(alike) > 0.002, "{}", error(alike));
    }

    #[test]
    fn of_what_all_cost_more_a_part_goes_to_idle_unless_the_last_seconds_show_it() {
        let (codes, code) = (CodeCosts::default(), Code::of(&[1, 0, 1, 1, 0, 0]));
        let share = Share { code, ..SHARE };
        let error = |to_idle, dynamic_precision| {
            let model = Uncertainty { to_idle, dynamic_precision, ..Uncertainty::default() };
            let window = window_of(&codes, 1, model, [share, share]);
            let mut spread = Spread::default();
            spread.add(&window, share);
            (spread.half_width() / DEVIATIONS, window.costs.of_mean().sqrt())
        };
        let (none, of_mean) = error(0.0, 0.0);
        assert!(of_mean > 0.01, "{of_mean}");
        // A joule, half of it each, and a fifth of its error goes to idle.
        close(error(0.2, 0.0).0, none.hypot(0.5 * 0.2 * of_mean));
        close(error(0.2, 3.0 / (of_mean * of_mean)).0, none.hypot(0.5 * 0.2 * of_mean / 2.0));
        close(error(0.2, f64::MAX).0, none);
    }

    #[test]
    fn a_meter_that_is_tampered_with_widens_what_is_known_of_code_too() {
        let (codes, code) = (CodeCosts::default(), Code::of(&[1, 0, 1, 1, 0, 0]));
        let error = |deviation: f64| {
            let model = Uncertainty { deviation, ..Uncertainty::default() };
            let share = Share { code, ..SHARE };
            let mut spread = Spread::default();
            spread.add(&window_of(&codes, 1, model, [share, share]), share);
            spread.half_width()
        };
        assert_eq!(error(0.01), error(0.0));
        assert!(error(1.0) > 5.0 * error(0.0), "{} {}", error(1.0), error(0.0));
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
    fn who_kept_a_package_awake_is_as_uncertain_as_usage_leaves_it_and_averages_out() {
        let error = |awake: f32, awake_energy: f64| {
            let model = Uncertainty { awake_energy, ..Uncertainty::default() };
            let (codes, mut spread) = (CodeCosts::default(), Spread::default());
            (1..=4).for_each(|n| spread.add(&window(&codes, n, model), Share { awake, ..SHARE }));
            spread.half_width() / DEVIATIONS
        };
        // Half of it, in each of four windows; and no more than what it was awake itself.
        close(error(0.8, 20_000.0), 4.0_f64.sqrt() * 0.01);
        close(error(0.5, 1e6), 4.0_f64.sqrt() * 0.5 * 0.25 / 12.0_f64.sqrt());
        assert_eq!((error(0.0, 20_000.0), error(0.8, 0.0)), (0.0, 0.0));
    }

    #[test]
    fn what_a_higher_clock_costs_is_as_uncertain_in_every_window_and_cancels_at_a_lower_one() {
        let error = |clocks: &[f32]| {
            let (codes, mut spread) = (CodeCosts::default(), Spread::default());
            for (number, &clock) in clocks.iter().enumerate() {
                let share = Share { clock, ..SHARE };
                let shares = [share, Share { clock: 0.1, ..SHARE }];
                let window = window_of(&codes, number as u32 + 1, Uncertainty::default(), shares);
                spread.add(&window, share);
            }
            spread.half_width() / DEVIATIONS
        };
        // Half a joule each, and half of the difference to the other.
        close(error(&[0.3]), 0.5 * CLOCK_ERROR * f64::from(0.3_f32 - 0.1) / 2.0);
        close(error(&[0.3, 0.3]), 2.0 * error(&[0.3]));
        assert!(error(&[0.3, -0.1]) < 1e-8, "{}", error(&[0.3, -0.1]));
        close(error(&[0.1]), 0.0);
    }

    #[test]
    fn whose_the_unexplained_energy_of_a_window_is_averages_out_and_is_no_matter_to_one_alone() {
        let model = Uncertainty { unexplained_energy: 20_000.0, ..Uncertainty::default() };
        let error = |share: Share| {
            let (codes, mut spread) = (CodeCosts::default(), Spread::default());
            (1..=4).for_each(|n| spread.add(&window(&codes, n, model), share));
            spread.edges.sqrt() * 1e-6
        };
        let code = Code::of(&[1, 0, 1, 1, 0, 0]);
        close(error(Share { code, ..SHARE }), 4.0_f64.sqrt() * 0.02 * 0.5 * 0.5);
        close(error(Share { code, dynamic: 1_000_000, ..SHARE }), 0.0);
        // Without counters all that is unexplained is the deviation, which lasts.
        close(error(SHARE), 0.0);
    }

    #[test]
    fn who_gets_static_energy_in_proportion_does_not_depend_on_how_much_it_is() {
        let model = Uncertainty { static_energy: 40_000.0, ..Uncertainty::default() };
        let (codes, mut spread, mut idle) = (CodeCosts::default(), Spread::default(), Spread::default());
        spread.add(&window(&codes, 1, model), Share { at_idle: 500_000, ..SHARE });
        close(spread.half_width(), 0.0);
        idle.add_static(&window(&codes, 1, model));
        idle.add_static(&WindowSpread { dynamic: 0.0, ..window(&codes, 2, model) });
        close(idle.half_width() / DEVIATIONS, 0.04);
        // What it was then can be subtracted, although more is known now.
        idle.add_static(&window(&codes, 3, Uncertainty { static_energy: 10_000.0, ..model }));
        close(idle.half_width() / DEVIATIONS, 0.05);
    }
}
