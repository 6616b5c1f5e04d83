//! Sources that tick every few milliseconds: each has a thread of its own, with real-time priority if that is
//! asked for, so that the scheduler prefers it to all ordinary ones.

use std::io;
use std::time::Duration;

use wattrace_api::Trigger;

/// Sources with longer intervals share the runtime's threads: what a thread of their own would save is not
/// worth its memory.
const BELOW: Duration = Duration::from_millis(10);

/// Whether a source ticks so often that it has a thread of its own.
pub(crate) fn is_fast(trigger: Trigger) -> bool {
    !trigger.interval.is_zero() && trigger.interval < BELOW
}

/// Above ordinary threads, below everything else that has asked for real time.
const PRIORITY: libc::c_int = 1;

/// Gives the calling thread real-time priority (`SCHED_FIFO`). Threads that it starts do not inherit it.
///
/// # Errors
/// Those of `sched_setscheduler`; above all that it is not permitted.
pub(crate) fn take_priority() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: `parameters` is valid for the call; 0 is the calling thread.
    let failed =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
