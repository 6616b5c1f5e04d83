//! Tests of `learner.rs`.

use super::*;
use crate::model::constants::MAX_POINTS;

const LINE: [Feature; 1] = [Feature::Time];

fn observation(utilisation: f64, watts: f64) -> Observation {
    let mut rates = [0.0; FEATURES];
    rates[Feature::Always as usize] = 1.0;
    rates[Feature::Time as usize] = utilisation;
    Observation { rates, utilisation, watts, seconds: 0.1, awake_variance: 0.0 }
}

fn static_watts(learner: &Learner) -> Option<f64> {
    learner.fit(&LINE, None, None, 1.0).map(|c| c[Feature::Always as usize])
}

#[test]
fn what_a_late_meter_counts_to_the_next_observation_is_no_noise_and_what_lasts_is_more() {
    let mut coefficients = [0.0; FEATURES];
    coefficients[Feature::Time as usize] = 40.0;
    // Power is off by 1 % of itself, for so many observations in one direction.
    let noise = |lasts: u32| {
        let mut learner = Learner::default();
        for n in 0..600_u32 {
            let utilisation = f64::from(n % 7) / 7.0;
            let off = if (n / lasts).is_multiple_of(2) { 1.01 } else { 0.99 };
            learner.learn(&observation(utilisation, (10.0 + 40.0 * utilisation) * off));
        }
        let unexplained = learner.unexplained(&coefficients, 0.1, 0.1, [0.0; 2]);
        let noise = learner.noise(&coefficients, 0.1, [0.0; 2]);
        assert!((noise.lasting() / unexplained - 1.0).abs() < 1e-9, "{noise:?} {unexplained}");
        (unexplained / 0.01_f64.powi(2), noise.carried)
    };
    let ((late, carried), (lasting, not_carried)) = (noise(1), noise(20));
    assert!(late < 0.3 && (5.0..15.0).contains(&lasting), "{late} {lasting}");
    assert!(carried > 0.5 && not_carried == 0.0, "{carried} {not_carried}");
}

#[test]
fn what_a_meter_adds_to_every_observation_alike_does_not_last() {
    let mut coefficients = [0.0; FEATURES];
    coefficients[Feature::Time as usize] = 40.0;
    let mut learner = Learner::default();
    let mut random = 7_u64;
    let mut uniform = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 40) as f64 / (1_u64 << 24) as f64 - 0.5
    };
    let mut shown_before = 0.0;
    for n in 0..6000_u32 {
        let utilisation = 0.5 + 0.05 * f64::from(n % 3);
        // The meter shows up to 0.4 J too much or too little at an edge; 0.5 % of a second's power lasts.
        let (shown, watts) = (0.8 * uniform(), 10.0 + 40.0 * utilisation);
        let lasting = 0.005 * (12.0_f64 / 0.1).sqrt() * uniform() * watts;
        learner.learn(&observation(utilisation, watts + lasting + (shown - shown_before) / 0.1));
        shown_before = shown;
    }
    let of = |observed: f64| learner.unexplained(&coefficients, observed, 1.0, [0.0; 2]).sqrt();
    let (unknown, known) = (of(1.0), of(0.1));
    assert!(unknown > 1.4 * known && (0.004..0.01).contains(&known), "{unknown} {known}");
}

#[test]
fn what_is_expected_to_be_missed_is_no_noise_and_some_noise_there_always_is() {
    let mut coefficients = [0.0; FEATURES];
    coefficients[Feature::Time as usize] = 40.0;
    let mut learner = Learner::default();
    for n in 0..600_u32 {
        let utilisation = f64::from(n % 7) / 7.0;
        let off = if (n / 20).is_multiple_of(2) { 1.01 } else { 0.99 };
        learner.learn(&observation(utilisation, (10.0 + 40.0 * utilisation) * off));
    }
    let [long, short] = [1.0, 0.1].map(|seconds| learner.unexplained(&coefficients, 1.0, seconds, [0.0; 2]));
    assert!((short / long - 9.9).abs() < 1e-9, "{short} {long}: seconds are independent");
    let missed = learner.changes(&coefficients)[1];
    let of_long = |expected: f64, seconds: f64| {
        learner.unexplained(&coefficients, 1.0, seconds, [0.0, expected * missed.unexplained])
    };
    let half = of_long(0.5, 1.0);
    assert!((half / long - 0.5).abs() < 1e-9, "{half} {long}");
    let none = of_long(2.0, 0.1);
    assert!((none / (MIN_UNEXPLAINED * MIN_UNEXPLAINED) - 9.9).abs() < 1e-9, "{none}");
}

#[test]
fn static_power_is_fitted_once_utilisation_has_varied() {
    let mut learner = Learner::default();
    for _ in 0..20 {
        learner.learn(&observation(0.45, 28.0));
    }
    assert_eq!(static_watts(&learner), None, "one point does not determine a line");
    for u in [0.0, 0.2, 0.8, 1.0, 0.1, 0.5] {
        learner.learn(&observation(u, 10.0 + 40.0 * u));
    }
    let watts = static_watts(&learner).unwrap();
    assert!((watts - 10.0).abs() < 0.05, "{watts}");
}

/// Static power that is learnt on a machine of so many CPUs, where `base` of them are busy all the time
/// and one thread comes and goes, each second, for `seconds`. A CPU draws 4.9 W, the machine 23.6 W at no
/// load, and the meter has 1 % of noise.
fn learnt_beside(cpus: f64, base: f64, seconds: u32) -> Option<f64> {
    let mut learner = Learner::default();
    let mut state = 7_u64;
    for second in 0..seconds {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let noise = ((state >> 33) as f64 / f64::from(u32::MAX >> 1) - 0.5) * 0.035;
        let busy = base + f64::from(second % 2);
        let mut seen = observation(busy / cpus, (23.6 + 4.9 * busy) * (1.0 + noise));
        seen.rates[Feature::Time as usize] = busy;
        learner.learn(&Observation { seconds: 1.0, ..seen });
    }
    static_watts(&learner)
}

#[test]
fn one_thread_that_comes_and_goes_shows_static_power_however_large_the_machine_is() {
    for cpus in [2.0, 8.0, 64.0, 256.0, 1024.0] {
        let watts = learnt_beside(cpus, 0.0, 12).unwrap_or_default();
        assert!((watts - 23.6).abs() < 0.5, "{watts} with {cpus} CPUs");
    }
    assert_eq!(learnt_beside(64.0, 30.0, 60), None, "far from idleness a small change shows little");
}

#[test]
fn a_load_that_only_trembles_shows_nothing() {
    let mut learner = Learner::default();
    for i in 0..2000 {
        let u = 0.468 + 0.002 * f64::from(i % 2);
        learner.learn(&observation(u, 28.0 + 0.3 * f64::from(i % 3 - 1)));
        assert_eq!(static_watts(&learner), None);
    }
}

#[test]
fn idle_observations_are_kept_under_a_load_that_never_varies() {
    let mut learner = Learner::default();
    (0..20).for_each(|_| learner.learn(&observation(0.01, 10.4)));
    (0..5_000).for_each(|_| learner.learn(&observation(0.9, 46.0)));
    let watts = static_watts(&learner).unwrap();
    assert!((watts - 10.0).abs() < 0.1, "{watts}");
}

#[test]
fn static_power_stays_between_zero_and_the_lowest_power() {
    let (mut falling, mut steep) = (Learner::default(), Learner::default());
    for i in 0..50 {
        let u = f64::from(i % 10) / 9.0;
        falling.learn(&observation(u, 30.0 - 10.0 * u));
        steep.learn(&observation(u, (100.0 * u - 20.0).max(0.0)));
    }
    assert_eq!(static_watts(&falling), Some(20.0));
    assert_eq!(static_watts(&steep), Some(0.0));
    let before = falling.fit(&LINE, None, None, 1.0);
    falling.learn(&observation(f64::NAN, 1.0));
    falling.learn(&observation(0.5, f64::INFINITY));
    falling.learn(&observation(0.3, -1.0));
    assert_eq!(falling.fit(&LINE, None, None, 1.0), before, "invalid observations are ignored");
}

#[test]
fn a_meter_that_stood_still_once_does_not_limit_static_power() {
    let mut learner = Learner::default();
    for i in 0..200 {
        let u = f64::from(i % 10) / 9.0;
        learner.learn(&observation(u, 10.0 + 40.0 * u));
    }
    learner.learn(&observation(0.75, 0.0));
    let watts = static_watts(&learner).unwrap();
    assert!((watts - 10.0).abs() < 1.0, "{watts}");
}

#[test]
fn memory_is_bounded_and_survives_serialisation() {
    let mut learner = Learner::default();
    for i in 0..10_000u32 {
        let mut seen = observation(f64::from(i % 17) / 16.0, 10.0);
        seen.rates[Feature::Cycles as usize] = f64::from(i % 97) / 10.0;
        learner.learn(&seen);
    }
    assert!(learner.points.iter().count() <= MAX_POINTS);
    let text = serde_json::to_string(&learner).unwrap();
    let back: Learner = serde_json::from_str(&text).unwrap();
    assert_eq!(back.points.iter().count(), learner.points.iter().count());
    let close = |a: Coefficients, b: Coefficients| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
    assert!(close(back.fit(&LINE, None, None, 1.0).unwrap(), learner.fit(&LINE, None, None, 1.0).unwrap()));
}

/// The cost of a busy CPU, fitted with this weight of levels, on a machine that is busy and idle for
/// minutes and varies within seconds as well, and whose static power rises with its heat.
fn fitted_cost(level_weight: f64) -> f64 {
    let (mut learner, mut heat) = (Learner::default(), 0.0);
    for i in 0..6000 {
        let (minutes, seconds) = (f64::from(i / 1200 % 2), f64::from(i / 7 % 3));
        let busy = minutes * (0.5 + 0.25 * seconds);
        heat += (busy * 20.0 - heat) * 0.1 / 60.0;
        let mut rates = [0.0; FEATURES];
        rates[Feature::Always as usize] = 1.0;
        rates[Feature::Time as usize] = busy;
        let watts = 10.0 + 20.0 * busy + 0.1 * heat;
        learner.learn(&Observation { rates, utilisation: busy, watts, seconds: 0.1, awake_variance: 0.0 });
    }
    learner.fit(&[Feature::Time], None, None, level_weight).unwrap()[Feature::Time as usize]
}

#[test]
fn differences_do_not_take_heat_for_a_cost_of_the_load() {
    let (by_levels, by_differences) = (fitted_cost(1.0), fitted_cost(0.01));
    assert!(by_levels > 20.6, "{by_levels}: the test needs levels to be wrong");
    // A part remains: the package also warms up within the last seconds.
    assert!(
        (by_differences - 20.0).abs() < 0.45 * (by_levels - 20.0),
        "{by_differences}, by levels {by_levels}"
    );
}

#[test]
fn a_level_shows_coefficients_as_well_as_it_was_seen_but_for_what_ran_there() {
    // 10 W without load and 30 W with one, each seen ten times.
    let mut learner = Learner::default();
    (0..20_u32).for_each(|n| {
        let utilisation = f64::from(n % 2);
        learner.learn(&observation(utilisation, 10.0 + 20.0 * utilisation));
    });
    // What the difference of both says of its cost.
    let error = |weight: f64, noise: f64| {
        let levels = learner.levels(weight, noise);
        assert!(levels[Feature::Always as usize].iter().all(|of_static| of_static.abs() < 1e-9));
        levels[Feature::Time as usize][Feature::Time as usize].powf(-0.5)
    };
    let expected = |variance: f64| (10.0_f64.powi(2) * variance + 30.0_f64.powi(2) * variance).sqrt();
    for (weight, noise) in [(1.0, 0.0), (1.0, 1e-4), (0.1, 1e-4)] {
        let expected = expected(noise / (10.0 * weight) + LEVEL_ERROR * LEVEL_ERROR);
        let error = error(weight, noise);
        assert!((error / expected - 1.0).abs() < 1e-3, "{error}, not {expected}");
    }
}
