//! By how much each kind of code costs more or less than the counters say.
//!
//! What an instruction does is not counted. But programs that look alike to the counters (`code.rs`) are
//! often alike in that, too. So beside the coefficients, which all code has in common, each kind has an
//! *excess*: the part by which it costs more. When programs of a kind come and go, power changes by more or
//! less than the coefficients predict for them. A regression of what is left of these changes gives the
//! excesses:
//!
//! ```text
//! change of power − coefficients · change of features  =  Σ excess(kind) · change of predicted power(kind)
//! ```
//!
//! There are few observations for each kind, so the excesses are expected to be small: normally distributed
//! around 0, with a variance that is learnt, too (a ridge regression, or random effects). What the
//! observations do not determine stays near 0, and the variance that remains says how far off it may be. The
//! model takes the excess from power before coefficients are fitted to it, so both fits share what they
//! explain.

use super::cholesky::Cholesky;
use super::constants::{
    ALONE, CODE_SPREAD, EXPECTED_CODES, INDIVIDUAL_SPREAD, KEPT_CODES, MAX_EXCESS, MIN_CODE_ERROR,
    UNLEARNT_SPREAD,
};
use super::features::{Coefficients, FEATURES, Features};
use super::observation::Observation;
use super::recent::{RecentMean, kept};
use crate::code::{ByCode, Code};

/// A value of each kind of code that is kept.
type Slots = [f64; KEPT_CODES];

/// The excesses, and what they are learnt from.
#[derive(Clone, Debug)]
pub(crate) struct CodeCosts {
    /// The kinds of code that are kept, by slot.
    codes: Vec<Code>,
    /// Sums of products of the kinds' changes of predicted power with each other, with the features' changes
    /// and with power's, as parts of the power that was drawn: errors grow with it.
    products: [Slots; KEPT_CODES],
    with_features: [Features; KEPT_CODES],
    with_watts: Slots,
    /// The mean of the last seconds, once there is one.
    recent: Option<Recent>,
    /// The energy that each kind was predicted to cost in the last seconds, µJ.
    energy: Slots,
    /// The part by which each kind costs more.
    excess: ByCode,
    /// How far off the excesses are: their covariances.
    covariance: [Slots; KEPT_CODES],
    /// The variance of excesses among kinds of code.
    spread: f64,
}

#[derive(Clone, Copy, Debug)]
struct Recent {
    mean: RecentMean,
    powers: Slots,
}

impl Default for CodeCosts {
    fn default() -> Self {
        Self {
            codes: Vec::with_capacity(KEPT_CODES),
            products: [[0.0; KEPT_CODES]; KEPT_CODES],
            with_features: [[0.0; FEATURES]; KEPT_CODES],
            with_watts: [0.0; KEPT_CODES],
            recent: None,
            energy: [0.0; KEPT_CODES],
            excess: ByCode::default(),
            covariance: [[0.0; KEPT_CODES]; KEPT_CODES],
            spread: CODE_SPREAD * CODE_SPREAD,
        }
    }
}

impl CodeCosts {
    /// What kinds of code that are predicted to draw `powers` draw more, in the same unit.
    pub(super) fn beyond(&self, powers: &ByCode) -> f64 {
        powers.dot(&self.excess)
    }

    /// What `code` costs over what is predicted.
    pub(super) fn factor(&self, code: Code) -> f64 {
        1.0 + self.excess.of(code)
    }

    /// Adds an observation, in which kinds of code were predicted to draw `powers`, W. Errors are as large as
    /// at a power of `least` (above 0) where less is drawn.
    pub(super) fn add(&mut self, observation: &Observation, powers: &ByCode, least: f64) {
        let &Observation { rates, watts, seconds, .. } = observation;
        let mut drawn = [0.0; KEPT_CODES];
        for (code, power) in powers.all() {
            drawn[self.slot(code)] = power;
        }
        let keep = kept(seconds);
        self.energy.iter_mut().zip(drawn).for_each(|(sum, watts)| *sum = *sum * keep + watts * seconds * 1e6);
        let Some(recent) = &mut self.recent else {
            self.recent = Some(Recent { mean: RecentMean { rates, watts }, powers: drawn });
            return;
        };
        let weight = recent.mean.weight_beside(watts, least);
        let changes: Slots = std::array::from_fn(|slot| drawn[slot] - recent.powers[slot]);
        let of_features: Features =
            std::array::from_fn(|feature| rates[feature] - recent.mean.rates[feature]);
        let of_watts = watts - recent.mean.watts;
        for (slot, change) in changes.iter().enumerate().take(self.codes.len()) {
            let add = |sum: &mut f64, other: f64| *sum = *sum * keep + weight * change * other;
            add(&mut self.with_watts[slot], of_watts);
            self.with_features[slot].iter_mut().zip(of_features).for_each(|(sum, other)| add(sum, other));
            self.products[slot].iter_mut().zip(changes).for_each(|(sum, other)| add(sum, other));
        }
        recent.mean.follow(observation);
        recent.powers.iter_mut().zip(changes).for_each(|(mean, change)| *mean += change * (1.0 - keep));
    }

    /// Starts again: what was learnt is beside coefficients that are not in use.
    pub(super) fn forget(&mut self) {
        if self.recent.is_some() {
            *self = Self::default();
        }
    }

    /// The slot of `code`. If all are taken, the kind that cost the least of late makes room.
    fn slot(&mut self, code: Code) -> usize {
        if let Some(slot) = self.codes.iter().position(|kept| *kept == code) {
            return slot;
        }
        if self.codes.len() < KEPT_CODES {
            self.codes.push(code);
            return self.codes.len() - 1;
        }
        let least = (0..KEPT_CODES).min_by(|&a, &b| self.energy[a].total_cmp(&self.energy[b])).unwrap_or(0);
        self.excess.set(self.codes[least], 0.0);
        self.codes[least] = code;
        (self.energy[least], self.with_watts[least]) = (0.0, 0.0);
        self.with_features[least] = [0.0; FEATURES];
        self.products[least] = [0.0; KEPT_CODES];
        self.products.iter_mut().for_each(|row| row[least] = 0.0);
        if let Some(recent) = &mut self.recent {
            recent.powers[least] = 0.0;
        }
        least
    }

    /// Fits the excesses to what `coefficients` leave of the changes. `noise` is the variance of what remains
    /// unexplained of an observation's power, as a part of it.
    pub(super) fn fit(&mut self, coefficients: &Coefficients, noise: f64) {
        let kept: Vec<usize> = (0..self.codes.len()).collect();
        let noise = noise.max(MIN_CODE_ERROR * MIN_CODE_ERROR);
        let (mut matrix, mut left) = (self.products, [0.0; KEPT_CODES]);
        for &slot in &kept {
            matrix[slot][slot] += noise / self.spread;
            let predicted = coefficients.iter().zip(self.with_features[slot]).skip(1);
            left[slot] = self.with_watts[slot] - predicted.map(|(c, sum)| c * sum).sum::<f64>();
        }
        let factor = Cholesky::of(&matrix, &kept);
        let found = factor.as_ref().map(|factor| factor.solve(&left));
        let (Some(factor), Some(found)) = (factor, found.filter(|all| all.iter().all(|x| x.is_finite())))
        else {
            // Sums that are not numbers stay so: it starts again.
            *self = Self::default();
            return;
        };
        for &slot in &kept {
            let mut unit = [0.0; KEPT_CODES];
            unit[slot] = noise;
            self.covariance[slot] = factor.solve(&unit);
        }
        // What one kind alone costs is the coefficients' to explain.
        let most = self.energy.iter().copied().fold(0.0, f64::max);
        let is_alone = most >= ALONE * self.energy.iter().sum::<f64>();
        for &slot in &kept {
            let excess = if is_alone { 0.0 } else { found[slot].clamp(-MAX_EXCESS, MAX_EXCESS) };
            self.excess.set(self.codes[slot], excess);
        }
        // The expectation stands for a few kinds of code that were seen before.
        let squares = kept.iter().map(|&slot| found[slot].powi(2) + self.covariance[slot][slot]).sum::<f64>();
        let expected = EXPECTED_CODES * CODE_SPREAD * CODE_SPREAD;
        self.spread = (expected + squares) / (EXPECTED_CODES + kept.len() as f64);
        let unlearnt = self.spread * UNLEARNT_SPREAD.powi(2);
        kept.iter().for_each(|&slot| self.covariance[slot][slot] += unlearnt);
    }

    /// For each kind of code, how far its cost may be off beside that of all in a window, of whose energy
    /// kinds have these `parts`: the variance, as a part of its energy. What is wrong in all of them alike
    /// cancels.
    pub(crate) fn variances_beside(&self, parts: &ByCode) -> ByCode {
        let slot = |code: Code| self.codes.iter().position(|kept| *kept == code);
        let mut with_kept = [0.0; KEPT_CODES];
        for (at, part) in parts.all().filter_map(|(code, part)| Some((slot(code)?, part))) {
            with_kept.iter_mut().zip(self.covariance[at]).for_each(|(sum, c)| *sum += part * c);
        }
        // Nothing is known of kinds that are not kept: they vary as kinds do, each on its own.
        let own = |code| slot(code).map_or(self.spread, |at| self.covariance[at][at]);
        let with_all = |code| slot(code).map_or(parts.of(code) * self.spread, |at| with_kept[at]);
        let of_all: f64 = parts.all().map(|(code, part)| part * with_all(code)).sum();
        let mut variances = ByCode::default();
        for (code, _) in parts.all() {
            variances.set(code, (own(code) - 2.0 * with_all(code) + of_all).max(0.0));
        }
        variances
    }

    /// The variance of the cost of a consumer among those that run the same `code`, as a part of it. Of the
    /// last seconds' energy of that code it used `energy`, µJ: where it was most of it, the code's excess is
    /// its own.
    pub(crate) fn individual_variance(&self, code: Code, energy: f64) -> f64 {
        let of_code = self.codes.iter().position(|kept| *kept == code).map_or(0.0, |slot| self.energy[slot]);
        let others = if of_code > 0.0 { (1.0 - energy / of_code).max(0.0) } else { 1.0 };
        self.spread * (INDIVIDUAL_SPREAD * others).powi(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::features::Feature;

    /// Three kinds of code.
    fn kinds() -> [Code; 3] {
        [1, 4, 16].map(|cycles| Code::of(&[1, 0, cycles, 4, 0, 0]).unwrap())
    }

    /// Coefficients of 10 W per CPU.
    fn coefficients() -> Coefficients {
        let mut coefficients = [0.0; FEATURES];
        coefficients[Feature::Time as usize] = 10.0;
        coefficients
    }

    /// What is learnt in so many seconds, in which each kind of code comes and goes, and costs more by
    /// `parts`.
    fn learnt(parts: [f64; 3], seconds: u32) -> CodeCosts {
        let (mut costs, mut random) = (CodeCosts::default(), 7_u64);
        for _ in 0..seconds * 10 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (mut powers, mut cpus, mut watts) = (ByCode::default(), 0.0, 20.0);
            for ((code, part), bits) in kinds().into_iter().zip(parts).zip([20, 34, 48]) {
                let busy = f64::from((random >> bits) as u16 % 3) / 2.0;
                powers.add(code, 10.0 * busy);
                cpus += busy;
                watts += 10.0 * busy * (1.0 + part);
            }
            let mut rates = [0.0; FEATURES];
            rates[Feature::Time as usize] = cpus;
            let observation =
                Observation { rates, utilisation: 0.5, watts, seconds: 0.1, awake_variance: 0.0 };
            costs.add(&observation, &powers, 1.0);
            costs.fit(&coefficients(), 1e-5);
        }
        costs
    }

    #[test]
    fn kinds_of_code_cost_what_power_changes_by_when_they_come_and_go() {
        let parts = [0.05, -0.08, 0.0];
        let costs = learnt(parts, 20);
        for (code, part) in kinds().into_iter().zip(parts) {
            assert!((costs.factor(code) - 1.0 - part).abs() < 0.003, "{} for {part}", costs.factor(code));
        }
        let mut powers = ByCode::default();
        kinds().into_iter().for_each(|code| powers.add(code, 10.0));
        assert!((costs.beyond(&powers) - 10.0 * (0.05 - 0.08)).abs() < 0.05, "{}", costs.beyond(&powers));
    }

    #[test]
    fn a_kind_is_the_less_certain_the_less_it_was_seen_and_alone_it_is_certain() {
        let mut parts = ByCode::default();
        kinds()[..2].iter().for_each(|&code| parts.add(code, 0.5));
        let variance = |costs: &CodeCosts| costs.variances_beside(&parts).of(kinds()[0]);
        let [unseen, little, much] = [0, 1, 20].map(|seconds| variance(&learnt([0.05, -0.05, 0.0], seconds)));
        assert!((unseen - 0.5 * CODE_SPREAD * CODE_SPREAD).abs() < 1e-9, "{unseen}");
        assert!(little < 0.5 * unseen && much < 0.5 * little, "{unseen} {little} {much}");
        // Other programs of a kind may run now than those that it was learnt from.
        let costs = learnt([0.05, -0.05, 0.0], 100);
        let least = 0.5 * costs.spread * UNLEARNT_SPREAD.powi(2);
        assert!(variance(&costs) > least, "{} {least}", variance(&costs));
        let mut alone = ByCode::default();
        alone.add(kinds()[0], 1.0);
        assert!(learnt([0.0; 3], 1).variances_beside(&alone).of(kinds()[0]) < 1e-12);
    }

    #[test]
    fn a_kind_that_runs_alone_has_no_excess() {
        let mut costs = CodeCosts::default();
        for second in 0..100 {
            let busy = f64::from(second % 2);
            let (mut powers, mut rates) = (ByCode::default(), [0.0; FEATURES]);
            powers.add(kinds()[0], 10.0 * busy);
            rates[Feature::Time as usize] = busy;
            let watts = 20.0 + 11.0 * busy;
            let observation =
                Observation { rates, utilisation: 0.5, watts, seconds: 1.0, awake_variance: 0.0 };
            costs.add(&observation, &powers, 1.0);
            costs.fit(&coefficients(), 1e-5);
        }
        assert_eq!(costs.factor(kinds()[0]), 1.0);
    }

    #[test]
    fn code_that_one_consumer_ran_alone_is_known_as_its_own() {
        let costs = learnt([0.0; 3], 20);
        let of_code = costs.energy[costs.codes.iter().position(|code| *code == kinds()[0]).unwrap()];
        let variance = |energy: f64| costs.individual_variance(kinds()[0], energy);
        assert!(variance(0.0) > 0.0);
        assert!((variance(of_code / 2.0) - variance(0.0) / 4.0).abs() < 1e-9);
        assert_eq!(variance(of_code * 1.1), 0.0);
    }

    #[test]
    fn differences_that_are_larger_than_expected_are_learnt_to_be() {
        assert!(learnt([0.2, -0.2, 0.0], 20).spread > 2.0 * CODE_SPREAD * CODE_SPREAD);
        assert!(learnt([0.001, -0.001, 0.0], 20).spread < CODE_SPREAD * CODE_SPREAD);
    }

    #[test]
    fn the_kind_that_cost_the_least_of_late_makes_room_for_another() {
        let mut costs = learnt([0.05, -0.08, 0.0], 20);
        let many =
            (0..KEPT_CODES as u32).map(|n| Code::of(&[1, 0, 1 << 10, 1 << (n % 12), 1 << (n / 12), 0]));
        for code in many.map(Option::unwrap) {
            let mut powers = ByCode::default();
            kinds().into_iter().for_each(|code| powers.add(code, 10.0));
            powers.add(code, 0.1);
            let rates = [0.0; FEATURES];
            let observation =
                Observation { rates, utilisation: 0.5, watts: 50.1, seconds: 0.1, awake_variance: 0.0 };
            costs.add(&observation, &powers, 1.0);
        }
        assert_eq!(costs.codes.len(), KEPT_CODES);
        kinds().into_iter().for_each(|code| assert!(costs.codes.contains(&code), "{code:?} was dropped"));
    }
}
