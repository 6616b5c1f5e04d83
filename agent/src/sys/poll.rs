//! Waiting until one of several descriptors is readable.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Waits until one of `descriptors` is readable or `timeout` has passed (`None`: for as long as it takes).
/// Returns which of them are readable, or in an error state, which reading reports. `None` in place of a
/// descriptor is never readable.
///
/// # Errors
/// Those of `ppoll`; an interrupted call returns early instead.
pub(crate) fn readable<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        // The kernel ignores negative numbers.
        fd: descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = timeout
        .map(|t| libc::timespec { tv_sec: t.as_secs() as libc::time_t, tv_nsec: t.subsec_nanos().into() });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `polled` holds N valid elements, `timeout` is null or valid, and no signal mask is changed.
    let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, timeout, std::ptr::null()) };
    if ready >= 0 {
        return Ok(polled.map(|p| p.revents != 0));
    }
    match io::Error::last_os_error() {
        e if e.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        e => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::eventfd::EventFd;

    #[test]
    fn what_is_set_is_readable_until_it_is_cleared() {
        let (set, other) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let poll = || readable([Some(set.as_fd()), None, Some(other.as_fd())], Some(Duration::ZERO)).unwrap();
        assert_eq!(poll(), [false; 3]);
        set.set();
        set.set();
        assert_eq!(poll(), [true, false, false]);
        set.clear();
        assert_eq!(poll(), [false; 3]);
    }
}
