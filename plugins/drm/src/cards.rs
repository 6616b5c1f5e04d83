//! Finds the GPUs of the kernel's direct rendering manager (DRM): `class/drm/cardN`, each with its driver and
//! bus address. `dies.rs` puts those together that have one meter.

use std::fs;
use std::path::{Path, PathBuf};

use wattrace_meter::sysfs;

use crate::sensors::{self, Sensor};

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// Its bus address, such as `0000:03:00.0`. The fdinfo of its clients has the same.
    pub(crate) id: String,
    /// Its driver's name.
    pub(crate) driver: String,
    /// Its directory in sysfs.
    pub(crate) device: PathBuf,
    /// Its number among its vendor's PCI devices.
    pub(crate) model: Option<u16>,
    /// Whether it is inside a processor.
    pub(crate) integrated: bool,
    /// The files that meter it.
    pub(crate) sensors: Vec<Sensor>,
}

/// Drivers that show neither energy nor use: NVIDIA's own (the plugin `nvidia` uses its library instead), and
/// those of display adapters without an engine, as servers and virtual machines have them.
const UNSUPPORTED: [&str; 12] = [
    "nvidia",
    "ast",
    "mgag200",
    "bochs-drm",
    "cirrus",
    "simple-framebuffer",
    "virtio-pci",
    "virtio_gpu",
    "vmwgfx",
    "qxl",
    "vkms",
    "udl",
];

/// The GPUs below `sysfs_root`, sorted by name.
pub(crate) fn find(sysfs_root: &Path) -> Vec<Card> {
    let class = sysfs_root.join("class/drm");
    let names = sysfs::names(&class).unwrap_or_default();
    let cards = names.iter().filter(|name| is_card(name));
    let mut found: Vec<Card> = cards.filter_map(|name| card(&class.join(name).join("device"))).collect();
    found.dedup_by(|a, b| a.id == b.id);
    found
}

/// Accepts `card0`, but not its connector `card0-DP-1`.
fn is_card(name: &str) -> bool {
    name.strip_prefix("card").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn card(link: &Path) -> Option<Card> {
    let device = fs::canonicalize(link).ok()?;
    let id = device.file_name()?.to_str()?.to_owned();
    let driver = fs::read_link(device.join("driver")).ok()?;
    let driver = driver.file_name()?.to_str()?.to_owned();
    if UNSUPPORTED.contains(&&*driver) {
        return None;
    }
    let model = sysfs::read_word(&device.join("device"));
    let model = model.and_then(|word| u16::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let integrated = sensors::is_integrated(&device, &driver, !is_suspended(&device));
    let sensors = sensors::find(&device, &driver, integrated);
    Some(Card { id, driver, device, model, integrated, sensors })
}

/// Whether runtime power management has suspended a device, or is about to. Reading its sensors would wake it
/// and keep it awake.
fn is_suspended(device: &Path) -> bool {
    let state = sysfs::read_word(&device.join("power/runtime_status"));
    state.is_some_and(|state| matches!(&*state, "suspended" | "suspending"))
}

impl Card {
    /// Whether it must not be read now, since that would wake it.
    pub(crate) fn is_suspended(&self) -> bool {
        is_suspended(&self.device)
    }

    /// The file that says that its driver does not measure for how long its engines work (panfrost and
    /// panthor, unless it is switched on).
    pub(crate) fn unprofiled(&self) -> Option<PathBuf> {
        let path = self.device.join("profiling");
        sysfs::read_word(&path).is_some_and(|state| state == "0").then_some(path)
    }

    /// Whether `now`, found later, is this GPU with the same sensors. Some of these can only be seen while it
    /// is not suspended.
    pub(crate) fn is_same(&self, now: &Card) -> bool {
        (&self.id, &self.driver, &self.device) == (&now.id, &now.driver, &now.device)
            && self.sensors.iter().all(|sensor| sensor.path.exists())
            && (!self.sensors.is_empty() || now.sensors.is_empty())
    }

    /// Whether a client with this `address` and `driver` is a client of this GPU. On a bus without addresses
    /// fdinfo has the driver only.
    pub(crate) fn is_of(&self, address: &str, driver: &str) -> bool {
        if address.is_empty() { self.driver == driver } else { self.id == address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connectors_are_not_cards() {
        assert!(is_card("card0") && is_card("card12"));
        for other in ["card", "card0-DP-1", "renderD128", "version", "cardx"] {
            assert!(!is_card(other), "{other}");
        }
    }
}
