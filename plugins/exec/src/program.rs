//! What to start, and how it is spawned: environment, pipes, process group, death signal. `supervisor.rs`
//! calls it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{self, Signal};

use crate::descendants::Mark;

/// Variables that a program gets from the agent's environment. Others may contain credentials.
const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// A program to start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// `source/exec/NAME` or `output/exec/NAME`.
    pub(crate) element: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) max_line: usize,
}

impl Program {
    /// Starts it as the leader of a process group of its own, with `mark` on it and all that it starts. The
    /// kernel kills it when the calling thread ends.
    ///
    /// # Errors
    /// Those of fork and exec.
    pub(crate) fn spawn(&self, mark: &Mark) -> io::Result<Child> {
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "there is no command");
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().ok_or_else(missing)?);
        command.args(words).env_clear();
        command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&self.env).envs([mark.variable()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The terminal's interrupt must reach the agent only, which then ends its children in order.
        command.process_group(0);
        let agent = process::getpid();
        let die_with_agent = move || {
            process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // If the agent died before that call, no signal will ever come.
            if process::getppid() == Some(agent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
        };
        // SAFETY: between fork and exec only two system calls are made; neither allocates nor takes a lock.
        unsafe { command.pre_exec(die_with_agent) };
        command.spawn()
    }
}
