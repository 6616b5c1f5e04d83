//! The virtual machine and the container around this process. The hints are those of systemd-detect-virt that
//! are files: what the firmware calls itself, the device tree, Xen's own directory.

use std::path::Path;

use serde::Serialize;

use super::text;

/// Inside of what this system runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Virtualisation {
    /// The hypervisor of the virtual machine: `KVM`, `Hyper-V`, `a hypervisor`; `None`: it is no virtual
    /// machine.
    pub(in crate::cli) machine: Option<&'static str>,
    /// Who made the container: `docker`, `podman`, …; `None`: it is not known to be one.
    pub(in crate::cli) container: Option<String>,
}

/// How the firmware of virtual machines begins its vendor or product, as systemd has them (src/basic/virt.c).
const FIRMWARE: [(&str, &str); 17] = [
    ("KVM", "KVM"),
    ("OpenStack", "KVM"),
    ("KubeVirt", "KVM"),
    ("Amazon EC2", "Amazon EC2"),
    ("Google Compute Engine", "Google Compute Engine"),
    ("QEMU", "QEMU"),
    ("Standard PC", "QEMU"),
    ("VMware", "VMware"),
    ("VMW", "VMware"),
    ("innotek GmbH", "VirtualBox"),
    ("VirtualBox", "VirtualBox"),
    ("Xen", "Xen"),
    ("Bochs", "Bochs"),
    ("Parallels", "Parallels"),
    ("BHYVE", "bhyve"),
    ("Apple Virtualization", "Apple Virtualization"),
    ("Virtual Machine", "Hyper-V"),
];

/// A hypervisor that does not say what it is.
const UNKNOWN: &str = "a hypervisor";

impl Virtualisation {
    /// The one below `root`, whose processor reports a hypervisor or, on x86, that there is none.
    pub(super) fn read(root: &Path, has_hypervisor: Option<bool>) -> Self {
        Self { machine: machine(root, has_hypervisor), container: container(root) }
    }
}

fn machine(root: &Path, has_hypervisor: Option<bool>) -> Option<&'static str> {
    if text(root, "proc/sys/kernel/osrelease").to_lowercase().contains("microsoft") {
        return Some("WSL");
    }
    // A cloud's machines without a hypervisor have the firmware of those with one.
    if has_hypervisor == Some(false) {
        return None;
    }
    let by_firmware = ["sys_vendor", "product_name", "board_vendor", "bios_vendor"].iter().find_map(|file| {
        let firmware = text(root, &format!("sys/class/dmi/id/{file}"));
        FIRMWARE.iter().find(|(start, _)| firmware.starts_with(start)).map(|(_, name)| *name)
    });
    let by_tree = || match &*text(root, "proc/device-tree/hypervisor/compatible") {
        tree if tree.starts_with("linux,kvm") => Some("KVM"),
        tree if tree.contains("xen") => Some("Xen"),
        tree if tree.contains("vmware") => Some("VMware"),
        _ => None,
    };
    let by_xen = || (text(root, "sys/hypervisor/type") == "xen").then_some("Xen");
    let by_processor = || (has_hypervisor == Some(true)).then_some(UNKNOWN);
    by_firmware.or_else(by_tree).or_else(by_xen).or_else(by_processor)
}

fn container(root: &Path) -> Option<String> {
    // podman and nspawn write it, and docker's and podman's own marks are empty files.
    let by_manager = text(root, "run/systemd/container");
    if !by_manager.is_empty() {
        return Some(by_manager);
    }
    let marks = [(".dockerenv", "docker"), ("run/.containerenv", "podman")];
    let found = marks.iter().find(|(mark, _)| root.join(mark).exists());
    found.map(|(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::files;
    use super::*;

    #[test]
    fn the_hypervisor_is_named_by_the_firmware_the_device_tree_or_the_processor() {
        let of = |all: &[(&str, &str)], has_hypervisor| machine(files(all).path(), has_hypervisor);
        let (vendor, product) = ("sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name");
        assert_eq!(of(&[(vendor, "QEMU\n")], Some(true)), Some("QEMU"));
        let hyper_v = [(vendor, "Microsoft Corporation\n"), (product, "Virtual Machine\n")];
        assert_eq!(of(&hyper_v, Some(true)), Some("Hyper-V"));
        let surface = [(vendor, "Microsoft Corporation\n"), (product, "Surface Laptop\n")];
        assert_eq!(of(&surface, Some(false)), None);
        assert_eq!(of(&[(vendor, "Amazon EC2\n")], Some(false)), None, "a metal instance");
        assert_eq!(of(&[(vendor, "Amazon EC2\n")], None), Some("Amazon EC2"), "Graviton");
        let tree = [("proc/device-tree/hypervisor/compatible", "linux,kvm\0")];
        assert_eq!(of(&tree, None), Some("KVM"));
        let wsl = [("proc/sys/kernel/osrelease", "5.15.167.4-microsoft-standard-WSL2\n")];
        assert_eq!(of(&wsl, Some(true)), Some("WSL"));
        assert_eq!((of(&[], Some(true)), of(&[], None)), (Some(UNKNOWN), None));
    }

    #[test]
    fn a_container_is_known_by_what_its_manager_left() {
        let of = |all: &[(&str, &str)]| container(files(all).path());
        assert_eq!(of(&[("run/systemd/container", "lxc\n")]).as_deref(), Some("lxc"));
        assert_eq!(of(&[(".dockerenv", "")]).as_deref(), Some("docker"));
        assert_eq!(of(&[("run/.containerenv", "")]).as_deref(), Some("podman"));
        assert_eq!(of(&[]), None);
    }
}
