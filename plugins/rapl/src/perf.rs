//! The kernel's interface of perf counters: the PMU `power`, one for each package, and `power_core`, one for
//! each core (AMD). [`pmu`] reads what they offer, [`group`] reads the counters; here they are opened.

mod group;
mod pmu;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use wattrace_api::Origin;

use crate::counter::Counter;
use crate::domain::{Part, Place, Subject};
use crate::meter::{Group, Opened, Unavailable};
use crate::origin;
use crate::topology::{Reach, Topology};
use group::{CounterGroup, Home};
use pmu::{Event, Pmu};

const NO_PMU: &str = "load the driver with `sudo modprobe rapl`; virtual machines seldom have a meter";
const NO_PERMISSION: &str = "run as root, or `sudo setcap cap_perfmon+ep \"$(command -v wattrace)\"`, or `sudo sysctl kernel.perf_event_paranoid=0`";

/// Where it is looked for.
pub(crate) fn directory(sysfs_root: &Path) -> PathBuf {
    sysfs_root.join("bus/event_source/devices/power")
}

/// Opens every event of the PMU `power` under `sysfs_root`, and of `power_core` if `cores`, on every CPU they
/// name.
pub(crate) fn open(sysfs_root: &Path, cores: bool) -> Result<Opened, Unavailable> {
    let directory = directory(sysfs_root);
    let unavailable = |reason: String, remedy: &str| Unavailable {
        looked_in: directory.clone(),
        reason,
        remedy: remedy.to_owned(),
    };
    let mut opening =
        Opening { topology: Topology::below(sysfs_root), opened: Opened::default(), refused: None };
    let pmu =
        Pmu::find(&directory, &mut opening.opened.caveats).map_err(|reason| unavailable(reason, NO_PMU))?;
    opening.packages(&directory, &pmu);
    match opening.refused {
        Some((what, e)) if opening.opened.groups.is_empty() => {
            let remedy = Unavailable::remedy_of(&e, NO_PERMISSION, NO_PMU);
            return Err(unavailable(format!("the kernel refuses {what}"), remedy));
        }
        _ => {}
    }
    let directory = directory.with_file_name("power_core");
    if cores && directory.exists() {
        match Pmu::find(&directory, &mut opening.opened.caveats) {
            Ok(pmu) => opening.cores(&directory, &pmu),
            Err(reason) => opening.opened.caveats.push(format!("{}: {reason}", directory.display())),
        }
    }
    Ok(opening.opened)
}

/// Reads an event's texts: for `fuzzing`.
pub(crate) fn parse(name: &str, terms: &str, scale: &str, unit: &str) -> Result<(), String> {
    Event::parse(name, terms, scale, unit).map(|_| ())
}

/// What has been opened so far.
struct Opening {
    topology: Topology,
    opened: Opened,
    refused: Option<(String, io::Error)>,
}

impl Opening {
    fn packages(&mut self, directory: &Path, pmu: &Pmu) {
        for (nth, cpu) in self.topology.one_per_place(&pmu.cpus, true).into_iter().enumerate() {
            // psys spans all packages: it is read once.
            let events = pmu.events.iter().filter(|event| nth == 0 || event.part != Part::Psys);
            let events: Vec<_> = events.map(|event| (event, event.part.clone())).collect();
            let reach = self.topology.reach_of_place(cpu.number, true);
            self.group(directory, pmu.kind, &events, cpu.number, cpu.place, reach);
        }
    }

    fn cores(&mut self, directory: &Path, pmu: &Pmu) {
        for &cpu in &pmu.cpus {
            let place = Place { package: self.topology.package(cpu), die: None };
            let siblings = self.topology.core(cpu);
            let lowest = siblings.iter().min().copied().unwrap_or(cpu);
            let events = pmu.events.iter().filter(|event| event.name == "energy-core");
            let events: Vec<_> = events.map(|event| (event, Part::OneCore(lowest))).collect();
            self.group(directory, pmu.kind, &events, cpu, place, Reach::Core(siblings));
        }
    }

    /// Opens those of `events` that the kernel knows as one group.
    fn group(
        &mut self,
        directory: &Path,
        kind: u32,
        events: &[(&Event, Part)],
        cpu: u32,
        place: Place,
        reach: Reach,
    ) {
        let (mut files, mut counters, mut configs): (Vec<File>, Vec<_>, Vec<u64>) = Default::default();
        let origin = self.origin(directory);
        for (event, part) in events {
            match group::open_event(kind, event.config, cpu, files.first()) {
                Ok(file) => {
                    files.push(file);
                    configs.push(event.config);
                    let subject = Subject::new(part.domain_name(Some(place)), part, Some(place), origin);
                    counters.push((subject, Counter::of_counts(event.scale)));
                }
                Err(e) => {
                    let what = format!("{} on CPU {cpu}: {e}", event.name);
                    self.opened.caveats.push(format!("perf counter left out, the kernel refuses {what}"));
                    self.refused.get_or_insert((what, e));
                }
            }
        }
        if !files.is_empty() {
            let (mask, topology) = (directory.join("cpumask"), self.topology.clone());
            let home = Home { kind, configs, mask, topology, reach };
            let reader = Box::new(CounterGroup::new(files, cpu, home));
            self.opened.groups.push(Group { reader, counters });
        }
    }

    fn origin(&self, directory: &Path) -> Origin {
        origin::of_directory(&directory.join("events"))
    }
}

#[cfg(test)]
mod tests;
