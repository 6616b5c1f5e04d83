//! Real-time priority of a thread.

use std::io;

/// The priority: above ordinary threads, below all other real-time threads.
const PRIORITY: libc::c_int = 1;

/// Gives the calling thread real-time priority (`SCHED_FIFO`). Threads that it starts do not inherit it.
///
/// # Errors
/// Those of `sched_setscheduler`, above all that it is not permitted.
pub(crate) fn take_realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is valid for the call; 0 is the calling thread.
    let failed = unsafe { libc::sched_setscheduler(0, policy, &parameters) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
