//! The agent as a service: its manager learns when it is ready, reloads and stops, and gets the signs of life
//! that a watchdog waits for. The test stands in for the manager: it listens on the socket. A real systemd
//! runs the packaged agent in xtask/tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::wattrace;
use tempfile::TempDir;
use wattrace_rapl_simulator::{Running, Tree, Zone};

/// Time limit for a message. A busy machine may be slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// A simulated meter, an agent that reads it, and the socket of its service manager.
struct Manager {
    socket: UnixDatagram,
    agent: Child,
    _time: Running,
    _dir: TempDir,
}

impl Manager {
    /// Starts the agent, with `variables` beside the socket's.
    fn start(variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let zones = vec![Zone::new("intel-rapl:0", "package-0", 10.0)];
        let time = Tree::create(&dir.path().join("sys"), zones).unwrap().run(Duration::from_millis(1));
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = wattrace();
        command.args(["run", "--plugins", "rapl"]);
        command.arg("--set").arg(format!("plugins.rapl.sysfs_root={:?}", dir.path().join("sys")));
        command.args(["--set", "agent.control_socket="]);
        command.env("NOTIFY_SOCKET", path).envs(variables.iter().copied()).stderr(Stdio::null());
        Self { socket, agent: command.spawn().unwrap(), _time: time, _dir: dir }
    }

    /// The lines of the next message.
    fn message(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("the agent says nothing");
        String::from_utf8(message[..length].to_vec()).unwrap().lines().map(String::from).collect()
    }

    fn signal(&self, signal: &str) {
        let pid = self.agent.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

#[test]
fn the_manager_learns_when_the_agent_is_ready_reloads_and_stops() {
    let mut manager = Manager::start(&[]);
    // The meter, and the agent's own metrics.
    assert_eq!(manager.message(), ["READY=1", "STATUS=sources: 2, outputs: 0"]);
    manager.signal("HUP");
    let reloading = manager.message();
    assert_eq!(reloading[0], "RELOADING=1");
    // systemd compares it with the time of its request.
    let now = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap();
    assert!(now > 0);
    assert_eq!(manager.message(), ["READY=1"]);
    manager.signal("TERM");
    assert_eq!(manager.message(), ["STOPPING=1"]);
    assert!(manager.agent.wait().unwrap().success());
}

#[test]
fn signs_of_life_come_if_the_unit_has_a_watchdog() {
    // Of the unit, in microseconds.
    let manager = Manager::start(&[("WATCHDOG_USEC", "100000")]);
    assert_eq!(manager.message()[0], "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.message(), ["WATCHDOG=1"]);
    }
}
