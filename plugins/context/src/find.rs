//! What there is to tell: the CPUs' clocks by package or core, and the sensors of temperature. `source.rs`
//! reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wattrace_api::Resource;
use wattrace_meter::sysfs::{names, read_word};
use wattrace_topology::Cpus;

use crate::config::Frequency;

/// Files whose mean is a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// What it is of.
    pub resource: Resource,
    /// `hw.id`.
    pub id: String,
    /// `hw.name`.
    pub name: String,
    /// What contains it, `hw.parent`.
    pub parent: Option<String>,
    /// Where a sensor sits, `hw.sensor_location`.
    pub location: Option<String>,
    /// The files.
    pub files: Vec<PathBuf>,
}

/// The clocks of what `of` says, of all CPUs that are online and tell theirs.
pub fn clocks(sysfs_root: &Path, of: Frequency) -> Vec<Gauge> {
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

/// All sensors of temperature: those of hwmon, and the thermal zones that hwmon does not show as well.
pub fn thermometers(sysfs_root: &Path) -> Vec<Gauge> {
    let mut found: Vec<Gauge> = Vec::new();
    let mut add = |driver: &str, label: &str, file: PathBuf| {
        let slug = |text: &str| {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
            words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
        };
        let name = format!("{driver} {label}");
        let plain = Some(slug(&name)).filter(|id| !id.is_empty()).unwrap_or_else(|| "temperature".to_owned());
        let mut id = plain.clone();
        // What is told apart by a number may have the name of another.
        for nth in 1.. {
            if found.iter().all(|gauge| gauge.id != id) {
                break;
            }
            id = format!("{plain}-{nth}");
        }
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
        // hwmon shows a zone under its type, with underscores for hyphens.
        if !drivers.contains(&kind.replace('-', "_")) {
            add("thermal", &kind, directory.join("temp"));
        }
    }
    found
}
