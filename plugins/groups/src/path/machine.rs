//! Virtual machines in a cgroup path: libvirt's (with systemd `machine-qemu\x2d1\x2dname.scope`, without it
//! `/machine/qemu-1-name.libvirt-qemu`, in old versions `/libvirt/qemu/name`) and those of Proxmox
//! (`/qemu.slice/100.scope`).

use std::sync::Arc;

use super::text::{number, pieces, unescaped};

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its name in systemd-machined, `qemu-1-name`.
    pub(crate) id: Arc<str>,
    /// The name that its owner gave it.
    pub(crate) name: Arc<str>,
}

/// The machine.
pub(crate) fn find(path: &str) -> Option<Machine> {
    let (mut before, mut folder) = ("", "");
    for piece in pieces(path) {
        let scope = piece.strip_suffix(".scope");
        let registered = scope.and_then(|name| name.strip_prefix("machine-")).map(unescaped);
        let registered = registered.or_else(|| piece.strip_suffix(".libvirt-qemu").map(str::to_owned));
        if let Some(id) = registered.filter(|id| id.starts_with("qemu-")) {
            // `qemu-<number of the running machine>-<name, cut if long>`
            let numbered = id["qemu-".len()..].split_once('-').filter(|(n, _)| number::<u64>(n).is_some());
            let name = numbered.map_or(&id["qemu-".len()..], |(_, name)| name).into();
            return Some(Machine { id: id.into(), name });
        }
        let plain = match (before, folder) {
            ("libvirt", "qemu") => Some(piece),
            (_, "qemu.slice") => scope.filter(|name| !name.is_empty()),
            _ => None,
        };
        if let Some(name) = plain {
            return Some(Machine { id: name.into(), name: name.into() });
        }
        (before, folder) = (folder, piece);
    }
    None
}
