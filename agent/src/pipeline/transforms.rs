//! The transforms' task: takes each source's batches in, passes them through every transform in order, and hands them to
//! the outputs' queues.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use wattrace_api::plugin::Open;
use wattrace_api::{Batch, Clock, Error, ErrorKind, Timestamp, Transform};

use super::flow::{LiveSet, Pool};
use super::guard::{Backoff, contained};
use super::health::Health;
use super::queue::Queue;

/// One transform in its place.
pub(crate) struct Stage {
    health: Arc<Health>,
    open: Open<dyn Transform>,
    /// `None` while it is failing: batches pass it by.
    transform: Option<Box<dyn Transform>>,
    live: LiveSet,
    backoff: Backoff,
    resume: Timestamp,
}

impl Stage {
    pub(crate) fn new(
        health: Arc<Health>,
        open: Open<dyn Transform>,
        transform: Option<Box<dyn Transform>>,
    ) -> Self {
        let backoff = Backoff::new(Duration::from_secs(1));
        Self { health, open, transform, live: LiveSet::default(), backoff, resume: Timestamp(0) }
    }

    fn call(
        &mut self,
        batch: &mut Batch,
        now: Timestamp,
        f: impl FnOnce(&mut dyn Transform, &mut Batch) -> Result<(), Error>,
    ) {
        if self.transform.is_none() && now >= self.resume {
            match contained(&mut self.open) {
                Ok(transform) => self.transform = Some(transform),
                Err(error) => self.fail(&error, now),
            }
        }
        let Some(transform) = self.transform.as_deref_mut() else { return };
        let before = batch.len();
        let result = contained(|| f(transform, batch));
        self.health.calls.fetch_add(1, Relaxed);
        self.health.points.fetch_add(before as u64, Relaxed);
        self.live.note(batch, before);
        match result {
            Ok(()) => {
                self.backoff.reset();
                self.health.works();
            }
            Err(error) => {
                self.fail(&error, now);
                if error.kind() != ErrorKind::Retry {
                    self.transform = None;
                    self.live.end_all(batch);
                }
            }
        }
    }

    fn fail(&mut self, error: &Error, now: Timestamp) {
        self.health.failed(error);
        self.resume = now + self.backoff.wait();
        if error.kind() == ErrorKind::Gone {
            self.resume = Timestamp(u64::MAX);
        }
    }
}

/// Runs until every source has hung up, or `stop` is told so that one that doesn't is no longer waited for; then lets the
/// transforms finish and closes the queues.
pub(crate) async fn run(
    mut stages: Vec<Stage>,
    mut upstream: mpsc::Receiver<Batch>,
    mut stop: oneshot::Receiver<()>,
    queues: Vec<Arc<Queue>>,
    pool: Arc<Pool>,
    clock: Clock,
) {
    let deliver = |batch: Batch| {
        if batch.is_empty() {
            return pool.give_back(batch);
        }
        let batch = pool.share(batch);
        for queue in &queues {
            queue.push(batch.clone());
        }
    };
    let mut stopping = false;
    loop {
        let received = tokio::select! {
            biased;
            received = upstream.recv() => received,
            _ = &mut stop, if !stopping => {
                // What has been sent is still received; nothing more can be sent.
                upstream.close();
                stopping = true;
                continue;
            }
        };
        let Some(mut batch) = received else { break };
        let now = clock.now();
        for stage in &mut stages {
            stage.call(&mut batch, now, |transform, batch| transform.apply(batch));
        }
        deliver(batch);
    }
    // What a transform held back passes through those after it.
    let now = clock.now();
    for first in 0..stages.len() {
        let mut batch = pool.take();
        stages[first].call(&mut batch, now, |transform, out| transform.finish(out));
        for stage in &mut stages[first + 1..] {
            stage.call(&mut batch, now, |transform, batch| transform.apply(batch));
        }
        deliver(batch);
        stages[first].health.stopped();
    }
    queues.iter().for_each(|queue| queue.close());
}
