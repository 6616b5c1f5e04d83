//! Finds what can be read: the CPUs' frequencies by package or core, and the temperature sensors. `source.rs`
//! reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wattrace_api::Resource;
use wattrace_meter::names::{slug, unique};
use wattrace_meter::sysfs::{names, read_word};
use wattrace_topology::Cpus;

use crate::config::Frequency;

/// Files whose mean is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// The hardware it is about.
    pub resource: Resource,
    /// `hw.id`.
    pub id: String,
    /// `hw.name`.
    pub name: String,
    /// The package that contains it, `hw.parent`.
    pub parent: Option<String>,
    /// The location of a sensor, `hw.sensor_location`.
    pub location: Option<String>,
    /// The files.
    pub files: Vec<PathBuf>,
}

/// The frequencies of all packages or cores, from those of their CPUs that have one.
pub fn frequencies(sysfs_root: &Path, of: Frequency) -> Vec<Gauge> {
    let cpus = Cpus::below(sysfs_root);
    // By package, and by the lowest CPU of the core.
    let mut found: BTreeMap<(u32, Option<u32>), Vec<PathBuf>> = BTreeMap::new();
    for cpu in cpus.present() {
        let file = cpus.directory(cpu).join("cpufreq/scaling_cur_freq");
        let (Some(package), true) = (cpus.package(cpu), file.exists()) else { continue };
        let core = (of == Frequency::Core).then(|| cpus.core(cpu).first().copied().unwrap_or(cpu));
        found.entry((package, core)).or_default().push(file);
    }
    let gauge = |((package, core), files)| {
        let parent = format!("package-{package}");
        match core {
            None => Gauge {
                resource: Resource::package(package),
                id: parent.clone(),
                name: parent,
                parent: None,
                location: None,
                files,
            },
            Some(cpu) => {
                let id = format!("core-cpu-{cpu}");
                Gauge {
                    resource: Resource::core(cpu),
                    name: id.clone(),
                    id,
                    parent: Some(parent),
                    location: None,
                    files,
                }
            }
        }
    };
    if of == Frequency::Off { Vec::new() } else { found.into_iter().map(gauge).collect() }
}

/// All temperature sensors: those of hwmon, and the thermal zones that are not in hwmon as well.
pub fn temperature_sensors(sysfs_root: &Path) -> Vec<Gauge> {
    let mut found: Vec<Gauge> = Vec::new();
    let mut add = |driver: &str, label: &str, file: PathBuf| {
        let name = format!("{driver} {label}");
        let id = Some(slug(&name)).filter(|id| !id.is_empty()).unwrap_or_else(|| "temperature".to_owned());
        let id = unique(id, |id| found.iter().any(|gauge| gauge.id == id));
        let location = Some(label.to_owned());
        found.push(Gauge { resource: Resource::HOST, id, name, parent: None, location, files: vec![file] });
    };
    let mut drivers = Vec::new();
    let class = sysfs_root.join("class/hwmon");
    for chip in names(&class).unwrap_or_default().into_iter().map(|name| class.join(name)) {
        let Some(driver) = read_word(&chip.join("name")) else { continue };
        for file in names(&chip).unwrap_or_default() {
            let Some(channel) = file.strip_suffix("_input").filter(|c| c.starts_with("temp")) else {
                continue;
            };
            let label = read_word(&chip.join(format!("{channel}_label")));
            add(&driver, label.as_deref().unwrap_or(channel), chip.join(&file));
        }
        drivers.push(driver);
    }
    let class = sysfs_root.join("class/thermal");
    for zone in names(&class).unwrap_or_default().into_iter().filter(|name| name.starts_with("thermal_zone"))
    {
        let directory = class.join(&zone);
        let Some(kind) = read_word(&directory.join("type")) else { continue };
        // In hwmon a zone has its type as name, with underscores for hyphens.
        if !drivers.contains(&kind.replace('-', "_")) {
            add("thermal", &kind, directory.join("temp"));
        }
    }
    found
}
