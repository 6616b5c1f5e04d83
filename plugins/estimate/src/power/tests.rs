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

/// As the user's guide and the template of the configuration say it.
#[test]
fn idle_power_is_12_percent_of_full_power_unless_it_is_given_or_known_of_the_family() {
    let of = |config: EstimateConfig, model| idle_and_full(&power(config, model, 4, true));
    let given = |full_watts| EstimateConfig { full_watts, ..EstimateConfig::default() };
    for model in ["AMD EPYC", "AMD EPYC 7763 64-Core Processor", ""] {
        assert_eq!(of(given(100.0), model), (12_000_000, 100_000_000), "{model}");
    }
    let tdp = EstimateConfig { tdp_watts: 50.0, ..EstimateConfig::default() };
    assert_eq!(of(tdp, "AMD EPYC"), (6_000_000, 50_000_000));
    // Two of 128 CPUs of 280 W, and two CPUs of a family.
    assert_eq!(of(given(0.0), "AMD EPYC 7763 64-Core Processor"), (525_000, 4_375_000));
    assert_eq!(of(given(0.0), "AMD EPYC"), (900_000, 3_740_000));
}

#[test]
fn a_guest_with_many_packages_draws_no_more_than_one_of_the_model_has() {
    let total = |model: &str| {
        let cpu = CpuInfo { packages: 8, ..cpu(model, 8, true) };
        let found = Power::from_config(&EstimateConfig::default(), &cpu, 0.0);
        (8 * idle_and_full(&found).1) as f64 / 1e6
    };
    assert_eq!(total("Intel Core Processor (Broadwell)"), 8.0 * 3.54);
    assert_eq!(total("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz"), 15.0);
    assert_eq!(total("AMD EPYC 7763 64-Core Processor"), 8.0 / 128.0 * 280.0);
}

#[test]
fn a_xeon_that_is_not_in_the_table_is_a_guess_by_family_that_says_so() {
    let found = |model: &str, mhz| {
        let cpu = CpuInfo { packages: 1, ..cpu(model, 8, false) };
        let found = Power::from_config(&EstimateConfig::default(), &cpu, mhz);
        (idle_and_full(&found).1 / 1_000_000, found.origin)
    };
    assert_eq!(found("Intel(R) Xeon(R) Gold 5222 CPU @ 3.80GHz", 3800.0).0, 105);
    let (watts, origin) = found("Intel(R) Xeon(R) Gold 5299 CPU @ 3.80GHz", 3800.0);
    assert_eq!(watts, 94);
    assert!(origin.contains("95 W, a guess by its family (Xeon), 8 CPUs and 3800 MHz"), "{origin}");
    let (watts, origin) = found("Intel(R) Xeon(R) Gold 9999", 0.0);
    assert_eq!(watts, 30);
    assert!(origin.contains("a guess by its family (Xeon)"), "{origin}");
}

#[test]
fn the_kinds_of_a_big_little_chip_are_added_up() {
    let found = |model: &str, parts: &[&str]| {
        let cpu = CpuInfo::parse(&crate::cpuinfo::tests::arm(model, parts));
        let found = Power::from_config(&EstimateConfig::default(), &cpu, 0.0);
        (idle_and_full(&found), found.origin)
    };
    let parts = ["0xd05", "0xd05", "0xd05", "0xd05", "0xd0b", "0xd0b", "0xd0b", "0xd0b"];
    let (watts, origin) = found("", &parts);
    assert_eq!(watts, (8 * 570_000, 8 * 1_300_000));
    assert_eq!(origin, "4 CPUs of Cortex-A55, 1.3 W each, and 4 CPUs of Cortex-A76, 1.3 W each");
    assert_eq!(found("ARMv8 Processor rev 1 (v8l)", &["0xd07"; 4]).0, (4 * 570_000, 4 * 1_300_000));
    assert_eq!(found("ARMv7 Processor rev 5 (v7l)", &["0xc07"; 4]).0, (4 * 570_000, 4 * 1_300_000));
    // A server's cores beside small ones, and a part that is not known.
    let (watts, origin) = found("", &["0xd4f", "0xd80", "0xfff"]);
    assert_eq!(watts, (420_000 + 570_000 + 310_000, 3_500_000 + 1_300_000 + 2_600_000));
    assert!(origin.ends_with("1 CPUs of unknown part 0xfff, 2.6 W each"), "{origin}");
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
    let config = EstimateConfig { tdp_watts: 100.0, full_watts: 1.0, idle_watts: 5.0, ..Default::default() };
    assert_eq!(idle_and_full(&power(config, "AMD EPYC 9654", 4, false)), (1_000_000, 1_000_000));
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
