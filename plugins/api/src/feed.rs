//! What an autonomous source is given: the way into the pipeline, and word of the end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::batch::Batch;
use crate::error::Error;

/// A running autonomous source. `Ok` is its end, an error has the consequence that its kind says.
pub type Running = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Sets an autonomous source going, or sets it going anew after it failed.
pub type OpenAutonomous = Box<dyn FnMut(Feed) -> Running + Send>;

/// The way of an autonomous source into the pipeline.
pub struct Feed {
    batches: mpsc::Sender<Batch>,
    spare: Arc<dyn Fn() -> Batch + Send + Sync>,
    stopping: watch::Receiver<bool>,
}

impl Feed {
    /// For the runner and the test rig: `spare` gives empty batches, `stopping` turns true when the agent
    /// stops.
    pub fn new(
        batches: mpsc::Sender<Batch>,
        spare: Arc<dyn Fn() -> Batch + Send + Sync>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { batches, spare, stopping }
    }

    /// An empty batch, with the memory of one that has gone through.
    pub fn batch(&self) -> Batch {
        (self.spare)()
    }

    /// Hands a batch over. Waits while the pipeline is busy or the source is paused, so that what cannot be
    /// taken is not produced either. May be dropped while it waits; the batch is lost then.
    pub async fn send(&self, batch: Batch) {
        // Without a receiver the agent has ended and drops the source next.
        let _ = self.batches.send(batch).await;
    }

    /// Waits until the agent is stopping or the source is being removed. Send what is left then, and return;
    /// who does not within half a second is dropped where it waits.
    pub async fn stopping(&self) {
        // An error means that nobody is there any more to tell.
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }

    /// Whether the agent is stopping or the source is being removed.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}
