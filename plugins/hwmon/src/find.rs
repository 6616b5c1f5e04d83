//! What channels there are: `class/hwmon` (power, energy, and voltage times current of the chips known for
//! it) and the iio devices by which older kernels of Jetson boards show the same chip. What a channel means
//! is for `meaning.rs` to say.

use std::fs;
use std::path::{Path, PathBuf};

use wattrace_meter::sysfs::{names, read_word};

/// Chips whose voltages and currents are those of one rail each, so that their product is its power.
const PRODUCTS: [&str; 1] = ["ina3221"];
/// GPUs' own drivers: what they show belongs to the plugins that know who uses the GPU.
const GPUS: [&str; 5] = ["amdgpu", "radeon", "nouveau", "xe", "i915"];

/// Where a channel's numbers are read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Files {
    /// Microjoules, cumulative.
    Energy(PathBuf),
    /// Microwatts.
    Microwatts(PathBuf),
    /// Milliwatts.
    Milliwatts(PathBuf),
    /// Millivolts and milliamperes.
    Product(PathBuf, PathBuf),
}

impl Files {
    /// One of the files, to ask on which file system they lie.
    pub(crate) fn first(&self) -> &Path {
        match self {
            Files::Energy(path)
            | Files::Microwatts(path)
            | Files::Milliwatts(path)
            | Files::Product(path, _) => path,
        }
    }
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The directory of the chip, without symbolic links, so that no other device can slip in under its
    /// number.
    pub directory: PathBuf,
    /// What the driver calls itself.
    pub driver: String,
    /// The channel's own number, `power2`.
    pub channel: String,
    /// What the driver calls the channel; empty if it says nothing.
    pub label: String,
    /// Its numbers.
    pub files: Files,
    /// An ACPI meter that names the devices it measures, none of which is the whole system.
    pub part: bool,
}

/// All channels under `sysfs_root` but those of GPUs and batteries, which are other plugins'. In an order
/// that does not depend on the order in which drivers were loaded.
pub fn find(sysfs_root: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for directory in directories(&sysfs_root.join("class/hwmon")) {
        hwmon(&directory, &mut found);
    }
    for directory in directories(&sysfs_root.join("bus/iio/devices")) {
        iio(&directory, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

/// What shows that a chip came or went.
pub(crate) fn listing(sysfs_root: &Path) -> Vec<String> {
    let mut all = names(&sysfs_root.join("class/hwmon")).unwrap_or_default();
    all.extend(names(&sysfs_root.join("bus/iio/devices")).unwrap_or_default());
    all
}

fn directories(class: &Path) -> Vec<PathBuf> {
    let Ok(names) = names(class) else { return Vec::new() };
    names.iter().filter_map(|name| fs::canonicalize(class.join(name)).ok()).collect()
}

fn hwmon(directory: &Path, found: &mut Vec<Found>) {
    // Old drivers put their files on the device itself.
    let device = directory.join("device");
    let Some(driver) = read_word(&directory.join("name")).or_else(|| read_word(&device.join("name"))) else {
        return;
    };
    let of_power_supply =
        fs::read_link(device.join("subsystem")).is_ok_and(|link| link.ends_with("power_supply"));
    if of_power_supply || GPUS.iter().any(|gpu| driver == *gpu || driver.starts_with(&format!("{gpu}_"))) {
        return;
    }
    let before = found.len();
    for place in [directory, &device] {
        let place = fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
        channels(&place, directory, &driver, found);
        if found.len() > before {
            break;
        }
    }
    prefer_energy(found, before);
}

fn channels(place: &Path, directory: &Path, driver: &str, found: &mut Vec<Found>) {
    let files = names(place).unwrap_or_default();
    let part = measures_a_part(place);
    let mut add = |channel: &str, label: String, files: Files| {
        let (directory, driver) = (directory.to_owned(), driver.to_owned());
        found.push(Found { directory, driver, label, channel: channel.to_owned(), files, part });
    };
    for name in &files {
        let Some((channel, attribute)) = name.split_once('_') else { continue };
        let path = place.join(name);
        let switched_off = || read_word(&place.join(format!("{channel}_enable"))).is_some_and(|on| on == "0");
        match (numbered(channel), attribute) {
            (Some("energy"), "input") if !switched_off() => {
                add(channel, label(place, channel), Files::Energy(path));
            }
            (Some("power"), "input") if !switched_off() => {
                add(channel, label(place, channel), Files::Microwatts(path));
            }
            (Some("power"), "average")
                if !files.contains(&format!("{channel}_input")) && !is_battery(place, channel) =>
            {
                add(channel, label(place, channel), Files::Microwatts(path));
            }
            (Some("in"), "input") if PRODUCTS.contains(&driver) && !switched_off() => {
                let current = channel.replacen("in", "curr", 1);
                let amperes = format!("{current}_input");
                // The chip's sums over rails have a current and no voltage of their own, and so no power.
                let label = read_word(&place.join(format!("{channel}_label")));
                if let Some(label) = label.filter(|label| label != "NC" && files.contains(&amperes)) {
                    add(channel, label, Files::Product(path, place.join(amperes)));
                }
            }
            _ => {}
        }
    }
}

/// `power` of `power12`.
fn numbered(channel: &str) -> Option<&str> {
    let kind = channel.trim_end_matches(|c: char| c.is_ascii_digit());
    (kind.len() < channel.len()).then_some(kind)
}

fn label(place: &Path, channel: &str) -> String {
    // ACPI's meters say what they are in a field for the vendor's words.
    let told = |what: &str| read_word(&place.join(format!("{channel}_{what}")));
    told("label").or_else(|| told("oem_info")).unwrap_or_default()
}

/// Whether an ACPI meter is a battery's, which the plugin `battery` reads.
fn is_battery(place: &Path, channel: &str) -> bool {
    read_word(&place.join(format!("{channel}_is_battery"))).is_some_and(|yes| yes == "1")
}

/// Whether an ACPI meter names the devices it measures, and the system is none of them.
fn measures_a_part(place: &Path) -> bool {
    let devices = names(&place.join("measures")).unwrap_or_default();
    !devices.is_empty() && !devices.iter().any(|name| name.starts_with("LNXSY"))
}

/// A chip that counts energy and tells power of the same thing is read for its energy alone.
fn prefer_energy(found: &mut Vec<Found>, from: usize) {
    let same = |power: &Found, energy: &Found| {
        let numbers = |channel: &str| channel.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned();
        matches!(energy.files, Files::Energy(_))
            && if power.label.is_empty() && energy.label.is_empty() {
                numbers(&power.channel) == numbers(&energy.channel)
            } else {
                power.label == energy.label
            }
    };
    let chip = found.split_off(from);
    let counted = |f: &Found| !matches!(f.files, Files::Energy(_)) && chip.iter().any(|e| same(f, e));
    found.extend(chip.iter().filter(|f| !counted(f)).cloned());
}

/// The INA3221 as kernels of JetPack 4 and before show it: `rail_name_0`, `in_power0_input` in milliwatts.
fn iio(directory: &Path, found: &mut Vec<Found>) {
    let Some(driver) = read_word(&directory.join("name")).filter(|name| name.starts_with("ina3221")) else {
        return;
    };
    for number in 0..3 {
        let path = directory.join(format!("in_power{number}_input"));
        let label = read_word(&directory.join(format!("rail_name_{number}")));
        let Some(label) = label.filter(|label| label != "NC" && path.exists()) else { continue };
        let (directory, driver) = (directory.to_owned(), driver.clone());
        found.push(Found {
            directory,
            driver,
            label,
            channel: format!("power{number}"),
            files: Files::Milliwatts(path),
            part: false,
        });
    }
}
