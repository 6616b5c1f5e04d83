//! Tests of `code_costs.rs`.

use super::*;
use crate::code::Ran;
use crate::model::features::{FEATURES, Feature};
use crate::model::predicted::ByKind;

/// Three kinds of code.
fn kinds() -> [Code; 3] {
    [1, 4, 16].map(|cycles| Code::of(&[1, 0, cycles, 4, 0, 0]).unwrap())
}

/// A program: the slot of its consumer, the kind of its code, and by which part it costs more.
type Program = (usize, Code, f64);

/// A consumer of each kind.
fn one_of_each(parts: [f64; 3]) -> Vec<Program> {
    kinds().into_iter().zip(parts).enumerate().map(|(slot, (code, part))| (slot, code, part)).collect()
}

/// Coefficients of 10 W per CPU.
fn coefficients() -> Coefficients {
    let mut coefficients = [0.0; FEATURES];
    coefficients[Feature::Time as usize] = 10.0;
    coefficients
}

fn observe(costs: &mut CodeCosts, powers: &Predicted, cpus: f64, watts: f64) {
    observe_beside(&[[0.0; FEATURES]; FEATURES], costs, powers, cpus, watts);
}

/// Levels of power that show [`coefficients`].
fn levels() -> Matrix {
    let mut levels = [[0.0; FEATURES]; FEATURES];
    levels[Feature::Time as usize][Feature::Time as usize] = 10.0;
    levels
}

/// The same where levels of power say this of the coefficients.
fn observe_beside(levels: &Matrix, costs: &mut CodeCosts, powers: &Predicted, cpus: f64, watts: f64) {
    let mut rates = [0.0; FEATURES];
    rates[Feature::Time as usize] = cpus;
    let observation = Observation { rates, utilisation: 0.5, watts, seconds: 0.1, awake_variance: 0.0 };
    costs.add(&observation, powers, 1.0);
    costs.fit(&coefficients(), levels, Noise::of(1e-5, 1e-5));
}

/// Adds so many seconds, in which each of `programs` comes and goes.
fn learn(costs: &mut CodeCosts, programs: &[Program], seconds: u32) {
    let mut random = 7_u64;
    for _ in 0..seconds * 10 {
        let (mut powers, mut cpus, mut watts) = (Predicted::default(), 0.0, 20.0);
        for &(slot, code, part) in programs {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let busy = f64::from((random >> 48) as u16 % 3) / 2.0;
            powers.add(slot, costs.own(slot), Ran::pure(code), 10.0 * busy);
            cpus += busy;
            watts += 10.0 * busy * (1.0 + part);
        }
        observe(costs, &powers, cpus, watts);
    }
}

/// What is learnt in so many seconds from a consumer of each kind, which costs more by `parts`.
fn learnt(parts: [f64; 3], seconds: u32) -> CodeCosts {
    let mut costs = CodeCosts::default();
    learn(&mut costs, &one_of_each(parts), seconds);
    costs
}

/// The standard error of what the consumer in `slot` costs beside that of another in a window of both.
fn error(costs: &CodeCosts, slots: [usize; 2], codes: [Code; 2]) -> f64 {
    let (mut by_code, mut by_own, mut of_small) = (ByCode::default(), ByOwn::default(), 0.0);
    let mut kinds = ByKind::default();
    for (slot, code) in slots.into_iter().zip(codes) {
        by_code.add(code, 0.5);
        if let Some(effect) = costs.kept_effect_of(code) {
            kinds.add(effect, &coefficients().map(|c| c / 100.0), 1.0, 1.0);
        }
        match costs.own(slot) {
            Some(own) => by_own[own.place()] += 0.5,
            None => of_small += costs.of_small(&kinds, code, 0.5),
        }
    }
    costs.variances(&kinds, by_code, &by_own, of_small).of(codes[0], costs.own(slots[0]), 0.5).sqrt()
}

#[test]
fn programs_cost_what_power_changes_by_when_they_come_and_go() {
    // Coefficients that fit all code best are right on average.
    let parts = [0.05, -0.08, 0.03];
    let costs = learnt(parts, 20);
    for (slot, code, part) in one_of_each(parts) {
        let effect = costs.effect(code, costs.own(slot));
        assert!((effect - part).abs() < 0.003, "{effect} for {part}");
    }
    let mut powers = Predicted::default();
    kinds()
        .into_iter()
        .take(2)
        .enumerate()
        .for_each(|(slot, code)| powers.add(slot, costs.own(slot), Ran::pure(code), 10.0));
    assert!((costs.beyond(&powers) - 10.0 * (0.05 - 0.08)).abs() < 0.05, "{}", costs.beyond(&powers));
}

#[test]
fn consumers_of_one_kind_are_distinguished_and_a_new_one_gets_what_the_kind_costs() {
    let [code, other, _] = kinds();
    let mut costs = CodeCosts::default();
    let programs = [(0, code, 0.06), (1, code, 0.04), (2, other, -0.05), (3, other, -0.05)];
    learn(&mut costs, &programs, 30);
    for (slot, code, part) in programs {
        let effect = costs.effect(code, costs.own(slot));
        assert!((effect - part).abs() < 0.004, "{effect} for {part}");
    }
    // The two of the kind end. What they say of it stays, and another one is known less well.
    let before = error(&costs, [0, 2], [code, other]);
    [0, 1].into_iter().for_each(|slot| costs.end_consumer(slot));
    learn(&mut costs, &programs[2..], 1);
    let (effect, after) = (costs.effect(code, costs.own(9)), error(&costs, [9, 2], [code, other]));
    assert!((0.03..0.06).contains(&effect), "{effect}");
    assert!(after > 2.0 * before, "{before} {after}");
}

#[test]
fn of_several_that_start_at_once_the_first_does_not_explain_what_all_of_them_have() {
    let [code, other, _] = kinds();
    let mut costs = CodeCosts::default();
    // One program comes and goes. Then three of another kind, which are alike, start and run all the time.
    for second in 0..44_u32 {
        let (beside, ran) = (f64::from(second % 2), f64::from(u8::from(second >= 40)));
        let mut powers = Predicted::default();
        powers.add(9, costs.own_or_new(9), Ran::pure(other), 10.0 * beside);
        for (slot, cpus) in [(0, 0.5), (1, 0.3), (2, 0.2)].into_iter().filter(|_| ran > 0.0) {
            powers.add(slot, costs.own_or_new(slot), Ran::pure(code), 10.0 * cpus);
        }
        let mut rates = [0.0; FEATURES];
        rates[Feature::Time as usize] = beside + ran;
        let watts = 20.0 + 10.0 * beside + 10.6 * ran;
        let observation = Observation { rates, utilisation: 0.5, watts, seconds: 1.0, awake_variance: 0.0 };
        costs.add(&observation, &powers, 1.0);
        costs.fit(&coefficients(), &[[0.0; FEATURES]; FEATURES], Noise::of(1e-6, 1e-6));
    }
    let [first, second] = [0, 1].map(|slot| costs.effect(code, costs.own(slot)));
    let known = error(&costs, [0, 1], [code; 2]) / (OWN_VARIANCE / 2.0).sqrt();
    // Only their sum is seen, so what they differ by is as unknown as before.
    assert!(known > 0.97 && (first - second).abs() < 0.002, "{first} {second} {known}");
}

#[test]
fn a_program_is_the_less_certain_the_less_it_was_seen_and_alone_it_is_certain() {
    let [a, b, _] = kinds();
    let [unseen, little, much] =
        [0, 1, 20].map(|seconds| error(&learnt([0.05, -0.05, 0.0], seconds), [0, 1], [a, b]));
    // Two consumers of two kinds, of which nothing is known: half of the difference.
    let expected = ((CODE_SPREAD * CODE_SPREAD + OWN_VARIANCE) / 2.0).sqrt();
    assert!((unseen - expected).abs() < 1e-9, "{unseen} {expected}");
    assert!(little < 0.8 * unseen && much < 0.5 * little, "{unseen} {little} {much}");
    let costs = learnt([0.0; 3], 1);
    let (mut by_code, mut by_own) = (ByCode::default(), ByOwn::default());
    by_code.add(a, 1.0);
    let own = costs.own(0).expect("it uses the most");
    by_own[own.place()] = 1.0;
    let mut kinds = ByKind::default();
    kinds.add(costs.kept_effect_of(a).expect("it is kept"), &coefficients().map(|c| c / 100.0), 1.0, 1.0);
    assert!(costs.variances(&kinds, by_code, &by_own, 0.0).of(a, Some(own), 1.0) < 1e-12);
}

#[test]
fn a_second_program_of_a_kind_that_runs_alone_is_right_within_seconds() {
    let mut costs = CodeCosts::default();
    let code = kinds()[0];
    for tenth in 0..600 {
        // One costs what coefficients say, until another takes its place.
        let (slot, part) = if tenth < 560 { (0, 0.0) } else { (1, 0.04) };
        let busy = f64::from(tenth / 20 % 2);
        let mut powers = Predicted::default();
        powers.add(slot, costs.own(slot), Ran::pure(code), 10.0 * busy);
        observe_beside(&levels(), &mut costs, &powers, busy, 20.0 + 10.0 * busy * (1.0 + part));
    }
    let effect = costs.effect(code, costs.own(1));
    assert!((0.03..0.045).contains(&effect), "{effect}");
}

#[test]
fn programs_of_a_kind_that_runs_alone_are_distinguished() {
    let mut costs = CodeCosts::default();
    let code = kinds()[0];
    for second in 0..100 {
        let (slot, watts) = (second / 2 % 2, [10.2, 9.8][second / 2 % 2]);
        let busy = (second % 2) as f64;
        let mut powers = Predicted::default();
        powers.add(slot, costs.own(slot), Ran::pure(code), 10.0 * busy);
        observe(&mut costs, &powers, busy, 20.0 + watts * busy);
    }
    for (slot, part) in [0.02, -0.02].into_iter().enumerate() {
        let effect = costs.effect(code, costs.own(slot));
        assert!((effect - part).abs() < 0.005, "{effect} for {part}");
    }
}

#[test]
fn differences_that_are_larger_than_expected_are_learnt_to_be() {
    assert!(learnt([0.2, -0.2, 0.0], 20).spread > 2.0 * CODE_SPREAD * CODE_SPREAD);
    assert!(learnt([0.001, -0.001, 0.0], 20).spread < CODE_SPREAD * CODE_SPREAD);
}

#[test]
fn mixtures_do_not_say_how_far_kinds_differ() {
    let spread = |is_mixed: bool| {
        let mut costs = CodeCosts::default();
        for tenth in 0..200 {
            let mut powers = Predicted::default();
            let busy = [tenth % 2, tenth / 2 % 2, tenth / 4 % 2].map(|busy| 0.5 + f64::from(busy));
            for (slot, code) in kinds().into_iter().enumerate() {
                let ran = Ran { code, is_mixed: is_mixed && slot > 0 };
                powers.add(slot, costs.own(slot), ran, 10.0 * busy[slot]);
            }
            let cpus = busy.iter().sum::<f64>();
            let watts = 20.0 + 10.0 * cpus + 1.5 * busy[0];
            observe_beside(&levels(), &mut costs, &powers, cpus, watts);
        }
        costs.spread.sqrt()
    };
    // One of three kinds costs 15 % more, and the others are what mixtures cost.
    let (single, mixed) = (spread(false), spread(true));
    assert!(mixed > 1.15 * single, "{mixed} {single}");
}

#[test]
fn the_kind_and_the_consumer_that_cost_the_least_of_late_make_room_for_others() {
    let mut costs = learnt([0.05, -0.08, 0.0], 20);
    let amounts = |n: u32| [1, 0, 1 << 20, 1 << (12 + n % 12), 1 << (10 + n / 12), 0];
    let many = (0..KEPT_CODES as u32).map(|n| Code::of(&amounts(n)));
    for (n, code) in many.map(Option::unwrap).enumerate() {
        let mut powers = Predicted::default();
        let kinds = kinds().into_iter().enumerate();
        kinds.for_each(|(slot, code)| powers.add(slot, costs.own(slot), Ran::pure(code), 10.0));
        // The first are mixtures, and make room.
        powers.add(10 + n, costs.own(10 + n), Ran { code, is_mixed: n < 2 }, 0.1 * n as f64);
        observe(&mut costs, &powers, 3.0, 50.1);
    }
    assert_eq!(costs.codes.len(), KEPT_CODES);
    assert_eq!(costs.mixtures.share(), 0.0, "what others were learnt from is forgotten");
    kinds().into_iter().for_each(|code| assert!(costs.codes.contains(&code), "{code:?} was dropped"));
    (0..3).for_each(|slot| assert!(costs.own(slot).is_some(), "{slot} was dropped"));
    let last = 10 + KEPT_CODES - 1;
    assert!(costs.own(last).is_some() && costs.own(10).is_none());
    assert_eq!((0..=last).filter_map(|slot| costs.own(slot)).count(), KEPT_CONSUMERS);
}

#[test]
fn a_consumer_that_has_ended_leaves_its_number_to_another() {
    let mut costs = learnt([0.05, -0.08, 0.0], 20);
    costs.end_consumer(0);
    assert_eq!(costs.own(0), None);
    let is_ended = |place: &usize| costs.places.at(*place) == Place::Ended;
    let place = (0..KEPT_CONSUMERS).find(is_ended).expect("its place");
    // Until the mean of the last seconds holds nothing of what it drew, its effect is in all changes.
    learn(&mut costs, &one_of_each([0.0, -0.08, 0.0])[1..], 15);
    assert_eq!(costs.places.at(place), Place::Ended);
    learn(&mut costs, &one_of_each([0.0, -0.08, 0.0])[1..], 30);
    assert_eq!((costs.places.at(place), costs.of_own[place]), (Place::Free, 0.0));
    assert_eq!(costs.places.code(place), None);
}

#[test]
fn a_consumer_has_an_effect_of_its_own_from_the_first_and_is_as_uncertain_as_without_one() {
    let [code, other, _] = kinds();
    let mut costs = learnt([0.05, -0.08, 0.0], 20);
    let without = error(&costs, [9, 1], [code, other]);
    assert!(costs.own_or_new(9).is_some());
    let with = error(&costs, [9, 1], [code, other]);
    assert!((with / without - 1.0).abs() < 1e-9, "{with} {without}");
}

#[test]
fn places_are_free_again_after_small_consumers_and_large_ones_keep_theirs_for_a_while() {
    let [code, ..] = kinds();
    let mut costs = CodeCosts::default();
    let observe_all = |costs: &mut CodeCosts, slots: std::ops::Range<usize>, power: f64| {
        let (mut powers, all) = (Predicted::default(), slots.len() as f64 * power);
        slots.for_each(|slot| powers.add(slot, costs.own_or_new(slot), Ran::pure(code), power));
        observe(costs, &powers, all / 10.0, 20.0 + all);
    };
    for slot in 0..3 * KEPT_CONSUMERS {
        assert!(costs.own_or_new(slot).is_some(), "{slot}");
        observe_all(&mut costs, slot..slot + 1, 0.1);
        costs.end_consumer(slot);
    }
    let large = 100..100 + KEPT_CONSUMERS;
    (0..300).for_each(|_| observe_all(&mut costs, large.clone(), 20.0));
    assert!(large.clone().all(|slot| costs.own(slot).is_some()));
    large.for_each(|slot| costs.end_consumer(slot));
    observe_all(&mut costs, 200..201, 0.1);
    assert_eq!(costs.own(200), None);
}

#[test]
fn what_a_consumer_that_has_ended_drew_is_not_taken_for_a_difference_of_the_next_one() {
    let [code, other, _] = kinds();
    let mut costs = CodeCosts::default();
    let programs = [(0, code, 0.06), (1, code, -0.06), (2, other, 0.0)];
    learn(&mut costs, &programs, 40);
    costs.end_consumer(0);
    // Another starts at once, and does not stop.
    for _ in 0..100 {
        let mut powers = Predicted::default();
        powers.add(3, costs.own_or_new(3), Ran::pure(other), 10.0);
        observe(&mut costs, &powers, 1.0, 30.0);
    }
    let effect = costs.effect(other, costs.own(3));
    assert!(effect.abs() < 0.012, "{effect}");
}

/// The effects of two kinds after a minute in which programs of both came and went. Where the first may be a
/// `mixture`, it cost more by 3 % in every second window, and less in the others.
fn after_mixtures(is_mixed: bool) -> CodeCosts {
    let [code, other, _] = kinds();
    let mut costs = CodeCosts::default();
    for second in 0..60_u32 {
        let (busy, beside) = (f64::from(second % 2), f64::from(second / 2 % 2));
        let part = if second / 2 % 2 == 0 { 0.03 } else { -0.03 };
        let mut powers = Predicted::default();
        powers.add(0, costs.own(0), Ran { code, is_mixed }, 10.0 * busy);
        powers.add(1, costs.own(1), Ran::pure(other), 10.0 * beside);
        let mut rates = [0.0; FEATURES];
        rates[Feature::Time as usize] = busy + beside;
        let watts = 20.0 + 10.0 * (busy * (1.0 + part) + beside);
        let observation = Observation { rates, utilisation: 0.5, watts, seconds: 1.0, awake_variance: 0.0 };
        costs.add(&observation, &powers, 1.0);
        costs.fit(&coefficients(), &[[0.0; FEATURES]; FEATURES], Noise::of(1e-6, 1e-6));
    }
    costs
}

#[test]
fn what_may_be_a_mixture_teaches_less_of_its_kind_and_of_programs_that_are_of_it() {
    let [code, other, _] = kinds();
    let [pure, mixed] = [false, true].map(after_mixtures);
    let own = |costs: &CodeCosts| [0, 1].map(|slot| costs.own_variance(costs.own(slot).unwrap().place()));
    assert_eq!(own(&pure), [OWN_VARIANCE; 2]);
    let share = |variance: f64, spread: f64| (variance - OWN_VARIANCE) / (spread * spread);
    let of_own = own(&mixed).map(|variance| share(variance, UNMIXED_SPREAD));
    assert!((0.6..0.8).contains(&of_own[0]), "{of_own:?}: the other changes are those when it did not run");
    assert_eq!(of_own[1], 0.0);
    let effects = [mixed.kept_effect_of(code), mixed.kept_effect_of(other), None];
    let small = effects.map(|effect| share(mixed.small_variance(effect), UNMIXED_SPREAD_OF_SMALL));
    assert!((small[0] - of_own[0]).abs() < 1e-9 && small[1] == 0.0, "{small:?}");
    assert!((0.3..0.4).contains(&small[2]), "{small:?}: the mean where the kind is not known");
    let error = |costs: &CodeCosts| error(costs, [0, 1], [code, other]);
    assert!(error(&mixed) > 1.3 * error(&pure), "{} {}", error(&mixed), error(&pure));
    // What is missed of the mixture is expected: 0.3 W of 30 or 40 W in every second window.
    let [of_pure, of_mixed] = [&pure, &mixed].map(|costs: &CodeCosts| costs.expected_errors()[1]);
    assert!(of_mixed - of_pure > 15.0 * (0.3_f64 / 40.0).powi(2), "{of_pure} {of_mixed}");
}
