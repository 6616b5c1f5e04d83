//! An eventfd: wakes a thread that waits for descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A descriptor that is readable from [`EventFd::set`] to [`EventFd::clear`].
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// One that is not readable.
    ///
    /// # Errors
    /// The process has too many descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the flags are valid; the result is checked before it is owned.
        unsafe {
            let event = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if event < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(event))) }
        }
    }

    /// Makes it readable.
    pub(crate) fn set(&self) {
        let one = 1_u64;
        // SAFETY: eight valid bytes. It can only fail when the counter is full, and then it is readable.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: `count` has room for the eight bytes. It can only fail when it is not readable.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
