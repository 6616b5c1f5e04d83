//! The terminal: taken over while screens are shown, and given back whatever happens. What the tracer logs
//! meanwhile would destroy the screen, so it is kept and printed afterwards.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom, Stdout, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::stdio::dup2_stderr;
use wattrace_terminal::{App, Facts, screen};

use crate::cli::failure::Failure;

/// The terminal, while it is ours.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    log: Option<Log>,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// Those of the terminal.
    pub(super) fn open() -> Result<Self, Failure> {
        let log = if io::stderr().is_terminal() { Log::begin().ok() } else { None };
        let open = || {
            enable_raw_mode()?;
            let (mouse, paste) = (EnableMouseCapture, EnableBracketedPaste);
            execute!(io::stdout(), EnterAlternateScreen, mouse, paste, cursor::Hide)?;
            Terminal::new(CrosstermBackend::new(io::stdout()))
        };
        match open() {
            Ok(terminal) => Ok(Self { terminal, log }),
            Err(e) => {
                restore();
                Err(Failure::new(format!("cannot use the terminal: {e}")))
            }
        }
    }

    /// Draws.
    ///
    /// # Errors
    /// Those of the terminal.
    pub(super) fn draw(&mut self, app: &mut App, facts: &mut dyn Facts) -> Result<(), Failure> {
        let draw = |frame: &mut ratatui::Frame<'_>| {
            let area = frame.area();
            screen::draw(app, facts, area, frame.buffer_mut());
        };
        match self.terminal.draw(draw) {
            Ok(_) => Ok(()),
            Err(e) => Err(Failure::new(format!("cannot write to the terminal: {e}"))),
        }
    }

    /// Clears what another program has written over the screen.
    pub(super) fn clear(&mut self) {
        // The next screen is drawn anyway.
        _ = self.terminal.clear();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
        if let Some(log) = self.log.take() {
            log.end();
        }
    }
}

/// Gives the terminal back. What fails now cannot be helped.
fn restore() {
    let (mouse, paste) = (DisableMouseCapture, DisableBracketedPaste);
    _ = execute!(io::stdout(), paste, mouse, LeaveAlternateScreen, cursor::Show);
    _ = disable_raw_mode();
}

/// What is logged while screens are shown.
struct Log {
    /// The standard error of before.
    stderr: OwnedFd,
    kept: File,
}

/// How much of it is printed.
const MOST_LOGGED: u64 = 64 << 10;

impl Log {
    fn begin() -> io::Result<Self> {
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let kept = File::from(memfd_create("log", MemfdFlags::CLOEXEC)?);
        dup2_stderr(&kept)?;
        Ok(Self { stderr, kept })
    }

    fn end(mut self) {
        // What fails now cannot be reported.
        _ = dup2_stderr(&self.stderr);
        let mut text = Vec::new();
        _ = self.kept.seek(SeekFrom::Start(0));
        _ = self.kept.take(MOST_LOGGED).read_to_end(&mut text);
        _ = io::stderr().write_all(&text);
    }
}
