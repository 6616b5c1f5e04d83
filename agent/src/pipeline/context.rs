//! What the parts of a running pipeline share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use wattrace_api::{Clock, Registry};

use super::elements::Elements;
use super::flow::BatchPool;
use super::inbox::{Inbox, Message};
use super::output_transforms::OutputTransforms;
use crate::config::Settings;

/// What the parts of a running pipeline share.
pub(crate) struct Context {
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Clock,
    pub(crate) runtime: Handle,
    pub(crate) settings: Settings,
    pub(crate) pool: Arc<BatchPool>,
    pub(crate) elements: Arc<Elements>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) output_transforms: Arc<OutputTransforms>,
    /// Held while elements join or leave: one change at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) stopping: AtomicBool,
}

impl Context {
    /// Sends a message to the transforms' thread and waits for the reply, until `deadline`. Returns whether
    /// the reply came in time; the watchdog reports a transform that does not return.
    pub(crate) async fn ask_transforms(
        &self,
        message: impl FnOnce(oneshot::Sender<()>) -> Message,
        deadline: Instant,
    ) -> bool {
        let (reply, replied) = oneshot::channel();
        self.inbox.tell(message(reply));
        // A closed channel means that the thread has ended, which is an answer too.
        timeout_at(deadline, replied).await.is_ok()
    }
}
