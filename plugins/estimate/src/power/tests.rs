//! Which model is selected, and its power under loads.

use super::*;
use crate::profile::tests::profile;

fn cpu(model: &str, cpus: u32, is_virtual: bool) -> CpuInfo {
    CpuInfo { model: model.to_owned(), cpus, packages: 2, is_virtual, ..CpuInfo::default() }
}

fn power(config: EstimateConfig, model: &str, cpus: u32, is_virtual: bool) -> Power {
    Power::from_config(&config, &cpu(model, cpus, is_virtual), 0.0)
}

fn idle_and_full(power: &Power) -> (u64, u64) {
    (power.idle_microwatts(), power.full_microwatts())
}

#[test]
fn the_configuration_takes_precedence_over_the_name() {
    let config = EstimateConfig { tdp_watts: 100.0, ..EstimateConfig::default() };
    let found = power(config.clone(), "AMD EPYC 7763 64-Core Processor", 4, true);
    assert_eq!(idle_and_full(&found), (12_000_000, 100_000_000));
    let found = power(EstimateConfig { idle_watts: 5.0, full_watts: 80.5, ..config }, "", 4, true);
    assert_eq!(idle_and_full(&found), (5_000_000, 80_500_000));
}

#[test]
fn a_guest_has_its_share_of_a_package_and_bare_metal_all_of_it() {
    let model = "AMD EPYC 7763 64-Core Processor";
    let watts = |cpus, is_virtual| {
        idle_and_full(&power(EstimateConfig::default(), model, cpus, is_virtual)).1 / 1_000_000
    };
    assert_eq!(watts(64, true), 70);
    assert_eq!(watts(64, false), 280);
    assert_eq!(watts(256, true), 280);
}

#[test]
fn an_unknown_model_is_estimated_per_cpu() {
    let found = power(EstimateConfig::default(), "AMD EPYC", 4, true);
    assert_eq!(idle_and_full(&found), (2 * 450_000, 2 * 1_870_000));
    let found = power(EstimateConfig::default(), "Elbrus-8C", 4, false);
    assert_eq!(idle_and_full(&found), (2 * 600_000, 2 * 2_800_000));
    assert!(found.origin.contains("an unknown model \"Elbrus-8C\""), "{}", found.origin);
    let arm = |model| CpuInfo { is_arm: true, ..cpu(model, 4, false) };
    let found = Power::from_config(&EstimateConfig::default(), &arm("Neoverse-N9"), 0.0);
    assert_eq!(idle_and_full(&found), (2 * 310_000, 2 * 2_600_000));
    let found = Power::from_config(&EstimateConfig::default(), &arm("Cortex-A53"), 0.0);
    assert_eq!(idle_and_full(&found), (2 * 570_000, 2 * 1_300_000));
}

#[test]
fn idle_power_is_at_most_full_power() {
    let found =
        power(EstimateConfig { full_watts: 1.0, ..EstimateConfig::default() }, "AMD EPYC 9654", 4, false);
    assert_eq!(idle_and_full(&found), (1_000_000, 1_000_000));
    let found =
        power(EstimateConfig { idle_watts: 900.0, ..EstimateConfig::default() }, "AMD EPYC 9654", 4, false);
    assert_eq!(idle_and_full(&found), (900_000_000, 900_000_000));
}

const PACKAGE: &str = "idle_watts = 10\nsmt_factor = 0.6\nfrequency_exponent = 2\n\
    curve = [{ load = 0.5, watts = 70, mhz = 3000 }, { load = 1, watts = 90, mhz = 2000 }]";

fn calibrated(cpus: u32, is_virtual: bool) -> Power {
    let profile = Profile::parse(&profile(8, PACKAGE)).unwrap();
    Power::from_profile(profile, "p", &cpu("Some CPU", 2 * cpus, is_virtual))
}

fn load(busy: u64, shared: Option<u64>, cycles: u64) -> Load {
    Load { busy, total: 1000, shared, cycles }
}

fn assert_watts(power: &Power, load: Load, watts: f64) {
    let found = power.dynamic_watts(&load);
    assert!((found - watts).abs() < 1e-9, "{load:?}: {found} W instead of {watts} W");
}

#[test]
fn a_profile_is_a_curve_over_load() {
    let power = calibrated(8, false);
    assert_eq!(idle_and_full(&power), (10_000_000, 90_000_000));
    for (busy, watts) in [(0, 0.0), (250, 30.0), (500, 60.0), (750, 70.0), (1000, 80.0)] {
        assert_watts(&power, load(busy, None, 0), watts);
    }
    assert_watts(&power, Load::default(), 0.0);
    // Slightly more than all CPU time, as rounding may give.
    assert_watts(&power, load(1001, None, 0), 80.0);
}

#[test]
fn a_cpu_weighs_less_while_its_sibling_is_busy() {
    let power = calibrated(8, false);
    // All CPUs busy is a load of 1; half of them busy, each on a core of its own, is one of 0.5 / 0.6.
    assert_watts(&power, load(1000, Some(1000), 0), 80.0);
    assert_watts(&power, load(300, Some(0), 0), 60.0);
    assert_watts(&power, load(500, Some(500), 0), 60.0);
    assert_watts(&power, load(500, Some(0), 0), 60.0 + 20.0 * (0.5 / 0.6 - 0.5) / 0.5);
}

#[test]
fn a_guest_has_its_share_of_a_profile() {
    assert_eq!(idle_and_full(&calibrated(2, true)), (2_500_000, 22_500_000));
    assert_watts(&calibrated(2, true), load(500, None, 0), 15.0);
    assert_eq!(idle_and_full(&calibrated(2, false)), (10_000_000, 90_000_000));
}

#[test]
fn dynamic_power_follows_the_frequency_up_to_the_package_limit() {
    let power = calibrated(8, false);
    // Half busy, at the 3 GHz of the calibration, and at half of that.
    assert_watts(&power, load(500, None, 1500), 60.0);
    assert_watts(&power, load(500, None, 750), 15.0);
    assert_watts(&power, load(500, None, 1_000_000), 80.0);
    // All busy: 2 GHz. The frequency is interpolated between points too.
    assert_watts(&power, load(1000, None, 1000), 20.0);
    assert_watts(&power, load(750, None, 1875), 70.0);
    assert!(power.knows_frequency());

    let config = EstimateConfig { idle_watts: 10.0, full_watts: 110.0, ..EstimateConfig::default() };
    let table = Power::from_config(&config, &cpu("", 8, false), 2000.0);
    assert_watts(&table, load(500, None, 1000), 50.0);
    assert_watts(&table, load(500, None, 500), 50.0 * 0.5_f64.powf(DEFAULT_EXPONENT));
    let unknown = Power::from_config(&config, &cpu("", 8, false), 0.0);
    assert_watts(&unknown, load(500, None, 500), 50.0);
    assert!(table.knows_frequency() && !unknown.knows_frequency());
}
