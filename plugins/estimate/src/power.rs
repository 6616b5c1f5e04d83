//! What a package draws when idle and when busy: by a calibrated profile, else by the configuration, else by
//! the CPU's name.

use std::fs;
use std::path::Path;

use wattrace_api::Error;

use crate::config::EstimateConfig;
use crate::cpuinfo::CpuInfo;
use crate::fit::load;
use crate::frequency;
use crate::profile::{CurvePoint, DEFAULT_EXPONENT, PackageModel, Profile};
use crate::tdp::{self, PerCpu, Tdp};

/// The idle package's share of the thermal design power. B. Davy, "Building an AWS EC2 Carbon Emissions
/// Dataset" (Teads, 2021), measured servers with RAPL at 0, 10, 50 and 100 % load and found 0.12, 0.32, 0.75
/// and 1.02 of it.
const IDLE_SHARE: f64 = 0.12;

/// A model of one package's power.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Power {
    model: PackageModel,
    /// Most watts above idle: what all CPUs busy draw at the model's own frequency. A package is held to its
    /// design power, so that a higher frequency of some CPUs draws more only while others rest.
    most: f64,
    /// Whether it is to be told in a [`Load`] what was on shared cores.
    pub(crate) shares_cores: bool,
    /// Where the numbers come from, for the log.
    pub(crate) why: String,
}

/// What a package's CPUs did in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// CPU time in use, in nanoseconds.
    pub(crate) busy: u64,
    /// All CPU time.
    pub(crate) total: u64,
    /// The part of `busy` on a shared core; `None`: nothing is said of that.
    pub(crate) shared: Option<u64>,
    /// Cycles in `busy`; 0: not counted.
    pub(crate) cycles: u64,
}

impl Power {
    /// By `config`, its profile and the CPU that its `cpuinfo` tells of.
    ///
    /// # Errors
    /// The profile's.
    pub(crate) fn find(config: &EstimateConfig) -> Result<Self, Error> {
        let text = fs::read_to_string(&config.cpuinfo).unwrap_or_else(|e| {
            tracing::warn!(
                path = config.cpuinfo,
                "plugins.estimate.cpuinfo: {e}; set plugins.estimate.tdp_watts instead"
            );
            String::new()
        });
        let cpu = CpuInfo::parse(&text);
        if !config.profile.is_empty() {
            let profile = Profile::read(Path::new(&config.profile))?;
            return Ok(Self::of_profile(profile, &config.profile, &cpu));
        }
        let nominal =
            if config.nominal_mhz > 0.0 { config.nominal_mhz } else { frequency::nominal_mhz(&cpu) };
        Ok(Self::of(config, &cpu, nominal))
    }

    /// By the CPU's name alone.
    pub(crate) fn of_design(cpu: &CpuInfo) -> Self {
        Self::of(&EstimateConfig::default(), cpu, frequency::nominal_mhz(cpu))
    }

    /// Microwatts at no load.
    pub(crate) fn idle_microwatts(&self) -> u64 {
        microwatts(self.model.idle_watts)
    }

    /// Microwatts when all CPUs are busy.
    pub(crate) fn full_microwatts(&self) -> u64 {
        microwatts(self.model.full_watts())
    }

    /// Whether the model knows the frequency at which its numbers hold, so that others can be told from it.
    pub(crate) fn knows_frequency(&self) -> bool {
        self.model.curve.iter().any(|point| point.mhz > 0.0)
    }

    /// Watts above idle under a load. Without any CPU time (all CPUs offline) there are none.
    pub(crate) fn dynamic_watts(&self, did: &Load) -> f64 {
        if did.total == 0 {
            return 0.0;
        }
        let part = |ns: u64| ns as f64 / did.total as f64;
        let load = load(part(did.busy), did.shared.map(part), self.model.smt_factor).clamp(0.0, 1.0);
        let point = self.model.at(load);
        let at_rest = point.watts - self.model.idle_watts;
        if did.cycles == 0 || did.busy == 0 || point.mhz == 0.0 {
            return at_rest;
        }
        let mhz = did.cycles as f64 * 1e3 / did.busy as f64;
        (at_rest * (mhz / point.mhz).powf(self.model.frequency_exponent)).min(self.most)
    }

    fn with(model: PackageModel, cpu: &CpuInfo, why: String) -> Self {
        let most = model.full_watts() - model.idle_watts;
        Self { most, model, shares_cores: cpu.shares_cores, why }
    }

    /// By a profile, read from `path`.
    pub(crate) fn of_profile(profile: Profile, path: &str, cpu: &CpuInfo) -> Self {
        let Profile { cpu: name, mut package, cpus_per_package: all, .. } = profile;
        let mut why = format!("plugins.estimate.profile {path}, of {name}");
        if cpu.model != name {
            tracing::warn!(
                "plugins.estimate.profile: {path} is of \"{name}\", and this is \"{}\"",
                cpu.model
            );
        }
        let cpus = cpu.cpus_per_package();
        if cpu.is_virtual && cpus < all {
            why = format!("{why}, {cpus} of its {all} CPUs");
            let part = cpus / all;
            package.idle_watts *= part;
            package.curve.iter_mut().for_each(|point| point.watts *= part);
        }
        Self::with(package, cpu, why)
    }

    fn of(config: &EstimateConfig, cpu: &CpuInfo, nominal_mhz: f64) -> Self {
        let (found_idle, found_full, why) = by_design(config, cpu);
        let full =
            if config.full_watts > 0.0 { config.full_watts } else { found_full.max(config.idle_watts) };
        let idle = if config.idle_watts > 0.0 { config.idle_watts } else { found_idle };
        let model = PackageModel {
            idle_watts: idle.min(full),
            residual_watts: 0.0,
            smt_factor: 1.0,
            frequency_exponent: DEFAULT_EXPONENT,
            curve: vec![CurvePoint { load: 1.0, watts: full, mhz: nominal_mhz }],
        };
        Self::with(model, cpu, why)
    }
}

fn microwatts(watts: f64) -> u64 {
    (watts * 1e6).round() as u64
}

/// Watts of one package when idle and when busy, and where they come from.
fn by_design(config: &EstimateConfig, cpu: &CpuInfo) -> (f64, f64, String) {
    let of_tdp = |tdp: f64, why| (IDLE_SHARE * tdp, tdp, why);
    if config.tdp_watts > 0.0 {
        return of_tdp(config.tdp_watts, "plugins.estimate.tdp_watts".to_owned());
    }
    let (model, cpus) = (&cpu.model, cpu.cpus_per_package());
    let of_cpus = |idle: f64, full: f64, what: &str| {
        (idle * cpus, full * cpus, format!("{cpus} CPUs of {what}, {full} W each"))
    };
    match tdp::look_up(model) {
        // A hypervisor lends CPUs one by one, and each guest is taken to draw its part of the whole. On bare
        // metal fewer CPUs than the model has mean that some are switched off, and the package is there alone
        // all the same.
        Some(Tdp::Package { watts, cpus: Some(all) }) if cpu.is_virtual && cpus < f64::from(all) => of_tdp(
            f64::from(watts) * cpus / f64::from(all),
            format!("{cpus} of the {all} CPUs of {model}, {watts} W"),
        ),
        Some(Tdp::Package { watts, .. }) => of_tdp(f64::from(watts), format!("{model}, {watts} W")),
        Some(Tdp::PerCpu(PerCpu { idle, full })) => of_cpus(idle, full, model),
        None => {
            let PerCpu { idle, full } = tdp::unknown(cpu);
            let kind = if cpu.is_arm { "ARM model" } else { "model" };
            of_cpus(idle, full, &format!("an unknown {kind} \"{model}\""))
        }
    }
}

#[cfg(test)]
mod tests;
