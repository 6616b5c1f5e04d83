//! A child process as its element sees it: started, written to, ended. Its thread (`keeper`) does the rest.
//! The child leads a process group, and what is left of the group dies with it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ChildStdin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{self, Pid, Signal};
use wattrace_api::{Error, ResultExt};

use crate::inbox::Inbox;
use crate::keeper;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// `source/exec/NAME`.
    pub(crate) element: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) max_line: usize,
}

/// A running child. Dropping it ends it, in the background.
#[derive(Debug)]
pub(crate) struct Process {
    element: String,
    stdin: Option<ChildStdin>,
    pub(crate) inbox: Arc<Inbox>,
    leash: Arc<Leash>,
}

/// Why a child could not be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// It did not read in time, and was killed.
    Deaf,
    /// It has closed its standard input; most likely it has ended.
    Closed,
}

/// The process group, for as long as its leader has not been reaped: until then its number is nobody else's.
#[derive(Debug)]
pub(crate) struct Leash(Mutex<Option<Pid>>);

impl Leash {
    /// Of the group that `pid` leads.
    pub(crate) fn new(pid: Pid) -> Self {
        Self(Mutex::new(Some(pid)))
    }

    /// Whoever reaps the leader holds this meanwhile, and leaves nothing in it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `signal` to the whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = *self.lock() {
            // It may have ended this moment.
            _ = process::kill_process_group(pid, signal);
        }
    }
}

impl Process {
    /// Starts `program`.
    ///
    /// # Errors
    /// Fatal, if it cannot be started.
    pub(crate) fn start(program: &Program) -> Result<Self, Error> {
        let (started, start) = mpsc::channel();
        let inbox = Arc::new(Inbox::default());
        let (thread, lines) = (program.clone(), inbox.clone());
        let spawn = std::thread::Builder::new().name(program.element.clone());
        spawn.spawn(move || keeper::keep(&thread, &lines, &started)).or_fatal()?;
        let begun = start.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
        let (stdin, leash) = begun.map_err(|e| {
            let program = program.command.first().map(String::as_str).unwrap_or_default();
            Error::fatal(format!(
                "cannot start `{program}`: {e}; is `command` right, and may it be executed?"
            ))
        })?;
        Ok(Self { element: program.element.clone(), stdin: Some(stdin), inbox, leash })
    }

    /// Writes `bytes`, waiting for room until `deadline` with no progress. `meanwhile` is called before each
    /// wait, so that a child that waits for its own output to be read is not waited for in vain.
    ///
    /// # Errors
    /// Why it cannot be written to.
    pub(crate) fn write(
        &mut self,
        mut bytes: &[u8],
        patience: Duration,
        mut meanwhile: impl FnMut(&Inbox),
    ) -> Result<(), Unwritten> {
        let Some(stdin) = &mut self.stdin else { return Err(Unwritten::Closed) };
        let mut deadline = Instant::now() + patience;
        while !bytes.is_empty() {
            match stdin.write(bytes) {
                Ok(n) => {
                    bytes = &bytes[n..];
                    deadline = Instant::now() + patience;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    meanwhile(&self.inbox);
                    if Instant::now() >= deadline {
                        self.kill();
                        return Err(Unwritten::Deaf);
                    }
                    let mut fds = [PollFd::new(&*stdin, PollFlags::OUT)];
                    // Short, to look after the inbox; an interrupted wait is as good.
                    _ = poll(&mut fds, timespec(Duration::from_millis(20)).as_ref());
                }
                Err(_) => return Err(Unwritten::Closed),
            }
        }
        Ok(())
    }

    /// Closes its standard input: nothing more is wanted of it.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Kills it and all it started.
    pub(crate) fn kill(&self) {
        self.leash.signal(Signal::KILL);
    }

    /// Ends it: closes its standard input, then asks it with SIGTERM, then kills it; each `patience` after
    /// the other.
    pub(crate) fn end(&mut self, patience: Duration) {
        self.close_stdin();
        self.inbox.close();
        end(&self.inbox, &self.leash, patience);
    }
}

fn end(inbox: &Inbox, leash: &Leash, patience: Duration) {
    for signal in [Signal::TERM, Signal::KILL] {
        if inbox.exit(patience).is_some() {
            return;
        }
        leash.signal(signal);
    }
    // A kill is prompt, unless the kernel itself is stuck.
    _ = inbox.exit(patience);
}

impl Drop for Process {
    fn drop(&mut self) {
        self.close_stdin();
        self.inbox.close();
        if self.inbox.exit(Duration::ZERO).is_some() {
            return;
        }
        let (inbox, leash) = (self.inbox.clone(), self.leash.clone());
        let thread = std::thread::Builder::new().name(format!("{} ends", self.element));
        let patience = Duration::from_millis(500);
        if thread.spawn(move || end(&inbox, &leash, patience)).is_err() {
            self.kill();
        }
    }
}

/// `time` for poll(2).
pub(crate) fn timespec(time: Duration) -> Option<Timespec> {
    Timespec::try_from(time).ok()
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
