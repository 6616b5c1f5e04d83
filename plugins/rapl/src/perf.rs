//! The kernel's perf interface: the PMU `power` with counters for each package, and `power_core` with
//! counters for each core (AMD). Opens the counters. [`pmu`] reads which there are, [`meter`] reads their
//! values.

mod meter;
mod pmu;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use wattrace_meter::{Period, sysfs};

use crate::domain::{PackageDie, Part, subject};
use crate::meter::{CounterGroup, OpenInterface, Unavailable};
use crate::meter_cpus::{CounterScope, MeterCpus};
use crate::profile;
use meter::{PerfGroupSpec, PerfMeter};
use pmu::{Event, Pmu};

const NO_PMU: &str = "load the driver with `sudo modprobe rapl`; virtual machines seldom have a meter";
const NO_PERMISSION: &str = "run as root, or `sudo setcap cap_perfmon+ep \"$(command -v wattrace)\"`, \
    or `sudo sysctl kernel.perf_event_paranoid=0`";

/// The directory of the interface.
pub(crate) fn directory(sysfs_root: &Path) -> PathBuf {
    sysfs_root.join("bus/event_source/devices/power")
}

/// Opens every event of the PMU `power` below `sysfs_root`, and of `power_core` if `cores`, on every CPU that
/// the PMUs name.
pub(crate) fn open(sysfs_root: &Path, cores: bool) -> Result<OpenInterface, Unavailable> {
    let directory = directory(sysfs_root);
    let mut opening =
        Opening { topology: MeterCpus::below(sysfs_root), opened: OpenInterface::default(), refused: None };
    let pmu = Pmu::find(&directory, &mut opening.opened.warnings)
        .map_err(|reason| Unavailable::new(directory.clone(), reason, NO_PMU))?;
    opening.packages(&directory, &pmu);
    match opening.refused {
        Some((what, e)) if opening.opened.groups.is_empty() => {
            let reason = format!("the kernel refuses {what}");
            return Err(Unavailable::refused(directory, reason, &e, (NO_PERMISSION, NO_PMU)));
        }
        _ => {}
    }
    let directory = directory.with_file_name("power_core");
    if cores && directory.exists() {
        match Pmu::find(&directory, &mut opening.opened.warnings) {
            Ok(pmu) => opening.cores(&directory, &pmu),
            Err(reason) => opening.opened.warnings.push(format!("{}: {reason}", directory.display())),
        }
    }
    Ok(opening.opened)
}

/// Parses the texts of an event, for `fuzzing`.
pub(crate) fn parse(name: &str, terms: &str, scale: &str, unit: &str) -> Result<(), String> {
    Event::parse(name, terms, scale, unit).map(|_| ())
}

/// What has been opened so far.
struct Opening {
    topology: MeterCpus,
    opened: OpenInterface,
    refused: Option<(String, io::Error)>,
}

impl Opening {
    fn packages(&mut self, directory: &Path, pmu: &Pmu) {
        for (nth, cpu) in self.topology.one_per_package(&pmu.cpus, true).into_iter().enumerate() {
            // psys covers all packages: it is read once.
            let events = pmu.events.iter().filter(|event| nth == 0 || event.part != Part::Psys);
            let events: Vec<_> = events.map(|event| (event, event.part.clone())).collect();
            let scope = self.topology.scope_of_package(cpu.number, true);
            let target = Target { cpu: cpu.number, package_die: cpu.package_die, scope };
            self.group(directory, pmu.pmu_type, &events, target);
        }
    }

    fn cores(&mut self, directory: &Path, pmu: &Pmu) {
        for &cpu in &pmu.cpus {
            let package_die = PackageDie { package: self.topology.package(cpu), die: None };
            let siblings = self.topology.core(cpu);
            let lowest = siblings.iter().min().copied().unwrap_or(cpu);
            let events = pmu.events.iter().filter(|event| event.name == "energy-core");
            let events: Vec<_> = events.map(|event| (event, Part::OneCore(lowest))).collect();
            let target = Target { cpu, package_die, scope: CounterScope::Core(siblings) };
            self.group(directory, pmu.pmu_type, &events, target);
        }
    }

    /// Opens those of `events` that the kernel knows as one group.
    fn group(&mut self, directory: &Path, pmu_type: u32, events: &[(&Event, Part)], target: Target) {
        let Target { cpu, package_die, scope } = target;
        let (mut files, mut counters, mut configs): (Vec<File>, Vec<_>, Vec<u64>) = Default::default();
        let origin = sysfs::origin(&directory.join("events"));
        for (event, part) in events {
            match meter::open_event(pmu_type, event.config, cpu, files.first()) {
                Ok(file) => {
                    files.push(file);
                    configs.push(event.config);
                    let subject =
                        subject(part.domain_name(Some(package_die)), part, Some(package_die), origin);
                    counters.push((subject, profile::counter(event.scale, Period::Unknown)));
                }
                Err(e) => {
                    let what = format!("{} on CPU {cpu}: {e}", event.name);
                    self.opened.warnings.push(format!("perf counter left out, the kernel refuses {what}"));
                    self.refused.get_or_insert((what, e));
                }
            }
        }
        if !files.is_empty() {
            let (cpumask, topology) = (directory.join("cpumask"), self.topology.clone());
            let spec = PerfGroupSpec { pmu_type, configs, cpumask, topology, scope };
            let meter = Box::new(PerfMeter::new(files, cpu, spec));
            self.opened.groups.push(CounterGroup { meter, counters });
        }
    }
}

/// The CPU to count on, and what is counted there.
struct Target {
    cpu: u32,
    package_die: PackageDie,
    scope: CounterScope,
}

#[cfg(test)]
mod tests;
