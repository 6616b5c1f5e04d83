//! What the end-to-end tests share: the built agent, its output, and the check for root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]
#![allow(dead_code, reason = "each test binary uses its part of it")]

pub(crate) mod feed;
pub(crate) mod load_meter;
pub(crate) mod page;
pub(crate) mod services;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::Value;

/// The agent, configured by its command line alone. It keeps what it learns in a directory of its own: it
/// must neither know what an earlier test measured, nor touch what this machine has learnt.
pub(crate) fn wattrace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattrace"));
    command.env("STATE_DIRECTORY", state_directory());
    command
}

/// A directory for state that no other command uses. The agent creates it if it keeps something.
pub(crate) fn state_directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    let name = format!("state-{}-{number}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // What an earlier process of this number has left.
    let _ = std::fs::remove_dir_all(&directory);
    directory
}

/// Whether the tests that need root can run. Without root they are skipped with a message, and fail under
/// CI=true.
pub(crate) fn is_root() -> bool {
    // SAFETY: the call has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "the privileged tests need root: sudo cargo xtask test"
        );
        eprintln!("skipped: tracing needs root");
    }
    root
}

/// All lines of a jsonl file. Each must be complete.
pub(crate) fn read_jsonl(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
}

/// A point's metric.
pub(crate) fn metric(point: &Value) -> &str {
    point["metric"].as_str().unwrap()
}

/// A point's consumer type.
pub(crate) fn consumer(point: &Value) -> &str {
    point["consumer"]["type"].as_str().unwrap_or_default()
}

/// Asks `agent` to end, as Ctrl-C does.
pub(crate) fn interrupt(agent: &Child) {
    // SAFETY: the call has no preconditions.
    assert_eq!(unsafe { libc::kill(agent.id() as libc::pid_t, libc::SIGINT) }, 0);
}

/// Runs the process `pid` on one CPU from now on.
pub(crate) fn pin(pid: u32, cpu: usize) {
    // SAFETY: the set is plain data, for which zero is valid; the call only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(pid as libc::pid_t, size_of_val(&set), &set), 0);
    }
}
