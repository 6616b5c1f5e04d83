//! Commands to a source's thread: a queue, and an eventfd that the thread waits for together with its timer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;
use wattrace_api::Trigger;

use crate::sys::eventfd::EventFd;

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
    /// `None` if there is no thread.
    event: Option<Arc<EventFd>>,
}

/// The end at which the thread receives them.
pub(crate) struct Commands {
    queue: mpsc::Receiver<Command>,
    event: Arc<EventFd>,
}

/// Both ends. The receiving one is an error if the process has too many descriptors.
pub(crate) fn channel() -> (CommandSender, io::Result<Commands>) {
    let (sender, queue) = mpsc::channel();
    let event = EventFd::new().map(Arc::new);
    let sender = CommandSender { queue: sender, event: event.as_ref().ok().cloned() };
    (sender, event.map(|event| Commands { queue, event }))
}

impl CommandSender {
    /// Sends a command and wakes the thread. If the source has ended, the reply's sender is dropped.
    pub(crate) fn send(&self, command: Command) {
        if self.queue.send(command).is_ok()
            && let Some(event) = &self.event
        {
            event.set();
        }
    }
}

impl Commands {
    /// The next command, if one is queued.
    pub(crate) fn next(&self) -> Option<Command> {
        self.queue.try_recv().ok()
    }

    /// Makes the descriptor unreadable until the next command is sent. Call it before [`Commands::next`].
    pub(crate) fn clear(&self) {
        self.event.clear();
    }
}

impl AsFd for Commands {
    /// The descriptor that is readable while commands may be queued.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
