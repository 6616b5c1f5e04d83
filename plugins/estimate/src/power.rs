//! What a package draws when idle and when busy: from the configuration where it says, else from the CPU's name.

use std::fs;

use crate::config::EstimateConfig;
use crate::cpuinfo::CpuInfo;
use crate::tdp::{self, Tdp};

/// The idle package's share of the thermal design power. B. Davy, "Building an AWS EC2 Carbon Emissions Dataset" (Teads,
/// 2021), measured servers with RAPL at 0, 10, 50 and 100 % load and found 0.12, 0.32, 0.75 and 1.02 of it.
const IDLE_SHARE: f64 = 0.12;

/// A linear model of a package's power.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Power {
    /// Microwatts when nothing runs.
    pub(crate) idle: u64,
    /// Microwatts when all CPUs are busy; at least `idle`.
    pub(crate) full: u64,
    /// Where the numbers come from, for the log.
    pub(crate) why: String,
}

impl Power {
    /// By `config` and the CPU that its `cpuinfo` tells of.
    pub(crate) fn find(config: &EstimateConfig) -> Self {
        let text = fs::read_to_string(&config.cpuinfo).unwrap_or_else(|e| {
            tracing::warn!(
                path = config.cpuinfo,
                "plugins.estimate.cpuinfo: {e}; set plugins.estimate.tdp_watts instead"
            );
            String::new()
        });
        Self::of(config, &CpuInfo::parse(&text))
    }

    fn of(config: &EstimateConfig, cpu: &CpuInfo) -> Self {
        let (tdp, why) = thermal_design_power(config, cpu);
        let full = if config.full_watts > 0.0 { config.full_watts } else { tdp.max(config.idle_watts) };
        let idle = if config.idle_watts > 0.0 { config.idle_watts } else { IDLE_SHARE * tdp };
        let microwatts = |watts: f64| (watts * 1e6).round() as u64;
        Self { idle: microwatts(idle.min(full)), full: microwatts(full), why }
    }
}

/// Watts, and where they come from.
fn thermal_design_power(config: &EstimateConfig, cpu: &CpuInfo) -> (f64, String) {
    if config.tdp_watts > 0.0 {
        return (config.tdp_watts, "plugins.estimate.tdp_watts".to_owned());
    }
    let (model, cpus) = (&cpu.model, cpu.cpus_per_package());
    match tdp::look_up(model) {
        // A hypervisor lends CPUs one by one, and each guest is taken to draw its part of the whole. On bare metal fewer
        // CPUs than the model has mean that some are switched off, and the package is there alone all the same.
        Some(Tdp::Package { watts, cpus: Some(all) }) if cpu.is_virtual && cpus < f64::from(all) => (
            f64::from(watts) * cpus / f64::from(all),
            format!("{cpus} of the {all} CPUs of {model}, {watts} W"),
        ),
        Some(Tdp::Package { watts, .. }) => (f64::from(watts), format!("{model}, {watts} W")),
        Some(Tdp::PerCpu(watts)) => (watts * cpus, format!("{cpus} CPUs of {model}, {watts} W each")),
        None => {
            let watts = tdp::UNKNOWN_PER_CPU;
            (watts * cpus, format!("{cpus} CPUs of an unknown model \"{model}\", taken as {watts} W each"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn power(config: EstimateConfig, model: &str, cpus: u32, is_virtual: bool) -> Power {
        Power::of(&config, &CpuInfo { model: model.to_owned(), cpus, packages: 2, is_virtual })
    }

    #[test]
    fn the_configuration_wins_over_the_name() {
        let config = EstimateConfig { tdp_watts: 100.0, ..EstimateConfig::default() };
        let found = power(config.clone(), "AMD EPYC 7763 64-Core Processor", 4, true);
        assert_eq!((found.idle, found.full), (12_000_000, 100_000_000));
        let found = power(EstimateConfig { idle_watts: 5.0, full_watts: 80.5, ..config }, "", 4, true);
        assert_eq!((found.idle, found.full), (5_000_000, 80_500_000));
    }

    #[test]
    fn a_guest_has_its_share_and_bare_metal_the_whole() {
        let model = "AMD EPYC 7763 64-Core Processor";
        let watts =
            |cpus, is_virtual| power(EstimateConfig::default(), model, cpus, is_virtual).full / 1_000_000;
        assert_eq!(watts(64, true), 70);
        assert_eq!(watts(64, false), 280);
        assert_eq!(watts(256, true), 280);
    }

    #[test]
    fn without_a_known_model_each_cpu_counts() {
        let found = power(EstimateConfig::default(), "AMD EPYC", 4, true);
        assert_eq!(found.full, 2 * 1_870_000);
        let found = power(EstimateConfig::default(), "Elbrus-8C", 4, false);
        assert_eq!(found.full, (2.0 * tdp::UNKNOWN_PER_CPU * 1e6) as u64);
        assert!(found.why.contains("unknown model \"Elbrus-8C\""), "{}", found.why);
    }

    #[test]
    fn idle_never_exceeds_busy() {
        let found =
            power(EstimateConfig { full_watts: 1.0, ..EstimateConfig::default() }, "AMD EPYC 9654", 4, false);
        assert_eq!((found.idle, found.full), (1_000_000, 1_000_000));
        let found = power(
            EstimateConfig { idle_watts: 900.0, ..EstimateConfig::default() },
            "AMD EPYC 9654",
            4,
            false,
        );
        assert_eq!((found.idle, found.full), (900_000_000, 900_000_000));
    }
}
