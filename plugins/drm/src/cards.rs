//! Which GPUs the kernel's direct rendering manager has: `class/drm/cardN`, each with its driver and its
//! place on the bus.

use std::fs;
use std::path::{Path, PathBuf};

use wattrace_meter::sysfs;

use crate::meters::{self, Meter};

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// Its address on the bus, `0000:03:00.0`, as its clients tell it.
    pub(crate) id: String,
    /// Its driver's name.
    pub(crate) driver: String,
    /// Its directory in sysfs.
    pub(crate) device: PathBuf,
    /// What meters it.
    pub(crate) meters: Vec<Meter>,
}

/// Drivers that tell neither energy nor use: NVIDIA's own (the plugin `nvidia` asks its library), and those
/// of displays without an engine, as servers and virtual machines have them.
const SILENT: [&str; 12] = [
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

/// The GPUs below `sysfs_root`, in the order of their names.
pub(crate) fn find(sysfs_root: &Path) -> Vec<Card> {
    let class = sysfs_root.join("class/drm");
    let names = sysfs::names(&class).unwrap_or_default();
    let cards = names.iter().filter(|name| is_card(name));
    let mut found: Vec<Card> = cards.filter_map(|name| card(&class.join(name).join("device"))).collect();
    found.dedup_by(|a, b| a.id == b.id);
    found
}

/// `card0`, and not its connector `card0-DP-1`.
fn is_card(name: &str) -> bool {
    name.strip_prefix("card").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn card(link: &Path) -> Option<Card> {
    let device = fs::canonicalize(link).ok()?;
    let id = device.file_name()?.to_str()?.to_owned();
    let driver = fs::read_link(device.join("driver")).ok()?;
    let driver = driver.file_name()?.to_str()?.to_owned();
    let meters = meters::find(&device, &driver);
    (!SILENT.contains(&&*driver)).then_some(Card { id, driver, device, meters })
}

impl Card {
    /// Whether it sleeps. Reading its meters would wake it, and keep it awake.
    pub(crate) fn sleeps(&self) -> bool {
        sysfs::read_word(&self.device.join("power/runtime_status")).is_some_and(|state| state == "suspended")
    }

    /// Whether a client that says so much of itself is one of this GPU's: on a bus without addresses only the
    /// driver is told.
    pub(crate) fn is_of(&self, address: &str, driver: &str) -> bool {
        if address.is_empty() { self.driver == driver } else { self.id == address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_not_their_connectors() {
        assert!(is_card("card0") && is_card("card12"));
        for other in ["card", "card0-DP-1", "renderD128", "version", "cardx"] {
            assert!(!is_card(other), "{other}");
        }
    }
}
