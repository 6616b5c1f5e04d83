//! The power model of a package: from a calibrated profile, else from the configuration, else by the CPU's
//! name.

use std::path::Path;

use wattrace_api::Error;
use wattrace_api::files::read_text;

use crate::config::EstimateConfig;
use crate::cpuinfo::CpuInfo;
use crate::fit::effective_load;
use crate::frequency;
use crate::profile::{CurvePoint, DEFAULT_EXPONENT, PackageModel, Profile};
use crate::tdp::{self, PerCpu, Tdp};

/// The idle package's share of the thermal design power. B. Davy, "Building an AWS EC2 Carbon Emissions
/// Dataset" (Teads, 2021), measured servers with RAPL at 0, 10, 50 and 100 % load and found 0.12, 0.32, 0.75
/// and 1.02 of it.
const IDLE_SHARE: f64 = 0.12;

/// About 1.5 kB are written for each CPU.
const MAX_CPUINFO: u64 = 16 << 20;

/// A model of one package's power.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Power {
    model: PackageModel,
    /// Maximum watts above idle: those of all CPUs busy at the model's frequency. A package is limited to its
    /// design power, so a higher frequency of some CPUs adds power only while others are idle.
    max_dynamic: f64,
    /// Whether CPUs share cores, so that [`Load::shared`] is needed.
    pub(crate) shares_cores: bool,
    /// Where the numbers come from, for the log.
    pub(crate) origin: String,
}

/// What a package's CPUs did in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// CPU time in use, in nanoseconds.
    pub(crate) busy: u64,
    /// All CPU time.
    pub(crate) total: u64,
    /// The part of `busy` on a core whose other CPU was busy too; `None`: unknown.
    pub(crate) shared: Option<u64>,
    /// Cycles in `busy`; 0: not counted.
    pub(crate) cycles: u64,
}

impl Power {
    /// The model for `config`, its profile, and the CPU in its `cpuinfo`.
    ///
    /// # Errors
    /// Those of [`Profile::read`].
    pub(crate) fn find(config: &EstimateConfig) -> Result<Self, Error> {
        let text = read_text(Path::new(&config.cpuinfo), MAX_CPUINFO).unwrap_or_else(|e| {
            tracing::warn!(
                path = config.cpuinfo,
                "plugins.estimate.cpuinfo: {e}; set plugins.estimate.tdp_watts"
            );
            String::new()
        });
        let cpu = CpuInfo::parse(&text);
        if !config.profile.is_empty() {
            let profile = Profile::read(Path::new(&config.profile))?;
            return Ok(Self::from_profile(profile, &config.profile, &cpu));
        }
        let nominal =
            if config.nominal_mhz > 0.0 { config.nominal_mhz } else { frequency::nominal_mhz(&cpu) };
        Ok(Self::from_config(config, &cpu, nominal))
    }

    /// The model by the CPU's name alone.
    pub(crate) fn of_cpu(cpu: &CpuInfo) -> Self {
        Self::from_config(&EstimateConfig::default(), cpu, frequency::nominal_mhz(cpu))
    }

    /// Microwatts without load.
    pub(crate) fn idle_microwatts(&self) -> u64 {
        microwatts(self.model.idle_watts)
    }

    /// Microwatts when all CPUs are busy.
    pub(crate) fn full_microwatts(&self) -> u64 {
        microwatts(self.model.full_watts())
    }

    /// Whether the frequency of the model's numbers is known, which power at other frequencies is computed
    /// from.
    pub(crate) fn knows_frequency(&self) -> bool {
        self.model.curve.iter().any(|point| point.mhz > 0.0)
    }

    /// Watts above idle under `load`: 0 if there is no CPU time (all CPUs offline).
    pub(crate) fn dynamic_watts(&self, load: &Load) -> f64 {
        if load.total == 0 {
            return 0.0;
        }
        let part = |ns: u64| ns as f64 / load.total as f64;
        let utilisation = effective_load(part(load.busy), load.shared.map(part), self.model.smt_factor);
        let point = self.model.at(utilisation.clamp(0.0, 1.0));
        let at_model_frequency = point.watts - self.model.idle_watts;
        if load.cycles == 0 || load.busy == 0 || point.mhz == 0.0 {
            return at_model_frequency;
        }
        let mhz = load.cycles as f64 * 1e3 / load.busy as f64;
        let scaled = at_model_frequency * (mhz / point.mhz).powf(self.model.frequency_exponent);
        scaled.min(self.max_dynamic)
    }

    fn new(model: PackageModel, cpu: &CpuInfo, origin: String) -> Self {
        let max_dynamic = model.full_watts() - model.idle_watts;
        Self { max_dynamic, model, shares_cores: cpu.shares_cores, origin }
    }

    /// The model of a profile that was read from `path`.
    pub(crate) fn from_profile(profile: Profile, path: &str, cpu: &CpuInfo) -> Self {
        let Profile { cpu: name, mut package, cpus_per_package: all, .. } = profile;
        let mut origin = format!("plugins.estimate.profile {path}, of {name}");
        if cpu.model != name {
            tracing::warn!(
                "plugins.estimate.profile: {path} is of \"{name}\", and this is \"{}\"",
                cpu.model
            );
        }
        let cpus = cpu.cpus_per_package();
        if cpu.is_virtual && cpus < all {
            origin = format!("{origin}, {cpus} of its {all} CPUs");
            let part = cpus / all;
            package.idle_watts *= part;
            package.curve.iter_mut().for_each(|point| point.watts *= part);
        }
        Self::new(package, cpu, origin)
    }

    fn from_config(config: &EstimateConfig, cpu: &CpuInfo, nominal_mhz: f64) -> Self {
        let (found_idle, found_full, found) = design_power(config, cpu, nominal_mhz);
        let (full, full_idle, origin) = if config.full_watts > 0.0 {
            let full = config.full_watts;
            (full, IDLE_SHARE * full, "plugins.estimate.full_watts".to_owned())
        } else {
            (found_full.max(config.idle_watts), found_idle, found)
        };
        let idle = if config.idle_watts > 0.0 { config.idle_watts } else { full_idle };
        let model = PackageModel {
            idle_watts: idle.min(full),
            residual_watts: 0.0,
            smt_factor: 1.0,
            frequency_exponent: DEFAULT_EXPONENT,
            curve: vec![CurvePoint { load: 1.0, watts: full, mhz: nominal_mhz }],
        };
        Self::new(model, cpu, origin)
    }
}

fn microwatts(watts: f64) -> u64 {
    (watts * 1e6).round() as u64
}

/// Watts of one package when idle and when busy, and the origin of these numbers.
fn design_power(config: &EstimateConfig, cpu: &CpuInfo, nominal_mhz: f64) -> (f64, f64, String) {
    let of_tdp = |tdp: f64, origin| (IDLE_SHARE * tdp, tdp, origin);
    if config.tdp_watts > 0.0 {
        return of_tdp(config.tdp_watts, "plugins.estimate.tdp_watts".to_owned());
    }
    if cpu.is_arm && !cpu.kinds.is_empty() {
        return of_kinds(cpu);
    }
    let (model, cpus) = (&cpu.model, cpu.cpus_per_package());
    let of_cpus = |PerCpu { idle, full }: PerCpu, what: &str| {
        (idle * cpus, full * cpus, format!("{cpus} CPUs of {what}, {full} W each"))
    };
    match tdp::look_up(model) {
        // A guest that has some of a package's CPUs is assumed to draw that share of its power. On bare metal
        // fewer CPUs than the model has mean that some are offline: the package draws its own power anyway.
        Some(Tdp::Package { watts, cpus: Some(all) }) if cpu.is_virtual && cpus < f64::from(all) => of_tdp(
            f64::from(watts) * cpus / f64::from(all),
            format!("{cpus} of the {all} CPUs of {model}, {watts} W"),
        ),
        // A guest may show each CPU as a package of its own: all of them are at most one.
        Some(Tdp::Package { watts, cpus: None }) if cpu.is_virtual && cpu.packages > 1 => {
            let packages = cpu.packages;
            of_tdp(
                f64::from(watts) / f64::from(packages),
                format!("one of {packages} parts of {model}, {watts} W"),
            )
        }
        Some(Tdp::Package { watts, .. }) => of_tdp(f64::from(watts), format!("{model}, {watts} W")),
        Some(Tdp::PerCpu { family: "Xeon", .. }) if !cpu.is_virtual && nominal_mhz > 0.0 => {
            let watts = tdp::xeon(cpus, nominal_mhz);
            let guess = format!("a guess by its family (Xeon), {cpus} CPUs and {nominal_mhz} MHz");
            of_tdp(watts, format!("{model}: {watts:.0} W, {guess}"))
        }
        Some(Tdp::PerCpu { family, watts }) => {
            of_cpus(watts, &format!("{model}, a guess by its family ({family})"))
        }
        None => {
            let kind = if cpu.is_arm { "ARM model" } else { "model" };
            of_cpus(tdp::unknown(cpu.is_arm, model), &format!("an unknown {kind} \"{model}\""))
        }
    }
}

/// The same for a package of ARM cores, of which there may be several kinds (big.LITTLE).
fn of_kinds(cpu: &CpuInfo) -> (f64, f64, String) {
    let (mut idle, mut full, mut parts) = (0.0, 0.0, Vec::new());
    for kind in &cpu.kinds {
        let (watts, cpus) = (kind.watts(), f64::from(kind.cpus));
        idle += watts.idle * cpus;
        full += watts.full * cpus;
        let name =
            if kind.name.is_empty() { format!("unknown part {}", kind.ids.1) } else { kind.name.into() };
        parts.push(format!("{cpus} CPUs of {name}, {} W each", watts.full));
    }
    let packages = f64::from(cpu.packages.max(1));
    (idle / packages, full / packages, parts.join(", and "))
}

#[cfg(test)]
mod tests;
