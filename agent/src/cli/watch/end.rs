//! Waits until a target has no more processes. The kernel reports the end of each.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wattrace_procfs::Procfs;

use super::running::Running;
use super::target::Target;

/// Between two looks at a process of which the kernel does not report the end.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits until the processes of `target`, now those that are `attached`, have ended, and none has come in
/// their place. A target that is a name, of which more may come at any time, does not end.
pub(super) async fn of(target: &Target, attached: &[Running], procfs: &Procfs) {
    let mut members = match target {
        Target::Process(pid) => attached.iter().filter(|process| process.pid == *pid).cloned().collect(),
        Target::Name(_) => return std::future::pending().await,
        Target::Unit(_) | Target::Container(_) | Target::Cgroup(_) => attached.to_vec(),
    };
    loop {
        for process in &members {
            ended(process, procfs).await;
        }
        if matches!(target, Target::Process(_)) {
            return;
        }
        match target.find(&Running::all(procfs)) {
            Ok(later) => members = later,
            Err(_) => return,
        }
    }
}

/// Waits for the end of a process.
async fn ended(process: &Running, procfs: &Procfs) {
    let Some(pidfd) = pidfd(process) else { return };
    // The descriptor may be of another process that has taken the pid meanwhile.
    if !process.is_alive(procfs) {
        return;
    }
    // SAFETY: an `OwnedFd` is open, and of the same process, until it is dropped with the registration.
    let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    // Readable for good once the process has ended.
    let is_reported = match registered {
        Ok(pidfd) => pidfd.readable().await.is_ok(),
        Err(_) => false,
    };
    while !is_reported && process.is_alive(procfs) {
        tokio::time::sleep(PAUSE).await;
    }
}

/// `None`: the process has ended.
fn pidfd(process: &Running) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}
