//! Known models are recovered from noisy samples; samples without information are refused.

use super::*;

/// Numbers between -1 and 1, the same ones every time.
fn noise() -> impl FnMut() -> f64 {
    let mut seed = 7_u64;
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

fn plain(level: usize, busy: f64, watts: f64) -> Sample {
    Sample { level, busy, shared: None, watts, mhz: None }
}

#[test]
fn a_line_is_recovered_from_noise_and_one_outlier() {
    let mut noise = noise();
    let mut samples = Vec::new();
    for _ in 0..3 {
        for (level, load) in [0.01, 0.26, 0.5, 0.75, 0.995].into_iter().enumerate() {
            let busy = load + 0.004 * noise();
            samples.push(plain(level, busy, (10.0 + 40.0 * busy) * (1.0 + 0.003 * noise())));
        }
    }
    samples[2].watts = 300.0;
    let model = fit(&samples).unwrap();
    assert!((model.idle_watts - 10.0).abs() < 0.1, "{model:?}");
    assert!((model.full_watts() - 50.0).abs() < 0.3, "{model:?}");
    assert!((model.watts(0.5) - 30.0).abs() < 0.3, "{model:?}");
    assert_eq!((model.smt_factor, model.frequency_exponent), (1.0, DEFAULT_EXPONENT));
    // One of fifteen values is off by 270 W, which the residual shows.
    assert!((model.residual_watts - 270.0 / 15_f64.sqrt()).abs() < 1.0, "{model:?}");
}

#[test]
fn a_curve_keeps_its_shape_and_ends_at_full_load() {
    let truth = |load: f64| 12.0 + 60.0 * load.sqrt();
    let samples: Vec<_> =
        [0.0, 0.25, 0.5, 0.75, 0.97].iter().enumerate().map(|(l, &u)| plain(l, u, truth(u))).collect();
    let model = fit(&samples).unwrap();
    assert_eq!(model.idle_watts, 12.0);
    let loads: Vec<f64> = model.curve.iter().map(|p| p.load).collect();
    assert_eq!(loads, [0.25, 0.5, 0.75, 0.97, 1.0]);
    assert!((model.full_watts() - truth(1.0)).abs() < 0.2, "{model:?}");
    assert!(model.residual_watts < 1e-3 && (model.watts(0.5) - truth(0.5)).abs() < 1e-3, "{model:?}");
}

/// A sample with the part `alone` of all CPU time on unshared cores and `shared` on shared ones.
fn smt_sample(level: usize, alone: f64, shared: f64, factor: f64) -> Sample {
    let watts = 20.0 + 160.0 * (alone + factor * shared);
    Sample { level, busy: alone + shared, shared: Some(shared), watts, mhz: None }
}

#[test]
fn time_on_a_shared_core_is_weighted_by_its_power() {
    for factor in [0.5, 0.62, 1.0] {
        // The levels, and two CPUs of each second core instead of one of each.
        let steps = [(0.0, 0.0), (0.25, 0.0), (0.5, 0.0), (0.25, 0.5), (0.0, 1.0), (0.0, 0.5)];
        let samples: Vec<_> = steps
            .iter()
            .enumerate()
            .map(|(l, &(alone, shared))| smt_sample(l, alone, shared, factor))
            .collect();
        let model = fit(&samples).unwrap();
        assert!((model.smt_factor - factor).abs() < 1e-3, "{model:?}");
        assert!((model.full_watts() - (20.0 + 160.0 * factor)).abs() < 0.01, "{model:?}");
        assert!(model.residual_watts < 0.05, "{model:?}");
        // One CPU of each core busy: half of the CPU time, and 1 / 2·factor of the load.
        let half = effective_load(0.5, Some(0.0), factor);
        assert!((model.watts(half.min(1.0)) - 100.0).abs() < 0.1, "{model:?}");
    }
}

#[test]
fn the_exponent_is_fitted_if_frequencies_vary() {
    let mut samples = Vec::new();
    for mhz in [1800.0, 2400.0, 3000.0] {
        for (level, busy) in [0.0, 0.25, 0.5, 0.75, 1.0].into_iter().enumerate() {
            let watts = 8.0 + 30.0 * busy * (mhz / 2400.0_f64).powf(2.3);
            samples.push(Sample { mhz: Some(mhz), ..plain(level, busy, watts) });
        }
    }
    let model = fit(&samples).unwrap();
    assert!((model.frequency_exponent - 2.3).abs() < 0.01, "{model:?}");
    assert!(model.curve.iter().all(|p| p.mhz == 2400.0), "{model:?}");
    let steady: Vec<_> = samples.iter().map(|s| Sample { mhz: Some(2400.0), ..*s }).collect();
    assert_eq!(fit(&steady).unwrap().frequency_exponent, DEFAULT_EXPONENT);
}

#[test]
fn samples_without_information_are_refused() {
    assert!(fit(&[]).unwrap_err().contains("nothing was measured"));
    assert!(fit(&[plain(0, f64::NAN, 1.0)]).unwrap_err().contains("nothing was measured"));
    let busy = [plain(0, 0.8, 40.0), plain(1, 1.0, 50.0)];
    assert!(fit(&busy).unwrap_err().contains("from 80 to 100 % only"));
    let flat = [plain(0, 0.0, 30.0), plain(1, 1.0, 30.0)];
    assert!(fit(&flat).unwrap_err().contains("does not follow the CPUs"));
}

#[test]
fn idle_power_is_between_zero_and_the_lowest_step() {
    let steep = [plain(0, 0.2, 1.0), plain(1, 0.4, 50.0), plain(2, 1.0, 90.0)];
    assert_eq!(fit(&steep).unwrap().idle_watts, 0.0);
    let dip = [plain(0, 0.1, 10.0), plain(1, 0.4, 8.0), plain(2, 1.0, 50.0)];
    let model = fit(&dip).unwrap();
    assert_eq!((model.idle_watts, model.watts(0.4)), (10.0, 10.0), "a profile's curve stays above idle");
}
