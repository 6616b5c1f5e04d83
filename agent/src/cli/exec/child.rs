//! The command's process: starts it, waits for it, and finds out which pid the kernel programs know it by.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use wattrace_procfs::namespace::pids_are_private;

use crate::cli::failure::Failure;
use crate::sys::limits;
use crate::sys::namespace::PidProgram;

/// Exit codes, as `env` and `timeout` use them: wattrace itself failed, not executable, not found.
pub(in crate::cli) const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// A command to run.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Job {
    /// The program and its arguments.
    pub(in crate::cli) command: Vec<String>,
    /// Where it runs; `None`: where this process does.
    pub(in crate::cli) directory: Option<PathBuf>,
    /// Whether it has this process's input and output, instead of none.
    pub(in crate::cli) shares_terminal: bool,
}

/// A process as the kernel programs know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    /// Its pid in the initial PID namespace.
    pub(super) pid: u32,
    /// That of its parent; `None` in another namespace, where only `pid` was asked for.
    pub(super) parent: Option<u32>,
}

/// The command, running.
pub(super) struct Running {
    child: Child,
    pub(super) root: Root,
    /// When it was started, in nanoseconds since 1970.
    pub(super) start: u64,
}

/// Starts the command with `variable` in its environment, in the cgroup that it joins by writing to `joins`.
///
/// # Errors
/// It cannot be found or executed, or its pid in the initial namespace cannot be found out.
pub(super) async fn spawn(
    job: &Job,
    variable: Option<(&str, String)>,
    joins: Option<File>,
    runtime: &Handle,
) -> Result<Running, Failure> {
    let (program, arguments) =
        job.command.split_first().ok_or_else(|| Failure::usage("no command was given"))?;
    let mut prepared = Command::new(program);
    prepared.args(arguments).envs(variable);
    if let Some(directory) = &job.directory {
        prepared.current_dir(directory);
    }
    if !job.shares_terminal {
        prepared.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    // SAFETY: the closure makes async-signal-safe calls only. exec(2) resets handlers, but not an ignored
    // signal.
    unsafe {
        prepared.pre_exec(move || {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            limits::restore();
            joins.as_ref().map_or(Ok(()), |mut joins| joins.write_all(b"0"))
        });
    }
    let namespace = if pids_are_private() { Some(report_pid(&mut prepared)?) } else { None };
    let start = unix_nanos();
    let spawned = runtime.spawn_blocking(move || prepared.spawn()).await;
    let child = spawned.map_err(Failure::new)?.map_err(|e| Failure {
        message: format!("cannot run {program}: {e}"),
        code: if e.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE },
    })?;
    let root = match namespace {
        None => Root { pid: child.id(), parent: Some(std::process::id()) },
        Some(mut pipe) => {
            let mut pid = [0; 4];
            // It was written before the command was executed.
            pipe.read_exact(&mut pid).map_err(|e| no_pid(&e))?;
            Root { pid: u32::from_ne_bytes(pid), parent: None }
        }
    };
    Ok(Running { child, root, start })
}

/// Makes `prepared` report, before it is executed, the pid that it has in the initial namespace.
fn report_pid(prepared: &mut Command) -> Result<File, Failure> {
    let program = PidProgram::load().map_err(|e| no_pid(&e))?;
    let (reader, writer) = std::io::pipe().map_err(Failure::new)?;
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe {
        prepared.pre_exec(move || {
            let pid = program.pid_of_caller()?.to_ne_bytes();
            if libc::write(writer.as_raw_fd(), pid.as_ptr().cast(), pid.len()) != pid.len() as isize {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    static EXPLAINED: Once = Once::new();
    EXPLAINED.call_once(|| {
        eprintln!(
            "wattrace: this is a private PID namespace (a container): the report has the host's pids; with \
             `--pid=host` (Docker, Podman) or `hostPID: true` (Kubernetes) both are the same"
        );
    });
    let reader: std::os::fd::OwnedFd = reader.into();
    Ok(reader.into())
}

fn no_pid(e: &std::io::Error) -> Failure {
    Failure::new(format!(
        "this is a private PID namespace, and the command's pid outside of it cannot be found out ({e}), by \
         which the kernel programs know it: run the container with `--pid=host` (Docker, Podman) or \
         `hostPID: true` (Kubernetes)"
    ))
}

impl Running {
    /// Its pid in this process's namespace.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(super) async fn wait(mut self, runtime: &Handle) -> Result<ExitStatus, Failure> {
        let waited = runtime.spawn_blocking(move || self.child.wait()).await;
        waited.map_err(Failure::new)?.map_err(|e| Failure::new(format!("cannot wait for the command: {e}")))
    }
}

/// The command's exit code as a shell reports it.
pub(in crate::cli) fn shell_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s));
    code.and_then(|c| u8::try_from(c & 0xff).ok()).unwrap_or(FAILED)
}

pub(super) fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
