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
        found.push(format!("{}:{}{step}{user}", j.scheduler, j.id));
    }
    found.extend(info.machine.map(|m| format!("machine:{}={}", m.id, m.name)));
    found.join(" ").replace(UID, "UID")
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
    ("/docker/buildkit/0hrsvqwxbll97yrd06wejhcw3", "0hrsvqwxbll97yrd06wejhcw3(docker)"),
    ("/system.slice/system.slice:docker:0hrsvqwxbll97yrd06wejhcw3", "0hrsvqwxbll97yrd06wejhcw3(docker)"),
    ("/ci.slice/ci.slice:docker:0hrsvqwxbll97yrd06wejhcw3", "0hrsvqwxbll97yrd06wejhcw3(docker)"),
    (
        "/ci.slice/docker-0hrsvqwxbll97yrd06wejhcw3.scope",
        "0hrsvqwxbll97yrd06wejhcw3(docker) unit:docker-0hrsvqwxbll97yrd06wejhcw3.scope",
    ),
    ("/docker/ID/buildkit/0hrsvqwxbll97yrd06wejhcw3", "0hrsvqwxbll97yrd06wejhcw3(buildkit)"),
    ("/system.slice/balena-ID.scope", "ID(balena) unit:balena-ID.scope"),
    ("/system.slice/var-lib-docker-containers-ID-shm.mount", "unit:var-lib-docker-containers-ID-shm.mount"),
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
    ("/system.slice/web.service/libpod-payload-ID", "ID(podman) unit:web.service"),
    ("/system.slice/web.service/libpod-payload-ID/init.scope", "ID(podman) unit:web.service"),
    (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-ID",
        "ID(podman) unit:user@1000.service/web.service",
    ),
    ("/system.slice/web.service/runtime", "unit:web.service"),
    ("/system.slice/ceph-7e44@mon.a.service/container", "unit:ceph-7e44@mon.a.service"),
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
    ("/machine.slice/machine-box.scope/payload", "box(systemd-nspawn) unit:machine-box.scope"),
    ("/machine.slice/machine-box.scope/supervisor", "box(systemd-nspawn) unit:machine-box.scope"),
    ("/machine.slice/machine-old.scope/system.slice/a.service", "old(systemd-nspawn) unit:machine-old.scope"),
    (
        "/user.slice/user-1000.slice/user@1000.service/machine.slice/android-build.scope/payload/\
         system.slice/cron.service",
        "android-build(systemd-nspawn) unit:user@1000.service/android-build.scope",
    ),
    ("/machine.slice/box@web.service/payload/init.scope", "web(systemd-nspawn) unit:box@web.service"),
    ("/machine.slice/box@web.service/supervisor", "web(systemd-nspawn) unit:box@web.service"),
    ("/machine.slice/own.service/payload", "own(systemd-nspawn) unit:own.service"),
    ("/machine.slice/machine-box.scope/payload/docker/ID", "ID(docker) unit:machine-box.scope"),
    ("/machine.slice/machine-lxc\\x2d7\\x2dweb.scope", "web(lxc) unit:machine-lxc\\x2d7\\x2dweb.scope"),
    ("/machine.slice/machine-lxc\\x2d7\\x2dc.scope/init.scope", "c(lxc) unit:machine-lxc\\x2d7\\x2dc.scope"),
    ("/machine/lxc-1268-sl.libvirt-lxc", "sl(lxc)"),
    ("/lxc.payload.user-1000_web/init.scope", "user-1000_web(lxc)"),
    ("/system.slice/youki-web.scope", "web(youki) unit:youki-web.scope"),
    ("/kubepods/burstable/podUID/kata_ID", "ID(kata) pod:UID/Burstable"),
    (
        "/user.slice/user-7.slice/user@7.service/user.slice/apptainer-4711.scope",
        "4711(apptainer) unit:user@7.service/apptainer-4711.scope",
    ),
    ("/singularity/4711", "4711(singularity)"),
    ("/garden/0af4bf5c-1d66-4d35-4b2d-fa5c", "0af4bf5c-1d66-4d35-4b2d-fa5c(garden)"),
    (
        "/system.slice/garden.service/garden/good/0af4bf5c-1d66-4d35-4b2d-fa5c",
        "0af4bf5c-1d66-4d35-4b2d-fa5c(garden) unit:garden.service",
    ),
    ("/mesos/UID/mesos/7e44ee88-1e65-4a16-8cdf-9a90c8191800", "7e44ee88-1e65-4a16-8cdf-9a90c8191800(mesos)"),
    ("/ecstasks.slice/ecstasks-0f6c.slice/docker-ID.scope", "ID(docker) unit:docker-ID.scope"),
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
    (
        "/system.slice/slurmstepd.scope/s5K7QZ2M4V8D00/step_0/user/task_0",
        "unit:slurmstepd.scope slurm:s5K7QZ2M4V8D00.0",
    ),
    (
        "/system.slice/node7_slurmstepd.scope/s5K7QZ2M4V8D01/step_batch",
        "unit:node7_slurmstepd.scope slurm:\
      s5K7QZ2M4V8D01.batch",
    ),
    ("/slurm_n7.site.example/uid_7/s5K7QZ2M4V8D01/step_0/task_0", "slurm:s5K7QZ2M4V8D01.0 by 7"),
    ("/slurm/uid_1000/job_x", ""),
    ("/job_7/step_0", ""),
    // OAR
    ("/oar/ann_lee_45670", "oar:45670 by ann_lee"),
    (
        "/oar.slice/oar-u1000.slice/oar-u1000-j45670.slice/oar-u1000-j45670-s3.scope",
        "unit:oar-u1000-j45670-s3.scope oar:45670 by 1000",
    ),
    ("/oar.slice/oar-u1000.slice", ""),
    // Other batch systems
    ("/system.slice/htcondor/condor_var_lib_condor_execute_slot1_23@worker.example", "htcondor:slot1_23"),
    ("/htcondor/condor_var_lib_condor_execute_slot1_2@worker.example/job", "htcondor:slot1_2"),
    (
        "/user.slice/user-500.slice/user@500.service/app.slice/imp-shell-1-f7xqQ3BTkB.service",
        "unit:user@500.service/imp-shell-1-f7xqQ3BTkB.service flux:f7xqQ3BTkB",
    ),
    (
        "/system.slice/flux-prolog@f7xqQ3BTkB.service",
        "unit:flux-prolog@f7xqQ3BTkB.service flux:f7xqQ3BTkB.prolog",
    ),
    ("/pbs_jobs.service/jobid/1234.pbs01", "unit:pbs_jobs.service pbs:1234"),
    ("/pbs_jobs.service/jobs/1234[5].pbs01", "unit:pbs_jobs.service pbs:1234[5]"),
    ("/pbspro.slice/pbspro-1234\\x5b5\\x5d.pbs01.slice", "pbs:1234[5]"),
    ("/pbs_jobs.service/jobid", "unit:pbs_jobs.service"),
    ("/torque/1301.server/R0.t0", "torque:1301"),
    ("/lsf/cluster1/job.6456.16382.1391191087", "lsf:6456"),
    ("/lsf/cluster1/job.6456[2].16382.1391191087", "lsf:6456[2]"),
    ("/UGE/3000000001.1", "grid-engine:3000000001.1"),
    ("/nomad.slice/share.slice/UID.web.scope", "unit:UID.web.scope nomad:UID.web"),
    ("/nomad.slice/docker-ID.scope", "ID(docker) unit:docker-ID.scope"),
    ("/hadoop-yarn/container_e17_1410901177871_0001_01_000005", "yarn:application_1410901177871_0001"),
    // Machines
    (
        "/machine.slice/machine-qemu\\x2d1\\x2dweb\\x2d2.scope/libvirt/vcpu0",
        "unit:machine-qemu\\x2d1\\x2dweb\\x2d2.scope machine:qemu-1-web-2=web-2",
    ),
    ("/machine/qemu-3-db.libvirt-qemu/emulator", "machine:qemu-3-db=db"),
    ("/libvirt/qemu/db", "machine:db=db"),
    ("/qemu.slice/100.scope", "unit:100.scope machine:100=100"),
    ("/machine/ch-3-db.libvirt-ch", "machine:ch-3-db=db"),
    ("/firecracker/551e7604-e35c", "machine:551e7604-e35c=551e7604-e35c"),
    // systemd-vmspawn's have no folders below them.
    ("/machine.slice/machine-devvm.scope", "unit:machine-devvm.scope machine:devvm=devvm"),
    (
        "/user.slice/user-1000.slice/user@1000.service/machine.slice/devvm.scope",
        "unit:user@1000.service/devvm.scope machine:devvm=devvm",
    ),
    (
        "/machine.slice/systemd-vmspawn@devvm.service",
        "unit:systemd-vmspawn@devvm.service machine:devvm=devvm",
    ),
    // Seen from another cgroup namespace
    ("/../../system.slice/sshd.service", "unit:sshd.service"),
    (
        "/../../../kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_D.slice/\
         cri-containerd-ID.scope",
        "ID(containerd) pod:UID/Burstable unit:cri-containerd-ID.scope",
    ),
    // An empty id would mean the rest.
    ("/qemu.slice/.scope", ""),
    ("/machine.slice/machine-.scope", "unit:machine-.scope"),
    ("/machine.slice/systemd-nspawn@.service", "unit:systemd-nspawn@.service"),
];

#[test]
fn every_known_form_of_path_is_understood() {
    let wrong = TABLE.iter().filter(|(path, expected)| groups(path) != *expected);
    let wrong: Vec<_> = wrong.map(|(path, expected)| (path, groups(path), expected)).collect();
    assert!(wrong.is_empty(), "path, found, expected: {wrong:#?}");
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
