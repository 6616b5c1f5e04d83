//! A pod as a kubelet would have made it: its cgroups (v2), processes in them, and a kubelet's answer about
//! it (`plugins/groups/tests/data`).

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use super::*;

const POD: &str = "7e44ee88-1e65-4a16-8cdf-9a90c819180e";
const CONTAINER: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
const PODS: &str = include_str!("../../../plugins/groups/tests/data/kubelet-pods.json");

/// The cgroups of a pod with one container; gone when it is dropped.
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    fn make(unified: &Path) -> Option<Self> {
        let mut path = unified.join("kubepods");
        let mut made = Self(Vec::new());
        for folder in ["", "burstable", &format!("pod{POD}"), CONTAINER] {
            path = path.join(folder);
            // A real node's are not ours to play with.
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

/// The kubelet's port for reading only. Its thread ends with the test.
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
    if !have(&["timeout"]) {
        return;
    }
    let Some(unified) = unified() else { return };
    let Some(cgroups) = Cgroups::make(&unified) else {
        return skip(&format!("{}/kubepods cannot be made, or is there", unified.display()));
    };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let agent =
        Agent::start(dir.path(), &[format!("plugins.groups.kubelet_url=http://127.0.0.1:{}", kubelet())]);
    let busy = "echo $$ > \"$0/cgroup.procs\"; for i in $(seq 100); do /bin/true; done
                timeout 3 sh -c 'while :; do :; done'; exit 0";
    run(Command::new("sh").args(["-c", busy]).arg(cgroups.container()));
    let told = agent.stop();

    let [nanoseconds, microjoules] = told.closes("pod", POD, "k8s.pod.uid");
    eprintln!("pod {POD}: {} s on CPUs, {} J", nanoseconds as f64 * 1e-9, microjoules as f64 * 1e-6);
    assert!(nanoseconds > 1_000_000_000 && microjoules > 1_000_000, "{nanoseconds} ns, {microjoules} µJ");
    assert_eq!(
        told.closes("container", CONTAINER, "container.id"),
        [nanoseconds, microjoules],
        "its only container"
    );
    assert!(told.processes("k8s.pod.uid", POD) >= 100, "short processes are in it too");
    let pod = told.attributes("pod", POD);
    assert_eq!(pod["k8s.pod.name"], "shop-6f9c7d5b8-x2x9q");
    assert_eq!(pod["k8s.namespace.name"], "web");
    assert_eq!(pod["k8s.pod.label.app.kubernetes.io/name"], "shop");
    assert_eq!(told.attributes("container", CONTAINER)["k8s.container.name"], "server");
}
