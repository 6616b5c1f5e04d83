//! How far off the model may be: standard errors, renewed with every observation. `books/spread.rs` makes the
//! intervals of consumers' energy of them.
//!
//! **Static power** is off as `static_power.rs` says until the observations show it. Then its drift remains,
//! as far as the model's error lets it be seen, and that warmth adds more or less than is assumed, as far as
//! the last seconds do not show that. Of what is predicted too much or too little of dynamic energy, a part
//! goes to idle. **What use costs** depends on the code, which no counter shows. When a consumer comes or
//! goes, power changes by what it draws: what the fit leaves unexplained of such changes, beyond the meter's
//! noise, is how much consumers deviate. **The meter** is early or late, as far as short windows vary more
//! than observations do.
//!
//! A meter that somebody tampers with (noise, steps, filters) leaves more unexplained, and all intervals
//! grow.

use std::f64::consts::SQRT_2;

use super::PowerModel;
use super::constants::{
    DEFAULT_DEVIATION, DEVIATION_SECONDS, EDGE_SPREAD, FEW_PROGRAMS, FIT_REDUNDANCY, LONG_OBSERVATION,
    MAX_DEVIATION, MEAN_TO_STANDARD, METER_EDGE, MIN_DEVIATION, MIN_SIGNAL, STATIC_DRIFT, UNSEEN_DRIFT,
};
use super::correction::Precisions;
use super::difference_fit::Changes;
use super::features::terms;
use super::observation::{Observation, ObservedWindow};

/// Standard errors of what the books take from the model in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Uncertainty {
    /// Of the static energy, µJ.
    pub(crate) static_energy: f64,
    /// Static power without what warmth adds to it, W, and whether it is only expected: the meter has not
    /// shown it yet.
    pub(crate) cold_watts: f64,
    pub(crate) is_static_expected: bool,
    /// Of what a consumer's use costs, as a part of it.
    pub(crate) deviation: f64,
    /// Of the energy that the meter counts to the wrong one of two windows, at an edge, µJ.
    pub(crate) edge_energy: f64,
    /// Of the energy that is drawn because the package was awake, µJ: usage does not say for how long.
    pub(crate) awake_energy: f64,
    /// The part, 0 to 1, of what dynamic energy is predicted too much or too little by that goes to idle.
    pub(crate) to_idle: f64,
    /// How surely the last seconds show that error as a part of dynamic energy: one over its variance.
    pub(crate) dynamic_precision: f64,
    /// Of the energy that is left unexplained in this window alone, µJ: it is not known whose it is.
    pub(crate) unexplained_energy: f64,
}

/// The standard errors as of the last observation.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandardErrors {
    /// Of static power, W; `None` before the first observation.
    static_watts: Option<f64>,
    /// How surely the last seconds show what warmth adds to static power, and what dynamic power is.
    precisions: Precisions,
    deviation: f64,
    /// How often `deviation` was observed.
    observed: f64,
    /// Of the time at which the meter is read, s.
    edge: f64,
    /// Of power over a second, as a part of it, by what is left unexplained of it.
    pub(super) unexplained: f64,
}

impl Default for StandardErrors {
    fn default() -> Self {
        let edge = METER_EDGE.as_secs_f64();
        Self {
            static_watts: None,
            precisions: Precisions::default(),
            deviation: DEFAULT_DEVIATION,
            observed: 0.0,
            edge,
            unexplained: 0.0,
        }
    }
}

impl StandardErrors {
    /// Of the energy of `window`, by what is left unexplained of power, µJ.
    pub(super) fn noise_energy(&self, window: &ObservedWindow) -> f64 {
        let seconds = window.ns.max(1) as f64 * 1e-9;
        self.unexplained * window.microjoules as f64 / seconds.min(1.0).sqrt()
    }
}

impl PowerModel {
    /// The standard errors in `window`.
    pub(crate) fn uncertainty(&self, window: &ObservedWindow) -> Uncertainty {
        let errors = &self.errors;
        let energy = window.microjoules as f64;
        let seconds = window.ns.max(1) as f64 * 1e-9;
        let (static_energy, to_idle) = self.static_energy_and_part(window);
        let static_part = (static_energy / energy.max(1.0)).clamp(0.0, 1.0);
        let dynamic_watts = energy * 1e-6 / seconds * (1.0 - static_part);
        let precision = (self.warmth.error() * dynamic_watts).powi(-2) + errors.precisions.of_static;
        let static_energy = match (errors.static_watts, self.given_watts) {
            (_, Some(_)) => 0.0,
            (Some(watts), None) => watts.hypot(precision.powf(-0.5)) * seconds * 1e6,
            (None, None) => energy * self.prior.static_part_error(window.utilisation()),
        };
        // Static energy takes its part of the meter's error in short windows.
        let dynamic_part = 1.0 - static_part * self.candidate().meter_part();
        let edge = EDGE_SPREAD * errors.edge;
        let edge_energy = energy * dynamic_part * (edge / seconds.max(edge));
        let awake_energy = self.candidate().awake_watts() * window.awake_variance().sqrt() * 1e6;
        let (deviation, unexplained_energy) = (errors.deviation, errors.unexplained * energy);
        let cold_watts = match self.static_power() {
            Some(watts) => watts - self.warmth.watts(),
            None => energy * 1e-6 / seconds * static_part,
        };
        let is_static_expected = self.given_watts.is_none() && !self.is_static_learnt;
        Uncertainty {
            static_energy,
            cold_watts,
            is_static_expected,
            deviation,
            edge_energy,
            awake_energy,
            to_idle,
            dynamic_precision: errors.precisions.of_dynamic,
            unexplained_energy,
        }
    }

    /// Renews the standard errors once an observation, which ended with `window`, is learnt.
    pub(super) fn renew_errors(&mut self, observation: &Observation, window: &ObservedWindow) {
        let candidate = self.candidate();
        let mut errors = self.errors;
        errors.edge = match candidate.window_error() {
            // Two edges make a window's error.
            Some(error) if candidate.meter_part() > 0.0 => {
                let of_meter = MEAN_TO_STANDARD * error * candidate.meter_part().sqrt();
                of_meter * window.ns as f64 * 1e-9 / SQRT_2
            }
            _ => METER_EDGE.as_secs_f64(),
        };
        let noise = |seconds: f64| SQRT_2 * errors.edge / seconds;
        let long = observation.seconds.max(LONG_OBSERVATION.as_secs_f64());
        errors.static_watts = self.static_watts_error(noise(long));
        (errors.precisions, errors.unexplained) = match &candidate.coefficients {
            Some(coefficients) => {
                let expected = self.codes.expected_errors();
                let variance = self.learner.unexplained(coefficients, observation.seconds, 1.0, expected);
                (self.learner.last_seconds().precisions(coefficients, variance), variance.sqrt())
            }
            None => (Precisions::default(), 0.0),
        };
        if let Some(deviation) = self.observed_deviation([observation.seconds, long].map(noise)) {
            errors.observed += 1.0;
            // A geometric mean: the first fits are off by orders of magnitude.
            let part = (observation.seconds / DEVIATION_SECONDS).max(1.0 / errors.observed).min(1.0);
            errors.deviation = errors.deviation.powf(1.0 - part) * deviation.powf(part);
        }
        self.errors = errors;
    }

    /// The standard error of static power, W. `noise` is the meter's in a long observation, as a part of
    /// power.
    fn static_watts_error(&self, noise: f64) -> Option<f64> {
        let known = self.static_error()?;
        if !self.is_static_learnt {
            return Some(known);
        }
        let (Some(watts), Some(recent)) = (self.static_power(), self.learner.recent()) else {
            return Some(known);
        };
        let error = MEAN_TO_STANDARD * self.candidate().long_error();
        let error = (error * error - noise * noise).max(0.0).sqrt() * recent.watts;
        let drift = STATIC_DRIFT * watts;
        let both = error.hypot(drift);
        Some(if both > 0.0 { (UNSEEN_DRIFT * error * drift / both).min(known) } else { 0.0 })
    }

    /// How much consumers deviate from what their use costs, as a part of it; `None` where power changed too
    /// little to show it. `noise` is the meter's, as a part of power, in an observation and in a long one.
    ///
    /// What happens at the edges of an observation, and is no deviation, leaves power unexplained, too: the
    /// meter is late, and usage is taken to be even within a window. Long observations have fewer edges, but
    /// there must have been enough of them.
    fn observed_deviation(&self, noise: [f64; 2]) -> Option<f64> {
        let coefficients = self.candidate().coefficients.as_ref()?;
        let fitted = terms(coefficients);
        let changes = self.learner.changes(coefficients);
        let shown =
            changes.iter().zip(noise).filter_map(|(changes, noise)| deviation(changes, noise, fitted));
        let least = shown.min_by(f64::total_cmp)?;
        Some((FEW_PROGRAMS * least).clamp(MIN_DEVIATION, MAX_DEVIATION))
    }
}

/// The deviation that `changes` show where `fitted` coefficients were fitted to them, as a part of what use
/// costs; `None` if they show none.
fn deviation(changes: &Changes, noise: f64, fitted: f64) -> Option<f64> {
    let of_meter = changes.count * noise * noise;
    if changes.count < FIT_REDUNDANCY * fitted || changes.squares < MIN_SIGNAL * of_meter {
        return None;
    }
    // What was fitted looks better on what it was fitted to than it is on what comes (Akaike's final
    // prediction error).
    let inflation = (changes.count + fitted) / (changes.count - fitted);
    let variance = (changes.unexplained - of_meter - changes.of_awake).max(0.0) * inflation / changes.squares;
    Some(variance.sqrt()).filter(|deviation| deviation.is_finite())
}

#[cfg(test)]
mod tests {
    use wattrace_api::ResourceKind;

    use super::*;
    use crate::amounts::{Amounts, Quantity};
    use crate::config::Weights;
    use crate::model::Learner;

    /// A tenth of a second on two CPUs, of which a consumer used `amounts`, at `watts`.
    fn window(amounts: &Amounts, watts: f64) -> ObservedWindow {
        let idle_ns = 200_000_000 - amounts[Quantity::Time as usize];
        let mut window = ObservedWindow::new((watts * 1e5) as u64, 100_000_000, idle_ns);
        window.add(amounts);
        window
    }

    fn model(given_watts: Option<f64>) -> PowerModel {
        PowerModel::new(Weights::Fitted, &ResourceKind::Package, given_watts, None, Learner::default())
    }

    /// The standard errors after two programs came and went for a minute, of which one costs more than the
    /// other by `difference`, as a part of the mean, and no counter shows it; each reading of the meter is
    /// off by up to `noise`.
    fn after_a_minute(given_watts: Option<f64>, difference: f64, noise: f64) -> Uncertainty {
        let (mut model, mut random) = (model(given_watts), 7_u64);
        let mut last = window(&[0; 6], 10.0);
        for _ in 0..600 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let [busy, expensive, off] = [20, 34, 48].map(|bits| (random >> bits) as u16 as f64 / 65535.0);
            let (time, sign) =
                ((busy * 4.0 - 1.0).floor().max(0.0) * 0.75, if expensive > 0.5 { 1.0 } else { -1.0 });
            let cycles = time * 0.1 * 3e9;
            let amounts = [(time * 1e8) as u64, 0, cycles as u64, (cycles * 1.5) as u64, 0, 0];
            let watts = 10.0 + 20.0 * time * (1.0 + sign * difference / 2.0);
            last = window(&amounts, watts * (1.0 + (2.0 * off - 1.0) * noise));
            model.observe(&last);
        }
        model.uncertainty(&last)
    }

    #[test]
    fn what_no_counter_shows_is_seen_in_the_changes_of_power() {
        for difference in [0.05, 0.2] {
            let deviation = after_a_minute(None, difference, 0.0).deviation;
            let truth = difference / 2.0;
            assert!((0.7..2.0).contains(&(deviation / truth)), "{deviation} for {truth}");
        }
        assert!(after_a_minute(None, 0.0, 0.0).deviation < 0.01);
    }

    #[test]
    fn a_meter_that_is_late_in_short_windows_does_not_look_like_consumers_that_deviate() {
        let (mut model, mut random, mut late_before) = (model(None), 7_u64, 0.0);
        let mut last = window(&[0; 6], 10.0);
        // A program comes and goes every half second for two minutes, in windows of a tenth of a second. The
        // meter counts up to two milliseconds too early or too late at each edge.
        for i in 0..1200 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let time = f64::from(i / 5 % 3) * 0.75;
            let cycles = time * 0.1 * 3e9;
            let amounts = [(time * 1e8) as u64, 0, cycles as u64, (cycles * 1.5) as u64, 0, 0];
            let late = ((random >> 48) as f64 / 65535.0 - 0.5) * 0.04;
            last = window(&amounts, (10.0 + 20.0 * time) * (1.0 + late - late_before));
            late_before = late;
            model.observe(&last);
        }
        let deviation = model.uncertainty(&last).deviation;
        assert!(deviation < 0.012, "{deviation}");
    }

    #[test]
    fn a_part_of_what_is_mispredicted_goes_to_idle_where_the_meter_is_late() {
        let to_idle = |most_late: f64| {
            let (mut model, mut random, mut late_before) = (model(None), 7_u64, 0.0);
            let mut last = window(&[0; 6], 10.0);
            // A program comes and goes every half second, in windows of 10 ms, and runs at the end.
            for i in 0..3000 {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let time = f64::from(i / 50 % 2);
                let cycles = time * 0.01 * 3e9;
                let late = ((random >> 48) as f64 / 65535.0 - 0.5) * most_late;
                let watts = (10.0 + 20.0 * time) * (1.0 + late - late_before);
                late_before = late;
                let idle_ns = ((2.0 - time) * 1e7) as u64;
                last = ObservedWindow::new((watts * 1e4) as u64, 10_000_000, idle_ns);
                last.add(&[(time * 1e7) as u64, 0, cycles as u64, (cycles * 1.5) as u64, 0, 0]);
                model.observe(&last);
            }
            model.uncertainty(&last).to_idle
        };
        // A third of the power is static.
        let (exact, late) = (to_idle(0.0), to_idle(0.2));
        assert!(exact < 0.05 && (0.25..=0.34).contains(&late), "{exact} {late}");
    }

    #[test]
    fn who_ran_when_within_a_window_is_not_known_and_does_not_look_like_consumers_that_deviate() {
        let (mut model, mut random) = (model(None), 7_u64);
        let mut last = window(&[0; 6], 10.0);
        for _ in 0..600 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let [first, second, when] = [20, 34, 48].map(|bits| (random >> bits) as u16 as f64 / 65535.0);
            let parts = [first, second].map(|part| (part * 4.0).floor() / 4.0);
            let (least, most) = (parts[0].max(parts[1]), (parts[0] + parts[1]).min(1.0));
            let awake = least + (most - least) * when;
            let watts = 10.0 + 8.0 * awake + 10.0 * (parts[0] + parts[1]);
            let idle_ns = ((2.0 - parts[0] - parts[1]) * 1e9) as u64;
            last = ObservedWindow::new((watts * 1e6) as u64, 1_000_000_000, idle_ns);
            for part in parts {
                let cycles = part * 3e9;
                last.add(&[(part * 1e9) as u64, 0, cycles as u64, (cycles * 1.5) as u64, 0, 0]);
            }
            model.observe(&last);
        }
        let deviation = model.uncertainty(&last).deviation;
        assert!(deviation < 0.04, "{deviation}");
    }

    #[test]
    fn a_meter_that_is_tampered_with_widens_everything() {
        let (honest, noisy) = (after_a_minute(None, 0.05, 0.0), after_a_minute(None, 0.05, 0.2));
        assert!(noisy.deviation > 3.0 * honest.deviation, "{noisy:?} {honest:?}");
        assert!(noisy.static_energy > honest.static_energy, "{noisy:?} {honest:?}");
        assert!(noisy.unexplained_energy > 3.0 * honest.unexplained_energy, "{noisy:?} {honest:?}");
    }

    #[test]
    fn static_power_that_is_given_has_no_error_and_one_that_is_not_has_much_at_first() {
        assert_eq!(after_a_minute(Some(10.0), 0.05, 0.0).static_energy, 0.0);
        let learnt = after_a_minute(None, 0.05, 0.0).static_energy;
        assert!(learnt < 0.02 * 1e6, "{learnt} of 1 J");
        let first = model(None).uncertainty(&window(&[100_000_000, 0, 0, 0, 0, 0], 30.0));
        assert!(first.static_energy > 0.1 * 3e6, "{first:?} of 3 J");
        assert!(first.is_static_expected && first.cold_watts > 1.0, "{first:?}");
        let [given, learnt] = [Some(10.0), None].map(|watts| after_a_minute(watts, 0.05, 0.0));
        assert!(!given.is_static_expected && !learnt.is_static_expected);
        assert!((learnt.cold_watts - 10.0).abs() < 0.5, "{learnt:?}");
        assert_eq!(first.deviation, DEFAULT_DEVIATION);
    }
}
