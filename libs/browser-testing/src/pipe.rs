//! The DevTools protocol over a pair of pipes: JSON, each message ended by a zero byte. The browser reads
//! commands from descriptor 3, and writes answers and events to descriptor 4.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Names under which distributions install it.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Without a sandbox of its own, since tests run as root; without anything that asks the network by itself.
const OPTIONS: [&str; 12] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];

/// A browser's process and the connection to it.
pub(crate) struct Pipe {
    child: Child,
    commands: PipeWriter,
    messages: Receiver<Value>,
    last: u64,
    pub(crate) events: VecDeque<Value>,
    _profile: tempfile::TempDir,
}

impl Pipe {
    pub(crate) fn open() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = |program: &&str| std::env::split_paths(&path).any(|dir| dir.join(program).exists());
        let Some(program) = PROGRAMS.into_iter().find(is_there) else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no Chromium: cargo xtask setup --test");
            eprintln!("skipped: there is no Chromium (cargo xtask setup --test installs it)");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let (read_commands, commands) = std::io::pipe().unwrap();
        let (answers, write_answers) = std::io::pipe().unwrap();
        let mut command = Command::new(program);
        command.args(OPTIONS).arg(format!("--user-data-dir={}", profile.path().display()));
        command.env("HOME", profile.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: the closure makes only async-signal-safe calls.
        unsafe {
            command.pre_exec(move || {
                // First out of the way: either may be descriptor 3 or 4 already.
                let copies = [&read_commands as &dyn std::os::fd::AsRawFd, &write_answers]
                    .map(|end| libc::fcntl(end.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10));
                for (copy, fixed) in copies.into_iter().zip([3, 4]) {
                    if copy < 0 || libc::dup2(copy, fixed) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // It holds the browser's ends, which must close with the browser.
        drop(command);
        let messages = read(answers);
        Some(Self { child, commands, messages, last: 0, events: VecDeque::new(), _profile: profile })
    }

    /// Calls a method, and returns its result.
    pub(crate) fn call(
        &mut self,
        session: Option<&str>,
        method: &str,
        parameters: &Value,
        limit: Duration,
    ) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let mut message = message.unwrap_or_else(|e| panic!("{method}: no answer from Chromium ({e})"));
            if message["id"] == self.last {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].take();
            }
            self.events.push_back(message);
        }
    }
}

/// Reads messages on a thread, so that waiting for one can end.
fn read(answers: PipeReader) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for message in BufReader::new(answers).split(0) {
            let message = serde_json::from_slice(&message.unwrap()).unwrap();
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
