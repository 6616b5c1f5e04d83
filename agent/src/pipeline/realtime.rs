//! Real-time priority for sources that tick every few milliseconds: a thread of their own that the scheduler prefers to all
//! ordinary ones.

use std::io;
use std::time::Duration;

use wattrace_api::Trigger;

/// Sources with longer intervals have no need of it.
const BELOW: Duration = Duration::from_millis(10);

/// Whether real time means something to a source.
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
