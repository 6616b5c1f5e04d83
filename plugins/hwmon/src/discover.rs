//! Finds channels: in `class/hwmon` (power, energy, and for some chips voltage times current), and among the
//! iio devices as which older kernels of Jetson boards show the same chip. `classify.rs` decides what a
//! channel meters.

use std::fs;
use std::path::{Path, PathBuf};

use wattrace_meter::names::natural;
use wattrace_meter::sysfs::{names, read_word};

/// Chips whose channels have the voltage and the current of one rail each. The product is the rail's power.
const PRODUCTS: [&str; 1] = ["ina3221"];
/// Drivers of GPUs. Other plugins read them, and know which processes use the GPU.
const GPUS: [&str; 5] = ["amdgpu", "radeon", "nouveau", "xe", "i915"];

/// The files of a channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChannelFiles {
    /// Microjoules, cumulative.
    Energy(PathBuf),
    /// Microwatts.
    Microwatts(PathBuf),
    /// Milliwatts.
    Milliwatts(PathBuf),
    /// Millivolts and milliamperes.
    Product(PathBuf, PathBuf),
}

impl ChannelFiles {
    /// One of the files, to look at its file system.
    pub(crate) fn first(&self) -> &Path {
        match self {
            ChannelFiles::Energy(path)
            | ChannelFiles::Microwatts(path)
            | ChannelFiles::Milliwatts(path)
            | ChannelFiles::Product(path, _) => path,
        }
    }
}

/// A channel that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundChannel {
    /// The directory of the chip, without symbolic links: the chip's number may be given to another device.
    pub directory: PathBuf,
    /// The driver's name.
    pub driver: String,
    /// The channel's name and number, `power2`.
    pub channel: String,
    /// The driver's label of the channel; empty if it has none.
    pub label: String,
    /// Its files.
    pub files: ChannelFiles,
    /// Whether it is an ACPI meter that names the devices it measures, without the whole system among them.
    pub is_part: bool,
}

/// All channels below `sysfs_root` except those of GPUs and batteries, which other plugins read. Their order
/// does not depend on the order in which drivers were loaded.
pub fn discover(sysfs_root: &Path) -> Vec<FoundChannel> {
    let mut found = Vec::new();
    for directory in directories(&sysfs_root.join("class/hwmon")) {
        hwmon(&directory, &mut found);
    }
    for directory in directories(&sysfs_root.join("bus/iio/devices")) {
        iio(&directory, &mut found);
    }
    found.sort_by_cached_key(|channel| {
        (natural(&channel.directory.to_string_lossy()), natural(&channel.channel), channel.clone())
    });
    found.dedup();
    found
}

/// The names of all chips: a change means that a chip was added or removed.
pub(crate) fn listing(sysfs_root: &Path) -> Vec<String> {
    let mut all = names(&sysfs_root.join("class/hwmon")).unwrap_or_default();
    all.extend(names(&sysfs_root.join("bus/iio/devices")).unwrap_or_default());
    all
}

fn directories(class: &Path) -> Vec<PathBuf> {
    let Ok(names) = names(class) else { return Vec::new() };
    names.iter().filter_map(|name| fs::canonicalize(class.join(name)).ok()).collect()
}

fn hwmon(directory: &Path, found: &mut Vec<FoundChannel>) {
    // Old drivers put their files in the directory of the device.
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
    for location in [directory, &device] {
        let location = fs::canonicalize(location).unwrap_or_else(|_| location.to_owned());
        channels(&location, directory, &driver, found);
        if found.len() > before {
            break;
        }
    }
    prefer_energy(found, before);
}

fn channels(location: &Path, directory: &Path, driver: &str, found: &mut Vec<FoundChannel>) {
    let files = names(location).unwrap_or_default();
    let is_part = measures_a_part(location);
    let mut add = |channel: &str, label: String, files: ChannelFiles| {
        let (directory, driver) = (directory.to_owned(), driver.to_owned());
        found.push(FoundChannel { directory, driver, label, channel: channel.to_owned(), files, is_part });
    };
    for name in &files {
        let Some((channel, attribute)) = name.split_once('_') else { continue };
        let path = location.join(name);
        let switched_off =
            || read_word(&location.join(format!("{channel}_enable"))).is_some_and(|on| on == "0");
        match (numbered(channel), attribute) {
            (Some("energy"), "input") if !switched_off() => {
                add(channel, label(location, channel), ChannelFiles::Energy(path));
            }
            (Some("power"), "input") if !switched_off() => {
                add(channel, label(location, channel), ChannelFiles::Microwatts(path));
            }
            (Some("power"), "average")
                if !files.contains(&format!("{channel}_input")) && !is_battery(location, channel) =>
            {
                add(channel, label(location, channel), ChannelFiles::Microwatts(path));
            }
            (Some("in"), "input") if PRODUCTS.contains(&driver) && !switched_off() => {
                let current = channel.replacen("in", "curr", 1);
                let amperes = format!("{current}_input");
                // The chip's sums over rails have a current but no voltage, and so no power.
                let label = read_word(&location.join(format!("{channel}_label")));
                if let Some(label) = label.filter(|label| label != "NC" && files.contains(&amperes)) {
                    add(channel, label, ChannelFiles::Product(path, location.join(amperes)));
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

fn label(location: &Path, channel: &str) -> String {
    // ACPI's meters have a field for the vendor's description.
    let text = |what: &str| read_word(&location.join(format!("{channel}_{what}")));
    text("label").or_else(|| text("oem_info")).unwrap_or_default()
}

/// Whether an ACPI meter is that of a battery, which the plugin `battery` reads.
fn is_battery(location: &Path, channel: &str) -> bool {
    read_word(&location.join(format!("{channel}_is_battery"))).is_some_and(|yes| yes == "1")
}

/// Whether an ACPI meter names the devices it measures, without the whole system among them.
fn measures_a_part(location: &Path) -> bool {
    let devices = names(&location.join("measures")).unwrap_or_default();
    !devices.is_empty() && !devices.iter().any(|name| name.starts_with("LNXSY"))
}

/// Leaves out channels of power whose energy the chip counts as well.
fn prefer_energy(found: &mut Vec<FoundChannel>, from: usize) {
    let same = |power: &FoundChannel, energy: &FoundChannel| {
        let numbers = |channel: &str| channel.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned();
        matches!(energy.files, ChannelFiles::Energy(_))
            && if power.label.is_empty() && energy.label.is_empty() {
                numbers(&power.channel) == numbers(&energy.channel)
            } else {
                power.label == energy.label
            }
    };
    let chip = found.split_off(from);
    let counted =
        |f: &FoundChannel| !matches!(f.files, ChannelFiles::Energy(_)) && chip.iter().any(|e| same(f, e));
    found.extend(chip.iter().filter(|f| !counted(f)).cloned());
}

/// The INA3221 as the kernels of JetPack 4 and earlier show it: `rail_name_0`, `in_power0_input` in
/// milliwatts.
fn iio(directory: &Path, found: &mut Vec<FoundChannel>) {
    let Some(driver) = read_word(&directory.join("name")).filter(|name| name.starts_with("ina3221")) else {
        return;
    };
    for number in 0..3 {
        let path = directory.join(format!("in_power{number}_input"));
        let label = read_word(&directory.join(format!("rail_name_{number}")));
        let Some(label) = label.filter(|label| label != "NC" && path.exists()) else { continue };
        let (directory, driver) = (directory.to_owned(), driver.clone());
        found.push(FoundChannel {
            directory,
            driver,
            label,
            channel: format!("power{number}"),
            files: ChannelFiles::Milliwatts(path),
            is_part: false,
        });
    }
}
