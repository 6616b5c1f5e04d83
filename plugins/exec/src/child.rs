//! A child process as its element sees it: started, written to, ended. `supervisor.rs` runs the child's
//! thread. The child leads a process group, and the whole group is killed when it ends.

use std::io::{self, Write};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use wattrace_api::{Error, ResultExt};

use crate::line_queue::LineQueue;
use crate::process_group::ProcessGroup;
use crate::program::Program;
use crate::supervisor;

/// How often a full pipe's reader's own lines are read while waiting for room.
const QUEUE_CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// A running child. Dropping it ends it, in the background.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    element: String,
    stdin: Option<ChildStdin>,
    /// The lines of its standard output.
    pub(crate) queue: Arc<LineQueue>,
    group: Arc<ProcessGroup>,
}

/// Why a child could not be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// It did not read in time, and was killed.
    Timeout,
    /// It has closed its standard input; most likely it has ended.
    Closed,
}

impl ChildProcess {
    /// Starts `program`.
    ///
    /// # Errors
    /// Fatal, if it cannot be started.
    pub(crate) fn start(program: &Program) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel();
        let queue = Arc::new(LineQueue::default());
        let (of_thread, lines) = (program.clone(), queue.clone());
        let thread = std::thread::Builder::new().name(program.element.clone());
        thread.spawn(move || supervisor::supervise(&of_thread, &lines, &sender)).or_fatal()?;
        let started = receiver.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
        let (stdin, group) = started.map_err(|e| {
            let program = program.command.first().map(String::as_str).unwrap_or_default();
            Error::fatal(format!(
                "cannot start `{program}`: {e}; is `command` right, and may it be executed?"
            ))
        })?;
        Ok(Self { element: program.element.clone(), stdin: Some(stdin), queue, group })
    }

    /// Writes `bytes`. Fails after `timeout` without progress. `meanwhile` is called before each wait: a
    /// child may have to have its own output read before it reads its input.
    ///
    /// # Errors
    /// Why it cannot be written to.
    pub(crate) fn write(
        &mut self,
        mut bytes: &[u8],
        timeout: Duration,
        mut meanwhile: impl FnMut(&LineQueue),
    ) -> Result<(), WriteError> {
        let Some(stdin) = &mut self.stdin else { return Err(WriteError::Closed) };
        let mut deadline = Instant::now() + timeout;
        while !bytes.is_empty() {
            match stdin.write(bytes) {
                Ok(n) => {
                    bytes = &bytes[n..];
                    deadline = Instant::now() + timeout;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    meanwhile(&self.queue);
                    if Instant::now() >= deadline {
                        self.kill();
                        return Err(WriteError::Timeout);
                    }
                    let mut fds = [PollFd::new(&*stdin, PollFlags::OUT)];
                    // An interrupted wait is tried again like a timeout.
                    _ = poll(&mut fds, Some(&QUEUE_CHECK));
                }
                Err(_) => return Err(WriteError::Closed),
            }
        }
        Ok(())
    }

    /// Closes its standard input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Kills it and all processes of its group.
    pub(crate) fn kill(&self) {
        self.group.signal(Signal::KILL);
    }

    /// Ends it: closes its standard input, sends SIGTERM, then SIGKILL, with a wait of `timeout` after each.
    pub(crate) fn end(&mut self, timeout: Duration) {
        self.close_stdin();
        self.queue.discard();
        end(&self.queue, &self.group, timeout);
    }
}

fn end(queue: &LineQueue, group: &ProcessGroup, timeout: Duration) {
    for signal in [Signal::TERM, Signal::KILL] {
        if queue.exit(timeout).is_some() {
            return;
        }
        group.signal(signal);
    }
    // A kill takes effect at once, unless the process is stuck in the kernel.
    _ = queue.exit(timeout);
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.close_stdin();
        self.queue.discard();
        if self.queue.exit(Duration::ZERO).is_some() {
            return;
        }
        let (queue, group) = (self.queue.clone(), self.group.clone());
        let thread = std::thread::Builder::new().name(format!("{} ends", self.element));
        let timeout = Duration::from_millis(500);
        if thread.spawn(move || end(&queue, &group, timeout)).is_err() {
            self.kill();
        }
    }
}

#[cfg(test)]
#[path = "child_tests.rs"]
mod tests;
