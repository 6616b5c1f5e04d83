//! Containers and Kubernetes pods in a cgroup path. Of nested containers the innermost counts. Its pod, if it
//! has one, comes earlier in the same path, so a container is always wholly in one pod.

use std::sync::Arc;

use super::text::{number, unescaped};

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// The id that the runtime gave it, or its name where the runtime has no ids (lxc, systemd-nspawn).
    pub(crate) id: Arc<str>,
    /// OpenTelemetry's `container.runtime.name`, if the path shows it.
    pub(crate) runtime: Option<&'static str>,
}

/// A Kubernetes pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// With dashes, or a static pod's 32 hexadecimal digits.
    pub(crate) uid: Arc<str>,
    pub(crate) qos: Qos,
}

/// A pod's class of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    /// As Kubernetes writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// `<prefix><id>.scope` with systemd's driver, `<prefix><id>` with cgroupfs; the id is hexadecimal.
const BY_PREFIX: [(&str, &str); 5] = [
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-", "podman"),
    ("nerdctl-", "containerd"),
];
/// `<prefix><any name>.scope`: low-level runtimes, started by hand.
const SCOPES: [(&str, &str); 2] = [("crun-", "crun"), ("runc-", "runc")];
/// `<folder>/<id>`.
const BY_FOLDER: [(&str, &str); 6] = [
    ("docker", "docker"),
    ("cri-containerd", "containerd"),
    ("k8s.io", "containerd"),
    ("default", "containerd"),
    ("crio", "cri-o"),
    ("libpod_parent", "podman"),
];

/// The innermost container and the pod around it.
pub(crate) fn find(path: &str) -> (Option<Container>, Option<Pod>) {
    let (mut container, mut pod): (Option<Container>, Option<Pod>) = (None, None);
    let (mut folder, mut kubernetes, mut qos) = ("", false, Qos::Guaranteed);
    // containerd with the wrong cgroup driver creates one folder `….slice:cri-containerd:<id>` instead of
    // three.
    for piece in path.split(['/', ':']).filter(|piece| !piece.is_empty()) {
        if piece.contains("kubepods") {
            (kubernetes, qos) = (true, Qos::Guaranteed);
        }
        if kubernetes && piece.contains("burstable") {
            qos = Qos::Burstable;
        } else if kubernetes && piece.contains("besteffort") {
            qos = Qos::BestEffort;
        }
        if kubernetes && let Some(uid) = pod_uid(piece) {
            // What contains the pod is not one of its containers.
            (container, pod) = (None, Some(Pod { uid: uid.into(), qos }));
        } else if let Some(found) = by_name(piece).or_else(|| by_folder(folder, piece)) {
            container = Some(found);
        }
        folder = piece;
    }
    (container, pod)
}

/// `pod<uid>` or `kubepods-burstable-pod<uid with underscores>.slice`.
fn pod_uid(piece: &str) -> Option<String> {
    let piece = piece.strip_suffix(".slice").unwrap_or(piece);
    let uid = match piece.strip_prefix("pod") {
        Some(uid) => uid,
        None => piece.get(piece.rfind("-pod")? + 4..)?,
    };
    let uid = uid.replace('_', "-");
    let dashes: Vec<usize> = uid.match_indices('-').map(|(at, _)| at).collect();
    let is_uuid = uid.len() == 36 && dashes == [8, 13, 18, 23];
    let is_hash = uid.len() == 32 && dashes.is_empty();
    let is_hex = uid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    ((is_uuid || is_hash) && is_hex).then_some(uid)
}

fn by_name(piece: &str) -> Option<Container> {
    let container = |id: &str, runtime| Some(Container { id: id.into(), runtime: Some(runtime) });
    let scope = piece.strip_suffix(".scope");
    for (prefix, runtime) in BY_PREFIX {
        if let Some(id) = scope.unwrap_or(piece).strip_prefix(prefix).filter(|id| is_hex(id)) {
            return container(id, runtime);
        }
    }
    for (prefix, runtime) in SCOPES {
        if let Some(id) = scope.and_then(|name| name.strip_prefix(prefix)).filter(|id| !id.is_empty()) {
            return container(id, runtime);
        }
    }
    if let Some(name) = piece.strip_prefix("lxc.payload.").filter(|name| !name.is_empty()) {
        return container(name, "lxc");
    }
    let service = piece.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service"));
    if let Some(name) = service.filter(|name| !name.is_empty()) {
        return container(&unescaped(name), "systemd-nspawn");
    }
    // Scopes of systemd-machined. `machine.rs` handles virtual machines.
    let machine = scope.and_then(|name| name.strip_prefix("machine-")).filter(|name| !name.is_empty());
    let machine = machine.map(unescaped)?;
    match machine.strip_prefix("lxc-") {
        Some(_) => container(&machine, "lxc"),
        None if machine.starts_with("qemu-") => None,
        None => container(&machine, "systemd-nspawn"),
    }
}

fn by_folder(folder: &str, piece: &str) -> Option<Container> {
    if matches!(folder, "lxc" | "lxc.payload") {
        return Some(Container { id: piece.into(), runtime: Some("lxc") });
    }
    let runtime = BY_FOLDER.iter().find(|(name, _)| *name == folder).map(|(_, runtime)| *runtime);
    // Without a known folder only what cannot be anything else: 64 digits, or Fargate's `<task>-<number>`.
    let is_id = match piece.split_once('-') {
        Some((task, n)) => task.len() == 32 && is_hex(task) && number::<u64>(n).is_some(),
        None => is_hex(piece) && (piece.len() == 64 || folder == "docker" && piece.len() >= 12),
    };
    is_id.then(|| Container { id: piece.into(), runtime })
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}
