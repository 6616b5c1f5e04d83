//! Virtual machines in a cgroup path.

use std::borrow::Cow;
use std::sync::Arc;

use super::form::{Part, match_last};
use super::text::number;

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its name in systemd-machined, `qemu-1-name`.
    pub(crate) id: Arc<str>,
    /// The name that its owner gave it.
    pub(crate) name: Arc<str>,
}

/// The forms of virtual machines.
pub(super) const FORMS: &[&str] = &[
    // libvirt: with systemd-machined, without it, and in old versions.
    "machine-{libvirt-vm}.scope",
    "{libvirt-vm}.libvirt-qemu",
    "{libvirt-vm}.libvirt-ch",
    "libvirt/qemu/{name}",
    // Proxmox.
    "qemu.slice/{name}.scope",
    // Firecracker's jailer: below the name of the program (docs/jailer.md).
    "firecracker/{name}",
    "systemd-vmspawn@{name}.service",
];

/// What systemd-machined has registered: a virtual machine (systemd-vmspawn's, or a site's own) where it is
/// not a container. A container has folders of its own, which `container.rs` knows.
pub(super) const REGISTERED: &[&str] =
    &["machine-{machine-name}.scope", "machine.slice/{own-name}.scope", "machine.slice/{any}@{name}.service"];

/// The machine. `is_container`: a container was found in the path.
pub(super) fn find(folders: &[Cow<'_, str>], is_container: bool) -> Option<Machine> {
    let registered = if is_container { &[][..] } else { REGISTERED };
    (0..folders.len()).find_map(|at| {
        let forms = FORMS.iter().chain(registered);
        let mut ids = forms.filter_map(|form| match_last(form, &folders[..=at])).flatten();
        let (_, id) = ids.find(|(part, _)| *part == Part::Id)?;
        Some(Machine { id: (*id).into(), name: own_name(&id).into() })
    })
}

/// libvirt registers `<driver>-<number of the running machine>-<name, cut if long>`.
fn own_name(id: &str) -> &str {
    let rest = ["qemu-", "ch-"].iter().find_map(|driver| id.strip_prefix(driver));
    let Some(rest) = rest.filter(|rest| !rest.is_empty()) else { return id };
    let numbered = rest.split_once('-').filter(|(n, name)| number::<u64>(n).is_some() && !name.is_empty());
    numbered.map_or(rest, |(_, name)| name)
}
