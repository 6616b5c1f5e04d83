//! The kernel's powercap interface: `class/powercap/intel-rapl:0/energy_uj`, one file per counter, in
//! microjoules. Finds and opens the counters. [`zones`] maps directories to what they meter, [`meter`] reads
//! one file.

mod meter;
pub(crate) mod zones;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wattrace_api::Origin;
use wattrace_meter::sysfs::{self, Fault, NumberFile, read_number, read_word};
use wattrace_meter::{Period, powercap_period};

use crate::cpu_model::{CpuModel, Vendor};
use crate::domain::subject;
use crate::meter::{CounterGroup, OpenInterface, UNREADABLE, Unavailable};
use crate::meter_cpus::MeterCpus;
use crate::profile;
use meter::PowercapMeter;
use zones::{Zone, ZoneDirectory};

const NO_ZONES: &str = "load the driver with `sudo modprobe intel_rapl_msr` (for AMD too); \
    virtual machines seldom have a meter";
const NO_PERMISSION: &str = "run as root, \
    or `sudo setcap cap_dac_read_search+ep \"$(command -v wattrace)\"`, \
    or `sudo chmod a+r /sys/class/powercap/*/energy_uj`";

/// The directory of the interface.
pub(crate) fn directory(sysfs_root: &Path) -> PathBuf {
    sysfs_root.join("class/powercap")
}

/// Opens every counter under `sysfs_root`.
pub(crate) fn open(sysfs_root: &Path) -> Result<OpenInterface, Unavailable> {
    let class = directory(sysfs_root);
    let unavailable = |reason: String, remedy: &str| Unavailable::new(class.clone(), reason, remedy);
    let found = find(&class).map_err(|e| unavailable(format!("no powercap: {e}"), NO_ZONES))?;
    let zones = zones::identify(found, core_of_zone(sysfs_root));
    if zones.is_empty() {
        return Err(unavailable("no powercap zone with an energy_uj".to_owned(), NO_ZONES));
    }
    let class_origin = sysfs::origin(&class);
    let (mut opened, mut refused) = (OpenInterface::default(), None);
    for zone in zones {
        if let Err(e) = open_zone(&zone, class_origin, &mut opened) {
            let reason = format!("{}: {e}", zone.path.join("energy_uj").display());
            let why = Unavailable::refused(class.clone(), reason, &e, (NO_PERMISSION, UNREADABLE));
            opened.warnings.push(format!("left out, cannot be opened: {}; {}", why.reason, why.remedy));
            refused.get_or_insert(why);
        }
    }
    match refused {
        Some(why) if opened.groups.is_empty() => Err(why),
        _ => Ok(opened),
    }
}

/// The CPU whose core the zone `core` of a package meters. On AMD each core has a register of its own, and
/// the kernel reads that of one CPU of the package, the first that came online (`rp->lead_cpu` in
/// `intel_rapl_common.c`). Elsewhere the zone meters all cores: `None`.
fn core_of_zone(sysfs_root: &Path) -> impl Fn(u32) -> Option<u32> {
    let amd = CpuModel::of(sysfs_root).is_some_and(|cpu| cpu.vendor == Vendor::Amd);
    let topology = MeterCpus::below(sysfs_root);
    let online = if amd { topology.online() } else { Vec::new() };
    move |package| online.iter().copied().filter(|&cpu| topology.package(cpu) == package).min()
}

fn open_zone(zone: &Zone, class_origin: Origin, opened: &mut OpenInterface) -> io::Result<()> {
    let path = zone.path.join("energy_uj");
    let mut file = NumberFile::new(path.clone());
    file.open()?;
    let range = zone.path.join("max_energy_range_uj");
    let max = read_number(&range).and_then(|max| {
        u64::try_from(max).map_err(|_| Fault::bad(format!("{}: {max} is no range", range.display())))
    });
    let max = max
        .map_err(|fault| {
            let lost = "when the counter wraps, the energy of that window is lost";
            opened.warnings.push(format!("{}; {lost}", fault.what));
        })
        .ok();
    let period =
        max.filter(|&max| max > 0).map_or(Period::Unknown, |max| Period::Known(powercap_period(max)));
    // Both, because something else may be mounted in between.
    let origin = class_origin.max(sysfs::origin(&path));
    let subject = subject(zone.domain.clone(), &zone.part, zone.package_die, origin);
    let counters = vec![(subject, profile::counter(wattrace_meter::Scale::MICROJOULE, period))];
    opened.groups.push(CounterGroup { meter: Box::new(PowercapMeter::new(file, max)), counters });
    Ok(())
}

/// Every directory that has an `energy_uj`. In sysfs all of them are links in `class`, and children are also
/// in their parents; a simulated tree may have either.
fn find(class: &Path) -> io::Result<Vec<ZoneDirectory>> {
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
                // Below a zone only its children count: sysfs has links (`device`, `subsystem`) back up.
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
        .map(|(directory, path)| ZoneDirectory { name: zone_name(&path, &directory), directory, path })
        .collect())
}

/// The zone's name, or that of its directory if it has none.
fn zone_name(path: &Path, directory: &str) -> String {
    let file = path.join("name");
    read_word(&file).unwrap_or_else(|| {
        tracing::warn!("{}: no name can be read there; the zone is called {directory}", file.display());
        directory.to_owned()
    })
}

#[cfg(test)]
mod tests;
