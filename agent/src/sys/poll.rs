//! Waiting until one of several descriptors is readable.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits until one of `descriptors` is readable or `timeout` has passed (`None`: for as long as it takes).
/// Returns which of them are readable, or in an error state, which reading reports.
///
/// # Errors
/// Those of `ppoll`; an interrupted call returns early instead.
pub(crate) fn readable<const N: usize>(
    descriptors: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = descriptors.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
    let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos().into() });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) => Ok(polled.map(|p| !p.revents().is_empty())),
        Err(Errno::INTR) => Ok([false; N]),
        Err(e) => Err(e.into()),
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
        let poll = || readable([set.as_fd(), other.as_fd()], Some(Duration::ZERO)).unwrap();
        assert_eq!(poll(), [false; 2]);
        set.set();
        set.set();
        assert_eq!(poll(), [true, false]);
        set.clear();
        assert_eq!(poll(), [false; 2]);
    }
}
