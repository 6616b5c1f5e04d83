//! Real-time priority of a thread.

use std::io;

use tracing::{info, warn};

/// The priority: above ordinary threads, below all other real-time threads.
const PRIORITY: libc::c_int = 1;

/// Gives the calling thread, which runs the element `name`, real-time priority, and logs whether it got it.
pub(crate) fn take_realtime(name: &str) {
    match set_realtime() {
        Ok(()) => info!("{name} runs with real-time priority"),
        Err(e) => warn!(
            "{name} runs without real-time priority: {e}; agent.realtime needs root or CAP_SYS_NICE: \
             sudo setcap cap_sys_nice+ep $(command -v wattrace), with the capabilities it has already"
        ),
    }
}

/// `SCHED_FIFO`, which threads that this one starts do not inherit. rustix has no call for it.
fn set_realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is valid for the call; 0 is the calling thread.
    let failed = unsafe { libc::sched_setscheduler(0, policy, &parameters) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
