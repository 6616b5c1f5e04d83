//! Which GPUs sleep (runtime power management), by sysfs: any call of NVIDIA's library about a GPU wakes it,
//! and keeps it awake. `source.rs` leaves those that sleep alone.

use std::path::PathBuf;

use wattrace_meter::sysfs;

/// NVIDIA's number among the vendors of PCI devices.
const VENDOR: &str = "0x10de";
/// The class of displays and 3D controllers: the first byte.
const CLASS: &str = "0x03";

/// The devices of the PCI bus.
#[derive(Debug)]
pub(crate) struct PciBus {
    devices: PathBuf,
}

impl PciBus {
    /// The bus below `sysfs_root`.
    pub(crate) fn new(sysfs_root: &str) -> Self {
        Self { devices: PathBuf::from(sysfs_root).join("bus/pci/devices") }
    }

    /// The addresses of NVIDIA's GPUs, sorted.
    pub(crate) fn gpus(&self) -> Vec<String> {
        let mut addresses = sysfs::names(&self.devices).unwrap_or_default();
        addresses.retain(|address| {
            // A simulated tree may have nothing but the state.
            let is = |file, start: &str| self.word(address, file).is_none_or(|word| word.starts_with(start));
            is("vendor", VENDOR) && is("class", CLASS)
        });
        addresses
    }

    /// Whether a GPU sleeps or is about to.
    pub(crate) fn is_asleep(&self, address: &str) -> bool {
        let state = self.word(address, "power/runtime_status");
        state.is_some_and(|state| matches!(&*state, "suspended" | "suspending"))
    }

    /// Whether a GPU may fall asleep while nobody uses it.
    pub(crate) fn may_sleep(&self, address: &str) -> bool {
        self.word(address, "power/control").is_some_and(|control| control == "auto")
    }

    /// The file that says whether a GPU sleeps.
    pub(crate) fn state_file(&self, address: &str) -> PathBuf {
        self.devices.join(address).join("power/runtime_status")
    }

    fn word(&self, address: &str, file: &str) -> Option<String> {
        sysfs::read_word(&self.devices.join(address).join(file))
    }
}

/// The address in sysfs of NVML's `00000000:01:00.0`: with four digits of the domain, in lower case.
pub(crate) fn address(bus_id: &str) -> Option<String> {
    let (domain, rest) = bus_id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{}", rest.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_addresses_of_the_library_are_those_of_sysfs() {
        for (nvml, sysfs) in [
            ("00000000:01:00.0", Some("0000:01:00.0")),
            ("00000000:C6:00.0", Some("0000:c6:00.0")),
            ("00010000:0A:00.0", Some("10000:0a:00.0")),
            ("", None),
            ("x:01:00.0", None),
        ] {
            assert_eq!(address(nvml).as_deref(), sysfs);
        }
    }

    #[test]
    fn gpus_are_known_by_vendor_and_class_and_their_state_is_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |address: &str, file: &str, text: &str| {
            let path = root.path().join("bus/pci/devices").join(address).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (address, vendor, class) in [
            ("0000:01:00.0", "0x10de\n", "0x030000\n"),
            ("0000:01:00.1", "0x10de\n", "0x040300\n"),
            ("0000:02:00.0", "0x10de\n", "0x030200\n"),
            ("0000:00:02.0", "0x8086\n", "0x030000\n"),
        ] {
            write(address, "vendor", vendor);
            write(address, "class", class);
        }
        let bus = PciBus::new(root.path().to_str().unwrap());
        assert_eq!(bus.gpus(), ["0000:01:00.0", "0000:02:00.0"]);
        for (state, asleep) in
            [("suspended", true), ("suspending", true), ("active", false), ("error", false)]
        {
            write("0000:01:00.0", "power/runtime_status", state);
            assert_eq!(bus.is_asleep("0000:01:00.0"), asleep, "{state}");
        }
        assert!(!bus.is_asleep("0000:02:00.0") && !bus.may_sleep("0000:02:00.0"));
        write("0000:02:00.0", "power/control", "auto\n");
        assert!(bus.may_sleep("0000:02:00.0"));
    }
}
