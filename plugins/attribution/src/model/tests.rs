//! The model on loads whose power is known.

use super::*;
use crate::amounts::{Amounts, Quantity};
use crate::code::Code;
use crate::model::observation::ObservedWindow;

const SECOND: u64 = 1_000_000_000;

fn model(weights: Weights) -> PowerModel {
    PowerModel::new(weights, &ResourceKind::Package, None, None, Learner::default())
}

/// A second on two CPUs, of which a consumer used `amounts`, at a power of `watts`.
fn load(amounts: &Amounts, watts: f64) -> ObservedWindow {
    let idle_ns = 2 * SECOND - amounts[Quantity::Time as usize];
    let mut window = ObservedWindow::new((watts * 1e6) as u64, SECOND, idle_ns);
    window.add(amounts);
    window
}

/// The weight of a consumer that used `amounts` alone.
fn weight(model: &PowerModel, amounts: &Amounts) -> u64 {
    model
        .weigher(SECOND, [amounts[Quantity::Time as usize]].into_iter())
        .weigh(amounts, None, None, None)
        .weight
}

/// The kind of weights in use.
fn in_use(model: &PowerModel) -> &'static str {
    let mut used = model.candidates().filter(|candidate| candidate.in_use);
    let name = used.next().unwrap().name;
    assert!(used.next().is_none(), "two are in use");
    name
}

/// The amounts of a load at 3 GHz, given its seconds of CPU time and instructions per cycle.
fn amounts(time: f64, ipc: f64) -> Amounts {
    let cycles = time * 3e9;
    [(time * 1e9) as u64, 0, cycles as u64, (cycles * ipc) as u64, 0, 0]
}

#[test]
fn the_fit_finds_the_cost_of_instructions() {
    let mut model = model(Weights::Fitted);
    let power = |time: f64, ipc: f64| 10.0 + time * (5.0 + 4.0 * ipc);
    for i in 0..60u32 {
        let (time, ipc) = (f64::from(i % 5) / 2.5, 0.5 + f64::from(i % 3));
        model.observe(&load(&amounts(time, ipc), power(time, ipc)));
    }
    assert_eq!(in_use(&model), "fitted");
    let weight = |time, ipc| weight(&model, &amounts(time, ipc)) as f64 * 1e-12;
    for (time, ipc) in [(1.0, 0.5), (0.3, 2.5), (2.0, 1.0)] {
        let (found, truth) = (weight(time, ipc), power(time, ipc) - 10.0);
        assert!((found / truth - 1.0).abs() < 0.02, "{found} for {truth}");
    }
    let watts = model.static_power().unwrap();
    assert!((watts - 10.0).abs() < 0.2, "{watts}");
}

#[test]
fn the_first_observation_is_learnt_like_all_others() {
    let mut model = model(Weights::Fitted);
    (0..20).for_each(|_| _ = model.observe(&load(&amounts(0.5, 1.0), 40.0)));
    let [changes, _] = model.learner().changes(&[0.0; features::FEATURES]);
    assert!(changes.squares < 1e-12, "power that never changed did: {changes:?}");
}

#[test]
fn a_fit_that_predicts_worse_than_cpu_time_is_withdrawn() {
    let mut model = model(Weights::Fitted);
    let observe = |model: &mut PowerModel, i: u32, watts: f64| {
        let time = f64::from(i % 5) / 2.5;
        model.observe(&load(&amounts(time, 0.5 + f64::from(i % 3)), watts));
    };
    // At first instructions cost something, for long.
    for i in 0..600 {
        let ipc = 0.5 + f64::from(i % 3);
        observe(&mut model, i, 10.0 + f64::from(i % 5) / 2.5 * (1.0 + 6.0 * ipc));
    }
    assert_eq!(in_use(&model), "fitted");
    // Then the opposite is true, so what was learnt is wrong until new observations outweigh it.
    let mut used = Vec::new();
    for i in 0..40 {
        let ipc = 0.5 + f64::from(i % 3);
        observe(&mut model, i, 10.0 + f64::from(i % 5) / 2.5 * (1.0 + 6.0 * (3.0 - ipc)));
        used.push(in_use(&model));
    }
    assert!(used.contains(&"cpu-time"), "{used:?}");
}

#[test]
fn a_fit_is_not_withdrawn_for_an_error_of_the_level_alone() {
    let mut model = model(Weights::Fitted);
    let power = |time: f64, ipc: f64| 10.0 + time * (5.0 + 4.0 * ipc);
    for i in 0..120u32 {
        let (time, ipc) = (f64::from(i % 5) / 2.5, 0.5 + f64::from(i % 3));
        model.observe(&load(&amounts(time, ipc), power(time, ipc)));
    }
    // A load that hardly varies. A cause that no counter shows makes it draw the power that CPU time
    // predicts.
    let mut withdrawn = 0;
    for i in 0..40u32 {
        let [jitter, noise] = [13, 17].map(|n| f64::from(i * 7919 % n) / f64::from(n - 1) - 0.5);
        let (time, ipc) = (1.5 + 0.01 * jitter, 1.2);
        model.observe(&load(&amounts(time, ipc), power(time, 1.5) + 0.1 * noise));
        withdrawn += u32::from(in_use(&model) != "fitted");
    }
    assert_eq!(withdrawn, 0);
}

#[test]
fn shared_cores_weigh_less_by_a_given_or_learnt_factor() {
    let mut model = model(Weights::Smt);
    let of = |alone: u64, shared: u64| [(alone + shared) * SECOND, shared * SECOND, 0, 0, 0, 0];
    assert_eq!(weight(&model, &of(1, 1)), 2 * SECOND, "no core was shared yet");
    for i in 0..40 {
        let (alone, shared) = ([0.0, 0.5, 1.0, 0.2][i % 4], [0.0, 0.4, 0.0, 1.6][i % 4]);
        let amounts = [((alone + shared) * 1e9) as u64, (shared * 1e9) as u64, 0, 0, 0, 0];
        model.observe(&load(&amounts, 10.0 + 20.0 * alone + 14.0 * shared));
    }
    let both = weight(&model, &of(1, 1)) as f64 / SECOND as f64;
    assert!((both - 1.7).abs() < 0.01, "{both}");
    model.given_smt_factor = Some(0.5);
    assert_eq!(weight(&model, &of(1, 1)), 3 * SECOND / 2);
}

#[test]
fn static_power_follows_its_drift_unless_it_is_given() {
    let line = |i: u32, watts: f64| {
        load(&[u64::from(i % 5) * SECOND / 2, 0, 0, 0, 0, 0], watts + 5.0 * f64::from(i % 5))
    };
    for (fixed, expected) in [(None, 10.3), (Some(9.5), 9.5)] {
        let mut model =
            PowerModel::new(Weights::Fitted, &ResourceKind::Package, fixed, None, Learner::default());
        (0..300).for_each(|i| _ = model.observe(&line(i, 10.0)));
        (0..60).for_each(|i| _ = model.observe(&line(i, 10.3)));
        let watts = model.static_power().unwrap();
        assert!((watts - expected).abs() < 0.05, "{watts}");
    }
}

#[test]
fn the_error_of_a_late_meter_in_short_windows_is_shared_by_static_and_dynamic_energy() {
    let mut model = model(Weights::Fitted);
    let window = |time: f64, watts: f64, late: f64| {
        let second = load(&amounts(time, 1.0), watts);
        ObservedWindow {
            features: second.features.map(|f| f / 100.0),
            microjoules: (second.microjoules as f64 * (0.01 + late)) as u64,
            ns: SECOND / 100,
            busy_ns: second.busy_ns / 100,
            idle_ns: second.idle_ns / 100,
            ..second
        }
    };
    let power = |time: f64| 10.0 + 5.0 * time;
    let error = |model: &PowerModel, late: f64| {
        let microjoules = model.static_energy(&window(1.0, power(1.0), late));
        microjoules / 100_000.0 - 1.0
    };
    // The meter is never late: an error is the load's, which costs more or less for a tenth of a second.
    for i in 0..400 {
        let (time, off) = (f64::from(i / 10 % 5) / 2.5, if i / 10 % 2 == 0 { 0.01 } else { -0.01 });
        model.observe(&window(time, power(time) * (1.0 + off), 0.0));
    }
    assert!(error(&model, 0.0005).abs() < 0.01, "{}", error(&model, 0.0005));
    // The meter is half a millisecond early and late, alternately.
    for i in 0..4000 {
        let (time, late) = (f64::from(i / 10 % 5) / 2.5, if i % 2 == 0 { 0.0005 } else { -0.0005 });
        model.observe(&window(time, power(time), late));
    }
    for late in [0.0005, -0.0005] {
        let part = error(&model, late) / late / 100.0;
        assert!((part - 1.0).abs() < 0.08, "{part} of the delay");
    }
}

#[test]
fn where_hardly_anything_ran_an_error_is_static_and_under_a_load_it_is_dynamic() {
    let mut model = model(Weights::Fitted);
    // Power varies by 0.2 % from second to second.
    for i in 0..200 {
        let (time, off) = (f64::from(i % 5) / 2.5, if i / 5 % 2 == 0 { 0.002 } else { -0.002 });
        model.observe(&load(&amounts(time, 1.0), (10.0 + 5.0 * time) * (1.0 + off)));
    }
    // The part of an error that is static.
    let static_part = |model: &PowerModel, time: f64, off: f64| {
        let energy_at =
            |off| model.static_energy(&load(&amounts(time, 1.0), (10.0 + 5.0 * time) * (1.0 + off)));
        (energy_at(off) - energy_at(0.0)) / ((10.0 + 5.0 * time) * off * 1e6)
    };
    for off in [0.0002, -0.0002] {
        assert!(static_part(&model, 1e-4, off) > 0.8, "{}", static_part(&model, 1e-4, off));
        assert!(static_part(&model, 1.0, off).abs() < 0.01, "{}", static_part(&model, 1.0, off));
    }
    // Much more is drawn than that: a load, whatever was expected of it.
    assert!(static_part(&model, 1e-4, 0.02) < 0.02, "{}", static_part(&model, 1e-4, 0.02));
    // Without such noise, a program that ran for a millisecond is what made the difference.
    let mut quiet = self::model(Weights::Fitted);
    for i in 0..200 {
        let time = f64::from(i % 5) / 2.5;
        quiet.observe(&load(&amounts(time, 1.0), 10.0 + 5.0 * time));
    }
    let (noisy, quiet) = (static_part(&model, 2e-3, 0.0002), static_part(&quiet, 2e-3, 0.0002));
    assert!(noisy > 0.6 && quiet < 0.7 * noisy, "{noisy} {quiet}");
}

#[test]
fn errors_from_before_static_power_was_known_do_not_count_after_it() {
    let mut model = model(Weights::Fitted);
    let observe = |model: &mut PowerModel, time: f64| {
        model.observe(&load(&amounts(time, 1.0), 20.0 + 5.0 * time));
        (model.is_static_learnt, model.candidate().mean_error())
    };
    (0..12).for_each(|_| assert!(!observe(&mut model, 1.9).0));
    // The first time that nothing runs shows how far off what was expected is.
    let (is_learnt, of_expected) = observe(&mut model, 0.0);
    assert!(is_learnt && of_expected > 0.01, "{of_expected}");
    let (_, of_learnt) = observe(&mut model, 1.0);
    assert!(of_learnt < 0.1 * of_expected, "{of_learnt} {of_expected}");
    assert!(model.candidates.iter().all(|c| c.coefficients.is_none() || c.is_scored()));
}

#[test]
fn shared_cycles_cost_less_at_every_frequency() {
    let mut model = model(Weights::Fitted);
    // A second's use at `ghz`, a part of it beside another thread, and its power: two threads share the cost
    // of the clock.
    let used = |ghz: f64, beside: f64| {
        let cycles = ghz * 1e9;
        [SECOND, (beside * 1e9) as u64, cycles as u64, (cycles * 1.2) as u64, 0, 0]
    };
    let clock = |ghz: f64| (0.7 + 0.1 * ghz).powi(2) * ghz;
    let power = |ghz: f64, beside: f64| clock(ghz) * (1.0 - 0.4 * beside) + 0.5 * clock(ghz) * 1.2;
    for i in 0..300u32 {
        let (ghz, beside) = ([2.0, 2.6, 3.2][i as usize % 3], f64::from(i / 3 % 4) / 3.0);
        let (mut load, times) = (load(&used(ghz, beside), 10.0), f64::from(i / 12 % 3));
        load.features = load.features.map(|f| f * times);
        load.microjoules += (times * power(ghz, beside) * 1e6) as u64;
        (load.busy_ns, load.idle_ns) = (times as u64 * SECOND, (2 - times as u64) * SECOND);
        model.observe(&load);
    }
    assert_eq!(in_use(&model), "fitted");
    for ghz in [2.0, 3.2] {
        for beside in [0.0, 1.0] {
            let weight = weight(&model, &used(ghz, beside)) as f64 * 1e-12;
            let truth = power(ghz, beside);
            assert!(
                (weight / truth - 1.0).abs() < 0.02,
                "{weight} for {truth} at {ghz} GHz, {beside} shared"
            );
        }
    }
    // The square of the voltage is 0.81, 0.92 and 1.04, and the mean is that of 2.6 GHz or a little more.
    let of_clock =
        |ghz| model.weigher(SECOND, std::iter::empty()).weigh(&used(ghz, 0.0), None, None, None).clock;
    let [low, high] = [2.0, 3.2].map(of_clock);
    assert!((-0.2..-0.1).contains(&low) && (0.05..0.15).contains(&high), "{low} {high}");
}

#[test]
fn kinds_of_code_are_charged_what_they_cost_beyond_what_counters_show() {
    // Instructions per cycle, misses per thousand instructions, and the part by which they cost more.
    let kinds = [
        (2.0, 0.1, 0.05),
        (1.0, 0.5, -0.08),
        (0.5, 1.0, 0.08),
        (2.0, 3.0, -0.05),
        (1.0, 12.0, 0.08),
        (0.25, 14.0, -0.08),
    ];
    let amounts = |(ipc, misses, _): (f64, f64, f64), part: f64| {
        let instructions = part * 3e9 * ipc;
        [
            (part * 1e9) as u64,
            0,
            (part * 3e9) as u64,
            instructions as u64,
            (instructions * misses / 1e3) as u64,
            0,
        ]
    };
    let power = |kind: (f64, f64, f64), part: f64| {
        let (ipc, misses, more) = kind;
        part * (4.0 + (3.0 * ipc + 0.2 * ipc * misses) * (1.0 + more))
    };
    let (mut model, mut random) = (model(Weights::Fitted), 7_u64);
    for _ in 0..120 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let parts = std::array::from_fn::<_, 6, _>(|i| f64::from((random >> (16 + 8 * i)) as u8 % 4) / 3.0);
        let running = || kinds.into_iter().zip(parts).enumerate().filter(|(_, (_, part))| *part > 0.0);
        let watts = 10.0 + running().map(|(_, (kind, part))| power(kind, part)).sum::<f64>();
        let idle_ns = ((6.0 - parts.iter().sum::<f64>()) * 1e9) as u64;
        let mut window = ObservedWindow::new((watts * 1e6) as u64, SECOND, idle_ns);
        for (slot, (kind, part)) in running() {
            let amounts = amounts(kind, part);
            model.count(&mut window, slot, &amounts, Ran::of(&amounts, None));
        }
        model.observe(&window);
    }
    let weigher = model.weigher(SECOND, std::iter::empty());
    let error = |slot, kind, code: fn(&Amounts) -> Option<Code>| {
        let (amounts, own) = (amounts(kind, 1.0), weigher.own(slot));
        (weigher.weigh(&amounts, code(&amounts), own, None).weight as f64 * 1e-12 / power(kind, 1.0) - 1.0)
            .abs()
    };
    let worst =
        |code| kinds.iter().enumerate().map(|(slot, &kind)| error(slot, kind, code)).fold(0.0, f64::max);
    let (known, unknown) = (worst(Code::of), worst(|_| None));
    assert!(known < 0.01 && unknown > 0.03, "{known} with the kind, {unknown} without");
    // Those that start later have effects of their own at once, all of them.
    let (mut window, amounts) = (ObservedWindow::new(0, SECOND, SECOND), amounts(kinds[0], 1.0));
    for slot in 6..10 {
        model.count(&mut window, slot, &amounts, Ran::of(&amounts, None));
        assert!(model.codes().own(slot).is_some(), "{slot}");
    }
}

/// What a consumer that ran for a tenth of a second weighs beside one that ran for the whole second, as a
/// part of that one's weight; and static power. The machine draws 10 W while nothing runs, so many more while
/// anything does, and 10 W per busy CPU.
fn beside_a_busy_one(kind: &ResourceKind, awake_watts: f64) -> [f64; 2] {
    let mut model = PowerModel::new(Weights::Fitted, kind, None, None, Learner::default());
    let window = |parts: [f64; 2]| {
        let awake = 1.0 - (1.0 - parts[0]) * (1.0 - parts[1]);
        let watts = 10.0 + awake_watts * awake + 10.0 * (parts[0] + parts[1]);
        let idle_ns = ((2.0 - parts[0] - parts[1]) * 1e9) as u64;
        let mut window = ObservedWindow::new((watts * 1e6) as u64, SECOND, idle_ns);
        parts.iter().for_each(|&part| _ = window.add(&amounts(part, 1.0)));
        window
    };
    for i in 0..200 {
        model.observe(&window([[0.0, 1.0, 0.5, 0.0][i % 4], [0.0, 0.0, 0.3, 0.6, 1.0][i % 5]]));
    }
    let weigher = model.weigher(SECOND, [SECOND, SECOND / 10].into_iter());
    let weight = |part| weigher.weigh(&amounts(part, 1.0), None, None, None).weight as f64;
    [weight(0.1) / weight(1.0), model.static_power().unwrap()]
}

#[test]
fn who_keeps_a_package_awake_is_charged_for_it_and_shares_that_with_who_runs_at_the_same_time() {
    // Of the second in which the package is awake the small one keeps it awake for a twentieth.
    let [weight, static_watts] = beside_a_busy_one(&ResourceKind::Package, 8.0);
    let expected = (1.0 + 8.0 * 0.05) / (10.0 + 8.0 * 0.95);
    assert!((weight / expected - 1.0).abs() < 0.02, "{weight} for {expected}");
    assert!((static_watts - 10.0).abs() < 0.4, "{static_watts}");
}

#[test]
fn what_may_be_drift_of_static_power_is_no_sleep_and_only_packages_sleep() {
    for (kind, awake_watts) in [(ResourceKind::Package, 0.5), (ResourceKind::Dram, 8.0)] {
        let [weight, _] = beside_a_busy_one(&kind, awake_watts);
        assert!((weight - 0.1).abs() < 1e-3, "{weight}");
    }
}

#[test]
fn memory_is_divided_by_cache_misses_where_they_are_counted() {
    let mut dram = PowerModel::new(Weights::Cycles, &ResourceKind::Dram, None, None, Learner::default());
    assert_eq!(in_use(&dram), "cpu-time");
    for _ in 0..2 {
        dram.observe(&load(&[SECOND, 0, 5, 5, 1_000_000, 0], 3.0));
    }
    assert_eq!(in_use(&dram), "cache-misses");
    assert_eq!(weight(&dram, &[SECOND, 0, 5, 5, 7, 0]), 7);
}

/// A second whose load is `i` of five steps up to both CPUs, at `watts` at no load and 10 W per busy CPU.
fn step(i: u32, watts: f64) -> ObservedWindow {
    load(&[u64::from(i % 5) * SECOND / 2, 0, 0, 0, 0, 0], watts + 5.0 * f64::from(i % 5))
}

#[test]
fn the_error_of_static_power_falls_as_loads_differ_and_is_zero_where_it_is_given() {
    let mut model = model(Weights::Fitted);
    assert_eq!((model.static_power(), model.static_error()), (None, None));
    let mut errors = Vec::new();
    for i in [2, 2, 2, 0, 1, 3, 4, 0, 2, 4] {
        model.observe(&step(i, 20.0));
        errors.push(model.static_error().unwrap());
    }
    let watts = model.static_power().unwrap();
    assert!((watts - 20.0).abs() < 0.5, "{watts}");
    assert!(errors[0] > 3.0 && errors[2] > 3.0, "one load: {errors:?}");
    assert!(errors[9] < 1.0 && (watts - 20.0).abs() < 2.0 * errors[9], "{errors:?}");
    let kind = &ResourceKind::Package;
    let given = PowerModel::new(Weights::Fitted, kind, Some(9.5), None, Learner::default());
    assert_eq!((given.static_power(), given.static_error()), (Some(9.5), Some(0.0)));
}

#[test]
fn what_an_earlier_run_learnt_is_forgotten_if_the_meter_contradicts_it() {
    let mut earlier = model(Weights::Fitted);
    (0..300).for_each(|i| _ = earlier.observe(&step(i, 10.0)));
    let learnt = earlier.into_learner();
    for watts in [10.0, 50.0] {
        let mut next = PowerModel::new(Weights::Fitted, &ResourceKind::Package, None, None, learnt.clone());
        // Until the first observation it is that of a cold package.
        assert!((next.static_power().unwrap() - 10.0).abs() < 0.2);
        (0..20).for_each(|i| _ = next.observe(&step(i, watts)));
        let found = next.static_power().unwrap();
        assert!((found - watts).abs() < 2.0, "{found} for {watts}");
        assert_eq!(next.learner().observations(), learnt.observations() + 20, "it counts on");
    }
}
