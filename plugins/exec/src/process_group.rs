//! The process group of a child, to be signalled from any thread until the child has been reaped.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{self, Pid, Signal};

/// The group that a child leads. Empty once the child has been reaped: the kernel may reuse its pid then.
#[derive(Debug)]
pub(crate) struct ProcessGroup(Mutex<Option<Pid>>);

impl ProcessGroup {
    /// The group that `leader` leads.
    pub(crate) fn new(leader: Pid) -> Self {
        Self(Mutex::new(Some(leader)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `signal` to all processes of the group.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(leader) = *self.lock() {
            // It fails if the group has just ended.
            _ = process::kill_process_group(leader, signal);
        }
    }

    /// Kills the group and waits for its leader. No signal is sent after that.
    pub(crate) fn kill_and_reap(&self, leader: &mut Child) -> io::Result<ExitStatus> {
        // Other processes of the group may hold the leader's pipes open.
        self.signal(Signal::KILL);
        let mut group = self.lock();
        let status = leader.wait();
        *group = None;
        status
    }
}
