//! Containers and Kubernetes pods in a cgroup path. Of nested containers the innermost counts. Its pod, if it
//! has one, comes earlier in the same path, so a container is always wholly in one pod.

use std::borrow::Cow;
use std::sync::Arc;

use super::form::{Part, match_last};

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

/// The forms of containers, and the runtime of each. Of two that match the same folder the first counts.
pub(super) const FORMS: &[(&str, Option<&str>)] = &[
    // Docker, by its driver (systemd, cgroupfs); the steps of a build, which BuildKit places in
    // `<parent>/buildkit/<id>` (buildkit, executor/oci/spec.go: GenerateSpec).
    ("docker-{hex}[.scope]", Some("docker")),
    ("docker/{short-id}", Some("docker")),
    ("docker-{build-id}.scope", Some("docker")),
    ("docker/{build-id}", Some("docker")),
    ("docker/buildkit/{build-id}", Some("docker")),
    ("buildkit/{build-id}", Some("buildkit")),
    ("balena-{hex}[.scope]", Some("balena")),
    ("balena/{short-id}", Some("balena")),
    // containerd: its CRI plugin, its namespaces (`k8s.io`, `default`), nerdctl.
    ("cri-containerd-{hex}[.scope]", Some("containerd")),
    ("cri-containerd/{id}", Some("containerd")),
    ("nerdctl-{hex}[.scope]", Some("containerd")),
    ("k8s.io/{id}", Some("containerd")),
    ("default/{id}", Some("containerd")),
    // CRI-O. Its monitors are `crio-conmon-<id>`, which is not hexadecimal.
    ("crio-{hex}[.scope]", Some("cri-o")),
    ("crio/{id}", Some("cri-o")),
    // Podman; `libpod-payload-<id>` with --cgroups=split, as Quadlet does (podman, libpod/container_internal_
    // linux.go: getOCICgroupPath). Its monitors are `libpod-conmon-<id>`.
    ("libpod-{hex}[.scope]", Some("podman")),
    ("libpod-payload-{hex}", Some("podman")),
    ("libpod_parent/{id}", Some("podman")),
    // Low-level runtimes, started by hand or by buildah, with systemd's driver.
    ("crun-{name}.scope", Some("crun")),
    ("runc-{name}.scope", Some("runc")),
    ("youki-{name}.scope", Some("youki")),
    // Kata on v1: the sandbox's machine, beside the pod's other folders.
    ("kata_{id}", Some("kata")),
    // LXC, LXD, Incus, Proxmox; the monitors are in `lxc.monitor`.
    ("lxc/{name}", Some("lxc")),
    ("lxc.payload/{name}", Some("lxc")),
    ("lxc.payload.{name}", Some("lxc")),
    // libvirt's LXC driver, without and with systemd-machined.
    ("lxc-{any-number}-{name}.libvirt-lxc", Some("lxc")),
    ("machine-lxc-{any-number}-{name}.scope", Some("lxc")),
    // systemd-nspawn: by its template, by a scope of systemd-machined, by a scope or unit of its own in
    // machine.slice. Below each it creates `payload` and `supervisor` (systemd, nspawn-cgroup.c:
    // create_subcgroup); before version 235 the container's own folders are there. What has none of them is a
    // virtual machine (`machine.rs`).
    ("systemd-nspawn@{name}.service", Some("systemd-nspawn")),
    ("machine-{machine-name}.scope/{inside}", Some("systemd-nspawn")),
    ("machine.slice/{own-name}.scope/{inside}", Some("systemd-nspawn")),
    ("machine.slice/{any}@{name}.service/{inside}", Some("systemd-nspawn")),
    ("machine.slice/{name}.service/{inside}", Some("systemd-nspawn")),
    // Apptainer and Singularity, if limits are asked for: by the process that began it.
    ("apptainer-{number}.scope", Some("apptainer")),
    ("apptainer/{number}", Some("apptainer")),
    ("singularity-{number}.scope", Some("singularity")),
    ("singularity/{number}", Some("singularity")),
    // Cloud Foundry's Garden: directly, or below folders that share the CPU.
    ("garden/{garden-id}", Some("garden")),
    ("garden/good/{garden-id}", Some("garden")),
    ("garden/bad/{garden-id}", Some("garden")),
    ("mesos/{uuid}", Some("mesos")),
    // AWS Fargate.
    ("{fargate-id}", None),
    // 64 digits cannot be anything else, wherever they are.
    ("{id}", None),
];

/// The innermost container and the pod around it.
pub(super) fn find(folders: &[Cow<'_, str>]) -> (Option<Container>, Option<Pod>) {
    let (mut container, mut pod): (Option<Container>, Option<Pod>) = (None, None);
    let (mut kubernetes, mut qos) = (false, Qos::Guaranteed);
    for (at, folder) in folders.iter().enumerate() {
        if folder.contains("kubepods") {
            (kubernetes, qos) = (true, Qos::Guaranteed);
        }
        if kubernetes && folder.contains("burstable") {
            qos = Qos::Burstable;
        } else if kubernetes && folder.contains("besteffort") {
            qos = Qos::BestEffort;
        }
        if kubernetes && let Some(uid) = pod_uid(folder) {
            // What contains the pod is not one of its containers.
            (container, pod) = (None, Some(Pod { uid: uid.into(), qos }));
        } else if let Some(found) = ends_at(&folders[..=at]) {
            container = Some(found);
        }
    }
    (container, pod)
}

/// The container that the last of `folders` is, by the first form that matches.
fn ends_at(folders: &[Cow<'_, str>]) -> Option<Container> {
    FORMS.iter().find_map(|&(form, runtime)| {
        let found = match_last(form, folders)?;
        let (_, id) = found.into_iter().find(|(part, _)| *part == Part::Id)?;
        Some(Container { id: (*id).into(), runtime })
    })
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
