//! A pod as a kubelet makes it: its cgroups (v2), processes in them, and a kubelet's reply about it
//! (`plugins/groups/tests/data`).

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use super::*;

const POD: &str = "7e44ee88-1e65-4a16-8cdf-9a90c819180e";
const CONTAINER: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
const PODS: &str = include_str!("../../../plugins/groups/tests/data/kubelet-pods.json");

/// The cgroups of a pod with one container. Dropping it removes them.
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    fn make(cgroup2: &Path) -> Option<Self> {
        let mut path = cgroup2.join("kubepods");
        let mut made = Self(Vec::new());
        for folder in ["", "burstable", &format!("pod{POD}"), CONTAINER] {
            path = path.join(folder);
            // On a real node the test must not interfere.
            std::fs::create_dir(&path).ok()?;
            made.0.insert(0, path.clone());
        }
        Some(made)
    }

    fn container(&self) -> &Path {
        &self.0[0]
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.0.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
}

/// A server on the kubelet's read-only port. Its thread ends with the test.
fn kubelet() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = String::new();
            BufReader::new(&stream).read_line(&mut asked).unwrap();
            assert_eq!(asked.trim(), "GET /pods HTTP/1.1");
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{PODS}", PODS.len()).unwrap();
        }
    });
    port
}

#[test]
fn a_pod_gets_its_joules_under_its_own_name() {
    if !can_run(&["timeout"]) {
        return;
    }
    let Some(cgroup2) = cgroup2() else { return };
    let Some(cgroups) = Cgroups::make(&cgroup2) else {
        return skip(&format!("{}/kubepods cannot be made, or is there", cgroup2.display()));
    };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let agent =
        Agent::start(dir.path(), &[format!("plugins.groups.kubelet_url=http://127.0.0.1:{}", kubelet())]);
    let busy = "echo $$ > \"$0/cgroup.procs\"; for i in $(seq 100); do /bin/true; done
                timeout 3 sh -c 'while :; do :; done'; exit 0";
    run(Command::new("sh").args(["-c", busy]).arg(cgroups.container()));
    let values = agent.stop();

    let sums = values.check_sums("pod", POD, "k8s.pod.uid");
    assert_eq!(values.check_sums("container", CONTAINER, "container.id"), sums, "its only container");
    assert!(values.processes("k8s.pod.uid", POD) >= 100, "short processes are in it too");
    let pod = values.attributes("pod", POD);
    assert_eq!(pod["k8s.pod.name"], "shop-6f9c7d5b8-x2x9q");
    assert_eq!(pod["k8s.namespace.name"], "web");
    assert_eq!(pod["k8s.pod.label.app.kubernetes.io/name"], "shop");
    assert_eq!(values.attributes("container", CONTAINER)["k8s.container.name"], "server");
}
