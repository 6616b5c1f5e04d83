//! Servers that tests start for themselves, on free ports of loopback and in temporary directories.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Ended with the test, however it ends.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Kills it now, without a chance to write anything.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a program is installed. Without it its test is skipped with a message, and fails under CI=true.
pub(crate) fn has(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{program} is missing: cargo xtask setup --test"
        );
        eprintln!("skipped: {program} is missing (Debian: apt install {package})");
    }
    found.is_ok()
}

/// A port of loopback that nobody uses, until this process ends: the lock of a file keeps other tests away,
/// and programs that ask the kernel for any port get one above.
pub(crate) fn free_port() -> u16 {
    static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    // SAFETY: the call has no preconditions.
    let user = unsafe { libc::geteuid() };
    let directory = std::env::temp_dir().join(format!("wattrace-test-ports-{user}"));
    std::fs::create_dir_all(&directory).unwrap();
    loop {
        let port = fastrand::u16(15_000..30_000);
        let lock = File::create(directory.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            LOCKS.lock().unwrap().push(lock);
            return port;
        }
    }
}

/// What `probe` gives as soon as it gives something.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come within {PATIENCE:?}");
        sleep(Duration::from_millis(50));
    }
}

/// The body of a successful answer to a request; `None` while nobody listens, or if it is refused.
pub(crate) fn http(port: u16, method: &str, target: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    status.starts_with('2').then(|| body.to_owned())
}

/// `text` as it may stand in a query string.
pub(crate) fn percent_encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}
