//! The thread of a child: it starts the child, puts its lines into the queue, and reaps it. The kernel kills
//! the child when this thread ends, and so when the agent dies. `child.rs` is the element's handle of the
//! child.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{self, Pid, PidfdFlags, Signal};
use tracing::debug;

use crate::descendants::Mark;
use crate::line_queue::{Exit, LineQueue};
use crate::line_splitter::LineSplitter;
use crate::process_group::ProcessGroup;
use crate::program::Program;
use crate::stderr;

/// How long a child that has closed its standard output may go on.
const AFTER_EOF: Duration = Duration::from_secs(1);

/// The result of the child's start.
pub(crate) type Started = io::Result<(ChildStdin, Arc<ProcessGroup>)>;

/// Starts `program`, sends the result to `started`, and supervises the child until it has been reaped.
pub(crate) fn supervise(program: &Program, queue: &LineQueue, started: &Sender<Started>) {
    let mut mark = Mark::new();
    let mut child = match program.spawn(&mark) {
        Ok(child) => child,
        Err(e) => {
            // The receiver waits for this message.
            _ = started.send(Err(e));
            return;
        }
    };
    let pid = Pid::from_child(&child);
    let group = Arc::new(ProcessGroup::new(pid));
    match pipes(&mut child, pid, &program.element, &mut mark) {
        Ok((stdin, stdout, pidfd)) => {
            _ = started.send(Ok((stdin, group.clone())));
            read_lines(stdout, &pidfd, &group, queue, program.max_line);
        }
        Err(e) => _ = started.send(Err(e)),
    }
    let status = group.kill_and_reap(&mut child);
    match mark.kill_all() {
        0 => {}
        left => debug!("{}: killed {left} processes that had left its group", program.element),
    }
    queue.close_with(exit(status));
}

/// The agent's ends of the pipes, non-blocking, and a descriptor that becomes readable when the child ends. A
/// thread reads standard error from here on.
fn pipes(
    child: &mut Child,
    pid: Pid,
    element: &str,
    mark: &mut Mark,
) -> io::Result<(ChildStdin, ChildStdout, OwnedFd)> {
    let missing = || io::Error::other("a pipe is missing");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    mark.add_pipe(&stdout)?;
    mark.add_pipe(&stderr)?;
    rustix::io::ioctl_fionbio(&stdin, true)?;
    rustix::io::ioctl_fionbio(&stdout, true)?;
    let pidfd = process::pidfd_open(pid, PidfdFlags::empty())?;
    let element = element.to_owned();
    let thread = std::thread::Builder::new().name(format!("{element} stderr"));
    thread.spawn(move || stderr::log(&element, stderr))?;
    Ok((stdin, stdout, pidfd))
}

/// Reads lines until the child has ended and its pipe is empty.
fn read_lines(
    mut stdout: ChildStdout,
    pidfd: &OwnedFd,
    group: &ProcessGroup,
    queue: &LineQueue,
    max_line: usize,
) {
    let mut splitter = LineSplitter::new(max_line);
    let mut buffer = vec![0; 64 * 1024];
    let (mut open, mut ended) = (true, false);
    loop {
        let mut ready = false;
        if !ended {
            let mut fds = vec![PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
            if open {
                fds.push(PollFd::new(&stdout, PollFlags::IN));
            }
            let timeout = if open { None } else { Timespec::try_from(AFTER_EOF).ok() };
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => group.signal(Signal::KILL),
                Ok(_) => {
                    ended = !fds[0].revents().is_empty();
                    ready = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
                }
                // Interrupted.
                Err(_) => continue,
            }
        }
        if open && (ready || ended) {
            match stdout.read(&mut buffer) {
                Ok(0) => open = false,
                Ok(n) => splitter.feed(&buffer[..n], |line| queue.push(line)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Empty. A running child may still write more.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => open = !ended,
                Err(_) => open = false,
            }
        }
        if ended && !open {
            break;
        }
    }
    splitter.finish(|line| queue.push(line));
}

fn exit(status: io::Result<ExitStatus>) -> Exit {
    match status {
        Ok(status) => {
            let description = match (status.code(), status.signal()) {
                (Some(code), _) => format!("status {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "no status".to_owned(),
            };
            Exit { description, success: status.success() }
        }
        Err(e) => Exit { description: format!("no status ({e})"), success: false },
    }
}
