//! Commands to a source's thread: a queue, and an eventfd that the thread waits for together with its timer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;
use wattrace_api::Trigger;

/// What the runner asks of a source's thread.
pub(crate) enum Command {
    /// Poll now, then reply.
    Poll(oneshot::Sender<()>),
    /// Tick like this from now on.
    SetTrigger(Trigger),
    /// Stop ticking, or tick again.
    Pause(bool),
    /// Poll once more, then end and reply.
    Stop(oneshot::Sender<()>),
    /// Poll once more, end all series, then end and reply.
    Remove(oneshot::Sender<()>),
}

/// Sends commands to one source's thread. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CommandSender {
    queue: mpsc::Sender<Command>,
    event: Arc<OwnedFd>,
}

/// The end at which the thread receives them.
pub(crate) struct Commands {
    queue: mpsc::Receiver<Command>,
    event: Arc<OwnedFd>,
}

/// Both ends.
///
/// # Errors
/// Those of `eventfd`: the process has too many descriptors.
pub(crate) fn channel() -> io::Result<(CommandSender, Commands)> {
    // SAFETY: the flags are valid; the result is checked before it is owned.
    let event = unsafe {
        let event = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        Arc::new(OwnedFd::from_raw_fd(event))
    };
    let (sender, receiver) = mpsc::channel();
    Ok((CommandSender { queue: sender, event: event.clone() }, Commands { queue: receiver, event }))
}

impl CommandSender {
    /// Sends a command and wakes the thread. To a source that has ended it is a no-op: the reply's sender is
    /// dropped.
    pub(crate) fn send(&self, command: Command) {
        if self.queue.send(command).is_ok() {
            // SAFETY: eight valid bytes. It can only fail when the counter is full, and then the thread is
            // woken.
            unsafe { libc::write(self.event.as_raw_fd(), (&raw const ONE).cast(), size_of::<u64>()) };
        }
    }
}

static ONE: u64 = 1;

impl Commands {
    /// The descriptor that is readable while commands may be queued.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// The next command, if one is queued.
    pub(crate) fn next(&self) -> Option<Command> {
        self.queue.try_recv().ok()
    }

    /// Makes the descriptor unreadable until the next command is sent. Call it before [`Commands::next`].
    pub(crate) fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: `count` has room for the eight bytes. It can only fail when there is nothing to clear.
        unsafe { libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}
