//! A container of Podman with one long process and many short ones.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;

/// Podman with all its files below `dir`. Where cgroup v1 has the usual mount point, Podman gets a mount
/// namespace in which v2 has it. It needs nothing that a container on this machine may forbid.
fn podman(dir: &Path) -> Command {
    let own = "mountpoint -q /sys/fs/cgroup && [ -e /sys/fs/cgroup/cgroup.controllers ] || {
                   umount -R /sys/fs/cgroup 2> /dev/null; mount -t cgroup2 none /sys/fs/cgroup; } || exit
               exec podman --root \"$0/root\" --runroot \"$0/run\" --storage-driver vfs \
                   --cgroup-manager cgroupfs --events-backend file --runtime crun \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", own]).arg(dir);
    command
}

/// Podman's API on a socket. It moves the processes in its own cgroup, so it gets one for itself.
struct Service(Child);

impl Service {
    fn start(dir: &Path, cgroup: &Path, socket: &Path) -> Self {
        std::fs::create_dir(cgroup).unwrap();
        let podman = podman(dir);
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup);
        command.arg(podman.get_program()).args(podman.get_args());
        command.args(["system", "service", "--time=0"]).arg(format!("unix://{}", socket.display()));
        let service = Self(command.stderr(Stdio::null()).spawn().unwrap());
        wait_until("podman listens", || socket.exists());
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An image with busybox and its libraries, if any.
fn image(dir: &Path) -> PathBuf {
    let (root, tar) = (dir.join("image"), dir.join("image.tar"));
    let busybox = run(Command::new("sh").args(["-c", "command -v busybox"]));
    let libraries = Command::new("ldd").arg(&busybox).output().unwrap().stdout;
    let libraries = String::from_utf8_lossy(&libraries);
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for (from, to) in libraries.map(|path| (path, path)).chain([(&*busybox, "/bin/busybox")]) {
        let to = root.join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
    run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
    tar
}

#[test]
fn a_container_gets_its_joules_under_its_own_name() {
    if !can_run(&["podman", "crun", "conmon", "busybox", "unshare"]) {
        return;
    }
    let Some(cgroup2) = cgroup2() else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (state, socket) = (dir.path().join("podman"), dir.path().join("podman.sock"));
    run(podman(&state).arg("import").arg(image(dir.path())).arg("test.example/busy:7"));

    let own_cgroup = cgroup2.join(format!("wattrace-test-{}", std::process::id()));
    let _leftovers = [&own_cgroup, &cgroup2.join("libpod_parent")].map(|cgroup| Leftover::of(cgroup.clone()));
    let service = Service::start(&state, &own_cgroup, &socket);
    let agent = Agent::start(dir.path(), &[format!("plugins.groups.engines=[\"{}\"]", socket.display())]);
    let busy = "i=0; while [ $i -lt 200 ]; do /bin/busybox true; i=$((i+1)); done
                end=$(($(/bin/busybox date +%s)+4)); while [ $(/bin/busybox date +%s) -lt $end ]; do :; done";
    let (cidfile, name) = (dir.path().join("cid"), format!("burner-{}", std::process::id()));
    run(podman(&state)
        .args(["run", "--name", &name, "--network", "none", "--privileged", "--pids-limit", "0"])
        .args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"])
        .arg("--cidfile")
        .arg(&cidfile)
        .args(["test.example/busy:7", "/bin/busybox", "sh", "-c", busy]));
    let values = agent.stop();
    run(podman(&state).args(["rm", "-fa"]));
    drop(service);

    let id = std::fs::read_to_string(&cidfile).unwrap();
    values.check_sums("container", &id, "container.id");
    assert!(values.processes("container.id", &id) >= 200, "short processes are in it too");
    let container = values.attributes("container", &id);
    assert_eq!(container["container.name"], *name);
    assert_eq!(container["container.image.name"], "test.example/busy");
    assert_eq!(container["container.image.tag"], "7");
    assert_eq!(container["container.runtime.name"], "podman");
}
