//! For tests: a cgroup from which datagrams are sent.

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use wattrace_cgroup::ScopedCgroup;

/// The headers of a datagram: IPv4's and UDP's.
pub(crate) const HEADERS: u64 = 20 + 8;

/// The cgroup, which is removed in the end.
pub(crate) struct Scene {
    cgroup: ScopedCgroup,
}

impl Scene {
    /// A cgroup below that of this process; `None`: none may be created.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let created = ScopedCgroup::create(&format!("wattrace-test-{name}-{}", std::process::id()));
        created.map(|cgroup| Self { cgroup }).ok()
    }

    /// Its path.
    pub(crate) fn path(&self) -> String {
        self.cgroup.path().to_owned()
    }

    /// Sends datagrams of these sizes from it to a socket of this process, which is in its own cgroup.
    pub(crate) fn send(&self, sizes: &[usize]) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        let one = |size: &usize| format!("head -c {size} /dev/zero > /dev/udp/127.0.0.1/{port}; ");
        let script: String = sizes.iter().map(one).collect();
        // It opens its sockets when it is in the cgroup.
        let mut shell = Command::new("bash").stdin(Stdio::piped()).spawn().unwrap();
        self.cgroup.cgroup().add(shell.id()).unwrap();
        shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        let mut buffer = [0; 2048];
        for size in sizes {
            assert_eq!(receiver.recv(&mut buffer).unwrap(), *size);
        }
    }
}
