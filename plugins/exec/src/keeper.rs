//! The thread of a child: it starts the child, puts its lines into the inbox, and reaps it. So there are no
//! zombies, and the kernel kills the child when that thread, and with it the agent, dies (PR_SET_PDEATHSIG).

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{self, Pid, PidfdFlags, Signal};

use crate::inbox::{Exit, Inbox, Splitter};
use crate::process::{Leash, Program, timespec};
use crate::stderr;

/// How long a child that has closed its standard output may live on.
const AFTER_EOF: Duration = Duration::from_secs(1);
/// Variables that a child gets from the agent's environment; others may hold what is not for it.
const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// What the child's thread tells of the start.
pub(crate) type Begun = io::Result<(ChildStdin, Arc<Leash>)>;

/// The thread's life: from the child's start, which it tells of in `started`, until the child has been
/// reaped.
pub(crate) fn keep(program: &Program, inbox: &Inbox, started: &Sender<Begun>) {
    let mut child = match spawn(program) {
        Ok(child) => child,
        Err(e) => {
            // Whoever started it is waiting.
            _ = started.send(Err(e));
            return;
        }
    };
    let pid = Pid::from_child(&child);
    let leash = Arc::new(Leash::new(pid));
    match pipes(&mut child, pid, &program.element) {
        Ok((stdin, stdout, death)) => {
            _ = started.send(Ok((stdin, leash.clone())));
            read(stdout, &death, &leash, inbox, program.max_line);
        }
        Err(e) => _ = started.send(Err(e)),
    }
    // All of its group, which may hold its pipes open, goes with it.
    leash.signal(Signal::KILL);
    let mut pid = leash.lock();
    let status = child.wait();
    *pid = None;
    drop(pid);
    inbox.ended(exit(status));
}

/// The ends that the agent holds, ready for waiting with a time limit, and the descriptor that tells of the
/// child's death. Standard error has its reader from here on.
fn pipes(child: &mut Child, pid: Pid, element: &str) -> io::Result<(ChildStdin, ChildStdout, OwnedFd)> {
    let missing = || io::Error::other("a pipe is missing");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    rustix::io::ioctl_fionbio(&stdin, true)?;
    rustix::io::ioctl_fionbio(&stdout, true)?;
    let death = process::pidfd_open(pid, PidfdFlags::empty())?;
    let element = element.to_owned();
    let thread = std::thread::Builder::new().name(format!("{element} stderr"));
    thread.spawn(move || stderr::log(&element, stderr))?;
    Ok((stdin, stdout, death))
}

fn spawn(program: &Program) -> io::Result<Child> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "there is no command");
    let mut words = program.command.iter();
    let mut command = Command::new(words.next().ok_or_else(missing)?);
    command.args(words).env_clear();
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(&program.env);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The terminal's interrupt is for the agent, which then ends its children in order.
    command.process_group(0);
    let agent = process::getpid();
    let tie = move || {
        process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The agent may have died before that line, and then nobody would ever kill the child.
        if process::getppid() == Some(agent) { Ok(()) } else { Err(io::Error::from_raw_os_error(3)) }
    };
    // SAFETY: between fork and exec only two system calls are made; neither allocates nor takes a lock.
    unsafe { command.pre_exec(tie) };
    command.spawn()
}

/// Reads lines until the child has died, and then what is left.
fn read(mut stdout: ChildStdout, death: &OwnedFd, leash: &Leash, inbox: &Inbox, max_line: usize) {
    let mut splitter = Splitter::new(max_line);
    let mut buffer = vec![0; 64 * 1024];
    let (mut open, mut dead) = (true, false);
    loop {
        let mut ready = false;
        if !dead {
            let mut fds = vec![PollFd::from_borrowed_fd(death.as_fd(), PollFlags::IN)];
            if open {
                fds.push(PollFd::new(&stdout, PollFlags::IN));
            }
            let timeout = if open { None } else { timespec(AFTER_EOF) };
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => leash.signal(Signal::KILL),
                Ok(_) => {
                    dead = !fds[0].revents().is_empty();
                    ready = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
                }
                // Interrupted: once more.
                Err(_) => continue,
            }
        }
        if open && (ready || dead) {
            match stdout.read(&mut buffer) {
                Ok(0) => open = false,
                Ok(n) => splitter.feed(&buffer[..n], |line| inbox.put(line)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Dead, and nothing left; or, alive, nothing yet after all.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => open = !dead,
                Err(_) => open = false,
            }
        }
        if dead && !open {
            break;
        }
    }
    splitter.finish(|line| inbox.put(line));
}

fn exit(status: io::Result<ExitStatus>) -> Exit {
    match status {
        Ok(status) => {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("status {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "no status".to_owned(),
            };
            Exit { how, success: status.success() }
        }
        Err(e) => Exit { how: format!("no status ({e})"), success: false },
    }
}
