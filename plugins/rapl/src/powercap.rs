//! The kernel's interface of files: `class/powercap/intel-rapl:0/energy_uj`, one file per counter, in
//! microjoules. [`zones`] says which directories are counters of what, [`file`] reads one; here the two are
//! put together.

pub(crate) mod file;
pub(crate) mod zones;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use wattrace_api::Origin;

use crate::counter::Counter;
use crate::domain::Subject;
use crate::meter::{Group, Opened, Unavailable};
use crate::origin;
use crate::topology::Topology;
use crate::x86::{Cpu, Vendor};
use file::CounterFile;
use zones::{Found, Zone};

const NO_ZONES: &str = "load the driver with `sudo modprobe intel_rapl_msr` (it serves AMD too); virtual machines seldom have a meter";
const NO_PERMISSION: &str = "run as root, or `sudo setcap cap_dac_read_search+ep \"$(command -v wattrace)\"`, or `sudo chmod a+r /sys/class/powercap/*/energy_uj`";

/// Where it is looked for.
pub(crate) fn directory(sysfs_root: &Path) -> PathBuf {
    sysfs_root.join("class/powercap")
}

/// Opens every counter under `sysfs_root`.
pub(crate) fn open(sysfs_root: &Path) -> Result<Opened, Unavailable> {
    let class = directory(sysfs_root);
    let unavailable = |reason: String, remedy: &str| Unavailable {
        looked_in: class.clone(),
        reason,
        remedy: remedy.to_owned(),
    };
    let found = find(&class).map_err(|e| unavailable(format!("no powercap: {e}"), NO_ZONES))?;
    let zones = zones::arrange(found, lone_core(sysfs_root));
    if zones.is_empty() {
        return Err(unavailable("no powercap zone with an energy_uj".to_owned(), NO_ZONES));
    }
    let real = origin::of_directory(&class) == Origin::Measured;
    let (mut opened, mut refused) = (Opened::default(), None);
    for zone in zones {
        if let Err(e) = open_zone(&zone, real, &mut opened) {
            let reason = format!("{}: {e}", zone.path.join("energy_uj").display());
            opened.caveats.push(format!("left out, cannot be opened: {reason}; {NO_PERMISSION}"));
            refused.get_or_insert(reason);
        }
    }
    match refused {
        Some(reason) if opened.groups.is_empty() => Err(unavailable(reason, NO_PERMISSION)),
        _ => Ok(opened),
    }
}

/// On AMD the kernel's zone `core` reads the register that each core has of its own on one CPU of the
/// package, the first that came online (`rp->lead_cpu` in the kernel's `intel_rapl_common.c`): it is that
/// core's, and not all cores'.
fn lone_core(sysfs_root: &Path) -> impl Fn(u32) -> Option<u32> {
    let amd = Cpu::of(sysfs_root).is_some_and(|cpu| cpu.vendor == Vendor::Amd);
    let topology = Topology::below(sysfs_root);
    let online = if amd { topology.online() } else { Vec::new() };
    move |package| online.iter().copied().filter(|&cpu| topology.package(cpu) == package).min()
}

fn open_zone(zone: &Zone, real: bool, opened: &mut Opened) -> io::Result<()> {
    let path = zone.path.join("energy_uj");
    let file = File::open(&path)?;
    let origin = if real { origin::of_files([&file]) } else { Origin::Simulated };
    let max =
        fs::read_to_string(zone.path.join("max_energy_range_uj")).ok().and_then(|t| t.trim().parse().ok());
    if max.is_none() {
        let zone = zone.path.display();
        opened.caveats.push(format!(
            "{zone}: no readable max_energy_range_uj: should its counter wrap, that window's joules are lost"
        ));
    }
    let subject = Subject::new(zone.domain.clone(), &zone.part, zone.place, origin);
    let reader = Box::new(CounterFile::new(path, file, max));
    opened.groups.push(Group { reader, counters: vec![(subject, Counter::of_microjoules(max))] });
    Ok(())
}

/// Every directory that has an `energy_uj`. In sysfs they all stand side by side (as links) in `class`, and
/// children also in their parents; which of the two a stand-in copies doesn't matter.
fn find(class: &Path) -> io::Result<Vec<Found>> {
    let mut found = BTreeMap::new();
    let mut level = vec![class.to_owned()];
    while !level.is_empty() {
        let mut below = Vec::new();
        for directory in level {
            let entries = match fs::read_dir(&directory) {
                Err(e) if directory == class => return Err(e),
                entries => entries.into_iter().flatten().flatten(),
            };
            let parent = directory.file_name().unwrap_or_default().to_string_lossy();
            for entry in entries {
                let name = entry.file_name().to_string_lossy().into_owned();
                // Below a zone only its own children count: sysfs has links (`device`, `subsystem`) back up
                // there.
                let child = name.strip_prefix(&*parent).is_some_and(|rest| rest.starts_with(':'));
                if (child || directory == class) && entry.path().is_dir() {
                    found.entry(name).or_insert_with(|| entry.path());
                    below.push(entry.path());
                }
            }
        }
        level = below;
    }
    let metered = found.into_iter().filter(|(_, path)| path.join("energy_uj").exists());
    Ok(metered
        .map(|(directory, path)| Found { name: zone_name(&path, &directory), directory, path })
        .collect())
}

/// What the zone calls itself, or its directory's name where it is silent.
fn zone_name(path: &Path, directory: &str) -> String {
    match fs::read_to_string(path.join("name")) {
        Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => directory.to_owned(),
    }
}

#[cfg(test)]
mod tests;
