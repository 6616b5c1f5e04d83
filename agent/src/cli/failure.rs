//! How a command fails: with a message for the user and an exit code.

use std::io::{ErrorKind, Write as _};

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) code: u8,
}

impl Failure {
    /// The command failed while it ran.
    pub(super) fn new(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    /// The command line or the configuration is invalid.
    pub(super) fn usage(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: 2 }
    }
}

/// Prints to standard output. A closed pipe is no failure: the reader has seen enough.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
