//! What a command that takes long shows on standard error while it runs: one line that changes on a terminal,
//! a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::table::shortened;

/// The time between two lines that are not on a terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// The width of a line on a terminal.
const WIDTH: usize = 79;

/// The progress of a command.
pub(super) struct Progress {
    is_terminal: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Progress that is shown; `on_terminal` is false if a terminal belongs to somebody else.
    pub(super) fn new(on_terminal: bool) -> Self {
        Self { is_terminal: on_terminal && std::io::stderr().is_terminal(), last: None }
    }

    /// Shows what is done now.
    pub(super) fn show(&mut self, now: &str) {
        if self.is_terminal {
            eprint!("\r\x1b[K{}", shortened(now, WIDTH));
            let _ = std::io::stderr().flush();
        } else if self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            eprintln!("wattrace: {now}");
            self.last = Some(Instant::now());
        }
    }

    /// Says what stays.
    pub(super) fn say(&mut self, what: &str) {
        self.clear();
        eprintln!("wattrace: {what}");
    }

    /// Removes the line.
    pub(super) fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
