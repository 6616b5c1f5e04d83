//! Kills what a program leaves behind: processes that have left its process group (`setsid`), as daemons do.
//! They are found by a mark in the environment that they inherited, or by the program's pipes, which they
//! hold open. `supervisor.rs` calls it when the program has ended.
//!
//! A process that has neither, because it cleared its environment and closed its standard streams, remains.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{self, Pid, PidfdFlags, Signal};

/// The variable that holds the mark.
const VARIABLE: &str = "WATTRACE_PROGRAM";
/// Most bytes of an environment that are read.
const MOST_ENVIRONMENT: u64 = 4 << 20;
/// Most looks for processes: one may have been started during a look.
const MOST_LOOKS: usize = 10;

/// What the processes of one start of a program have in common.
#[derive(Debug)]
pub(crate) struct Mark {
    value: String,
    /// Links of /proc/PID/fd to the program's pipes.
    pipes: Vec<String>,
}

impl Mark {
    /// A mark that no other start has.
    pub(crate) fn new() -> Self {
        static STARTS: AtomicU64 = AtomicU64::new(0);
        let start = STARTS.fetch_add(1, Ordering::Relaxed);
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let value = format!("{}-{start}-{}", std::process::id(), time.as_nanos());
        Self { value, pipes: Vec::new() }
    }

    /// The variable to start the program with.
    pub(crate) fn variable(&self) -> (&'static str, &str) {
        (VARIABLE, &self.value)
    }

    /// `pipe` is one of the program's. Pipes of the agent that every child inherits must not be added.
    pub(crate) fn add_pipe(&mut self, pipe: impl AsFd) -> io::Result<()> {
        let inode = File::from(pipe.as_fd().try_clone_to_owned()?).metadata()?;
        self.pipes.push(format!("pipe:[{}]", std::os::unix::fs::MetadataExt::ino(&inode)));
        Ok(())
    }

    /// Kills every process that has the mark. Returns how many.
    pub(crate) fn kill_all(&self) -> usize {
        let mut killed = 0;
        for _ in 0..MOST_LOOKS {
            let found = self.kill_found();
            killed += found;
            if found == 0 {
                break;
            }
        }
        killed
    }

    fn kill_found(&self) -> usize {
        let agent = process::getpid();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        let mut killed = 0;
        for pid in pids.filter(|pid| *pid != agent) {
            if !self.is_on(pid) {
                continue;
            }
            // The pid may be another process's by now: the descriptor stays with the one that is looked at.
            let Ok(descriptor) = process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if self.is_on(pid) && process::pidfd_send_signal(&descriptor, Signal::KILL).is_ok() {
                killed += 1;
            }
        }
        killed
    }

    /// Whether the process has the mark and is no zombie, which has neither environment nor descriptors.
    fn is_on(&self, pid: Pid) -> bool {
        let folder = format!("/proc/{}", pid.as_raw_nonzero());
        self.is_in_environment(&folder) || self.holds_a_pipe(&folder)
    }

    fn is_in_environment(&self, folder: &str) -> bool {
        let mut environment = Vec::new();
        let read = File::open(format!("{folder}/environ"))
            .and_then(|file| file.take(MOST_ENVIRONMENT).read_to_end(&mut environment));
        let variable = format!("{VARIABLE}={}", self.value);
        read.is_ok() && environment.split(|&b| b == 0).any(|entry| entry == variable.as_bytes())
    }

    fn holds_a_pipe(&self, folder: &str) -> bool {
        (0..3).any(|number| {
            let target = fs::read_link(format!("{folder}/fd/{number}"));
            target.is_ok_and(|target| self.pipes.iter().any(|pipe| target.as_os_str() == pipe.as_str()))
        })
    }
}
