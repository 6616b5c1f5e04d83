//! The limit on open files: every CPU takes some, and the soft limit of 1,024 that programs start with is for
//! those that use `select(2)`. The agent takes what it may have; a command that it runs gets the old limit.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that this process was started with.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit on open files to the hard one.
pub(crate) fn raise_open_files() {
    let original = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: original.maximum, maximum: original.maximum };
    // If it fails, the error of what cannot be opened then names the limit.
    if setrlimit(Resource::Nofile, raised).is_ok() {
        let _ = ORIGINAL.set(original);
    }
}

/// Restores the limit in a child, before it executes a program. It is async-signal-safe.
pub(crate) fn restore() {
    if let Some(original) = ORIGINAL.get() {
        let limit = Rlimit { current: original.current, maximum: original.maximum };
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
