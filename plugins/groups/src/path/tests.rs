//! Paths as runtimes create them, and what each must yield.

use super::job::Owner;
use super::text::unescaped;
use super::*;

const ID: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
const UID: &str = "7e44ee88-1e65-4a16-8cdf-9a90c819180e";

/// The result for a path, in short: `container(runtime) pod/qos unit job machine`.
fn groups(path: &str) -> String {
    let uid_below = UID.replace('-', "_");
    let info = PathInfo::of(&path.replace("UID", UID).replace("U_D", &uid_below).replace("ID", ID));
    let mut found = Vec::new();
    if let Some(c) = info.container {
        found.push(format!("{}({})", c.id.replace(ID, "ID"), c.runtime.unwrap_or("?")));
    }
    found.extend(info.pod.map(|p| format!("pod:{}/{}", p.uid.replace(UID, "UID"), p.qos.as_str())));
    found.extend(
        info.unit
            .map(|u| format!("unit:{}", u.id().replace(ID, "ID").replace(&UID.replace('-', "_"), "U_D"))),
    );
    if let Some(j) = info.job {
        let user = match j.user {
            Some(Owner::Id(id)) => format!(" by {id}"),
            Some(Owner::Name(name)) => format!(" by {name}"),
            None => String::new(),
        };
        let step = j.step.map(|s| format!(".{s}")).unwrap_or_default();
        found.push(format!("{}:{}{step}{user}", j.scheduler.as_str(), j.id));
    }
    found.extend(info.machine.map(|m| format!("machine:{}={}", m.id, m.name)));
    found.join(" ")
}

const TABLE: &[(&str, &str)] = &[
    // systemd
    ("/", ""),
    ("/init.scope", "unit:init.scope"),
    ("/system.slice/nginx.service", "unit:nginx.service"),
    ("/system.slice/system-getty.slice/getty@tty1.service", "unit:getty@tty1.service"),
    ("/system.slice/_cpu.service", "unit:cpu.service"),
    ("/system.slice/home-ann.mount", "unit:home-ann.mount"),
    ("/user.slice/user-1000.slice/session-3.scope", "unit:session-3.scope"),
    ("/user.slice/user-1000.slice/user@1000.service/init.scope", "unit:user@1000.service/init.scope"),
    (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-2231.scope",
        "unit:user@1000.service/app-gnome-firefox-2231.scope",
    ),
    ("/user.slice/user-1000.slice/user@1000.service", "unit:user@1000.service"),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice", "unit:user@1000.service"),
    ("/user.slice", ""),
    ("/.service", ""),
    ("/build/nginx.service", ""),
    // Docker
    ("/system.slice/docker-ID.scope", "ID(docker) unit:docker-ID.scope"),
    ("/docker/ID", "ID(docker)"),
    ("/docker/ID/system.slice/cron.service", "ID(docker)"),
    ("/docker/4f797c539e6c", "4f797c539e6c(docker)"),
    ("/docker/buildkit/x", ""),
    ("/ID", "ID(?)"),
    ("/actions_job/ID", "ID(?)"),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
        "ID(docker) unit:user@1000.service/docker-ID.scope",
    ),
    ("/system.slice/docker.service", "unit:docker.service"),
    ("/system.slice/docker-containerd.scope", "unit:docker-containerd.scope"),
    // containerd, nerdctl
    ("/default/ID", "ID(containerd)"),
    ("/system.slice/nerdctl-ID.scope", "ID(containerd) unit:nerdctl-ID.scope"),
    ("/k8s.io/ID", "ID(containerd)"),
    ("/default/web", ""),
    // Podman
    ("/machine.slice/libpod-ID.scope", "ID(podman) unit:libpod-ID.scope"),
    ("/machine.slice/libpod-ID.scope/container", "ID(podman) unit:libpod-ID.scope"),
    ("/machine.slice/libpod_pod_ID.slice/libpod-ID.scope", "ID(podman) unit:libpod-ID.scope"),
    ("/libpod_parent/libpod-ID", "ID(podman)"),
    ("/libpod_parent/ID", "ID(podman)"),
    ("/libpod_parent/conmon", ""),
    ("/machine.slice/libpod-conmon-ID.scope", "unit:libpod-conmon-ID.scope"),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
        "ID(podman) unit:user@1000.service/libpod-ID.scope",
    ),
    // Low-level runtimes, LXC, nspawn, Fargate
    ("/system.slice/crun-web.scope", "web(crun) unit:crun-web.scope"),
    ("/system.slice/runc-web-1.scope", "web-1(runc) unit:runc-web-1.scope"),
    ("/lxc/web", "web(lxc)"),
    ("/lxc/100/ns/system.slice/cron.service", "100(lxc)"),
    ("/lxc.payload.web/system.slice/cron.service", "web(lxc)"),
    ("/lxc.payload/web", "web(lxc)"),
    ("/lxc.monitor.web", ""),
    ("/lxc/100/ns/system.slice/docker-ID.scope", "ID(docker)"),
    (
        "/machine.slice/systemd-nspawn@my\\x2dbox.service/payload/system.slice/a.service",
        "my-box(systemd-nspawn) unit:systemd-nspawn@my\\x2dbox.service",
    ),
    ("/machine.slice/machine-box.scope", "box(systemd-nspawn) unit:machine-box.scope"),
    ("/machine.slice/machine-lxc\\x2d7\\x2dweb.scope", "lxc-7-web(lxc) unit:machine-lxc\\x2d7\\x2dweb.scope"),
    (
        "/ecs/0f6c1c5d8a6b4a0c9f5b2f6ed4f7d2a1/0f6c1c5d8a6b4a0c9f5b2f6ed4f7d2a1-2531612879",
        "0f6c1c5d8a6b4a0c9f5b2f6ed4f7d2a1-2531612879(?)",
    ),
    ("/ecs/0410eff2-7e59-4111-823e-1e0d98ef7f30/ID", "ID(?)"),
    // Kubernetes
    ("/kubepods/burstable/podUID/ID", "ID(?) pod:UID/Burstable"),
    ("/kubepods/besteffort/podUID/crio-ID", "ID(cri-o) pod:UID/BestEffort"),
    ("/kubepods/podUID/ID", "ID(?) pod:UID/Guaranteed"),
    ("/kubepods/podUID", "pod:UID/Guaranteed"),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_D.slice/cri-containerd-ID.scope",
        "ID(containerd) pod:UID/Burstable unit:cri-containerd-ID.scope",
    ),
    (
        "/kubepods.slice/kubepods-podU_D.slice/crio-ID.scope/container",
        "ID(cri-o) pod:UID/Guaranteed unit:crio-ID.scope",
    ),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_D.slice/docker-ID.scope",
        "ID(docker) pod:UID/BestEffort unit:docker-ID.scope",
    ),
    (
        "/kubepods.slice/kubepods-podU_D.slice/crio-conmon-ID.scope",
        "pod:UID/Guaranteed unit:crio-conmon-ID.scope",
    ),
    (
        "/kubepods/burstable/podd4c4c7fd8a6b4a0c9f5b2f6ed4f7d2a1/ID",
        "ID(?) pod:d4c4c7fd8a6b4a0c9f5b2f6ed4f7d2a1/Burstable",
    ),
    (
        "/kubepods.slice/kubepods-burstable.slice/\
         kubepods-burstable-podd4c4c7fd8a6b4a0c9f5b2f6ed4f7d2a1.slice/crio-ID.scope",
        "ID(cri-o) pod:d4c4c7fd8a6b4a0c9f5b2f6ed4f7d2a1/Burstable unit:crio-ID.scope",
    ),
    ("/kubepods/besteffort/podUID/crio-conmon-ID", "pod:UID/BestEffort"),
    (
        "/system.slice/containerd.service/kubepods-burstable-podU_D.slice:cri-containerd:ID",
        "ID(containerd) pod:UID/Burstable unit:containerd.service",
    ),
    // A node in a container (kind): the node is not the pod's container.
    (
        "/docker/ID/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_D.slice/\
         cri-containerd-abc123.scope",
        "abc123(containerd) pod:UID/Guaranteed",
    ),
    ("/docker/ID/kubelet/kubepods/burstable/podUID", "pod:UID/Burstable"),
    // k3d and k3s, minikube's docker driver, kind with systemd; Docker in a pod.
    ("/docker/ID/kubepods/burstable/podUID/abc123", "pod:UID/Burstable"),
    (
        "/system.slice/docker-abc123.scope/kubepods.slice/kubepods-podU_D.slice/docker-ID.scope",
        "ID(docker) pod:UID/Guaranteed unit:docker-abc123.scope",
    ),
    (
        "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
         kubelet-kubepods-besteffort-podU_D.slice/cri-containerd-ID.scope",
        "ID(containerd) pod:UID/BestEffort unit:cri-containerd-ID.scope",
    ),
    ("/kubepods/burstable/podUID/abc123/docker/ID", "ID(docker) pod:UID/Burstable"),
    ("/kubepods/podium/ID", "ID(?)"),
    ("/podUID/x", ""),
    // Slurm
    ("/slurm/uid_1000/job_123/step_0/task_0", "slurm:123.0 by 1000"),
    ("/slurm_node7/uid_0/job_1/step_batch", "slurm:1.batch by 0"),
    (
        "/system.slice/slurmstepd.scope/job_42/step_extern/user/task_special",
        "unit:slurmstepd.scope slurm:42.extern",
    ),
    ("/system.slice/n7_slurmstepd.scope/job_42/step_1/slurm", "unit:n7_slurmstepd.scope slurm:42.1"),
    ("/system.slice/slurmstepd.scope/system", "unit:slurmstepd.scope"),
    ("/slurm/uid_1000/job_x", ""),
    ("/job_7/step_0", ""),
    // OAR
    ("/oar/ann_lee_45670", "oar:45670 by ann_lee"),
    (
        "/oar.slice/oar-u1000.slice/oar-u1000-j45670.slice/oar-u1000-j45670-s3.scope",
        "unit:oar-u1000-j45670-s3.scope oar:45670 by 1000",
    ),
    ("/oar.slice/oar-u1000.slice", ""),
    // Machines
    (
        "/machine.slice/machine-qemu\\x2d1\\x2dweb\\x2d2.scope/libvirt/vcpu0",
        "unit:machine-qemu\\x2d1\\x2dweb\\x2d2.scope machine:qemu-1-web-2=web-2",
    ),
    ("/machine/qemu-3-db.libvirt-qemu/emulator", "machine:qemu-3-db=db"),
    ("/libvirt/qemu/db", "machine:db=db"),
    ("/qemu.slice/100.scope", "unit:100.scope machine:100=100"),
    // An empty id would mean the rest.
    ("/qemu.slice/.scope", ""),
    ("/machine.slice/machine-.scope", "unit:machine-.scope"),
    ("/machine.slice/systemd-nspawn@.service", "unit:systemd-nspawn@.service"),
];

#[test]
fn every_known_form_of_path_is_understood() {
    for (path, expected) in TABLE {
        assert_eq!(groups(path), *expected, "{path}");
    }
}

#[test]
fn hierarchies_complete_each_other() {
    // As on a machine with v1 controllers beside an unused v2 tree, in a Slurm job's step.
    let text = "9:name=systemd:/system.slice/slurmd.service\n6:freezer:/slurm_vm/uid_7/job_1/step_batch\n\
                4:memory:/x\n1:cpu,cpuacct:/\n0::/\n";
    let info = PathInfo::of_all(Some("/"), text);
    let job = info.job.unwrap();
    assert_eq!((&*job.id, job.step.as_deref(), job.user), ("1", Some("batch"), Some(Owner::Id(7))));
    assert_eq!(&*info.unit.unwrap().name, "slurmd.service");
    assert_eq!(info.cgroup.as_deref(), Some("/slurm_vm/uid_7/job_1/step_batch"));

    // Docker without systemd on such a machine: the container is in v1 only, and the v2 path is the daemon's.
    let text =
        format!("4:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/system.slice/containerd.service\n");
    let info = PathInfo::of_all(Some("/system.slice/containerd.service"), &text);
    assert_eq!(&*info.container.unwrap().id, ID);
    assert_eq!(&*info.unit.unwrap().name, "containerd.service");
    assert_eq!(info.cgroup.as_deref(), Some("/system.slice/containerd.service"));

    assert!(has_v1(&text) && !has_v1("0::/system.slice/a.service\n") && !has_v1(""));
    assert_eq!(PathInfo::of_all(None, ""), PathInfo::default());
}

#[test]
fn escapes_are_undone_and_other_backslashes_stay() {
    for (escaped, plain) in [
        ("a\\x2db", "a-b"),
        ("\\x2d", "-"),
        ("\\x2", "\\x2"),
        ("a\\xzzb", "a\\xzzb"),
        ("\\\\x2d", "\\-"),
        ("\\x+d", "\\x+d"),
    ] {
        assert_eq!(unescaped(escaped), plain);
    }
    assert_eq!(unescaped("\\x€a"), "\\x€a");
}

proptest::proptest! {
    /// A cgroup may have any name.
    #[test]
    fn every_path_yields_ids_that_are_not_empty(
        path in "(/(([a-z.@_\\\\:-]|\u{20ac}|pod|kubepods|docker-|machine-|qemu-|oar-u|-j|job_|slurm\
                 |[0-9a-f]{32}){0,6})){0,5}"
    ) {
        let info = PathInfo::of_all(Some(&path), &path);
        proptest::prop_assert!(info.container.is_none_or(|c| !c.id.is_empty()));
        proptest::prop_assert!(info.job.is_none_or(|j| !j.id.is_empty()));
    }
}
