//! The transforms' thread: receives the sources' batches, passes each through every transform in order, and
//! pushes it to the outputs' queues. It is a thread of its own, so that a transform that does not return, or
//! an output whose queue blocks, stops neither sources nor control.

use std::sync::Arc;

use wattrace_api::{Batch, Clock};

use super::flow::BatchPool;
use super::health::Health;
use super::inbox::{Inbox, Message};
use super::queue::Queue;
use super::stage::Stage;

/// The chain of transforms and the queues behind it.
pub(crate) struct Transforms {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) queues: Vec<Arc<Queue>>,
    pub(crate) pool: Arc<BatchPool>,
    pub(crate) clock: Clock,
}

impl Transforms {
    /// Runs until [`Message::Finish`]; then lets the transforms give out what they held back and closes the
    /// queues.
    pub(crate) fn run(mut self) {
        while let Some(message) = self.inbox.receive() {
            match message {
                Message::Batch(batch) => self.pass(batch, 0),
                Message::Insert(stage) => self.insert(stage),
                Message::Remove(health, done) => {
                    self.remove(&health);
                    // Here and below, an error means that the deadline of the request has passed.
                    let _ = done.send(());
                }
                Message::Connect(queue) => self.queues.push(queue),
                Message::Disconnect(queue, done) => {
                    self.queues.retain(|q| !Arc::ptr_eq(q, &queue));
                    queue.close();
                    let _ = done.send(());
                }
                Message::Barrier(done) => drop(done.send(())),
                Message::Finish => {}
            }
        }
        self.inbox.close();
        for first in 0..self.stages.len() {
            self.finish(first, false);
            self.stages[first].health.stopped();
        }
        self.queues.iter().for_each(|queue| queue.close());
    }

    /// Passes a batch through the transforms from number `first` on, and to the outputs.
    fn pass(&mut self, mut batch: Batch, first: usize) {
        let now = self.clock.now();
        for stage in &mut self.stages[first..] {
            stage.apply(&mut batch, now);
        }
        if batch.is_empty() {
            return self.pool.give_back(batch);
        }
        let batch = self.pool.share(batch);
        if let Some((last, others)) = self.queues.split_last() {
            others.iter().for_each(|queue| queue.push(batch.clone()));
            last.push(batch);
        }
    }

    /// Finishes transform number `at`, and ends its series if it is `removed`.
    fn finish(&mut self, at: usize, removed: bool) {
        let mut batch = self.pool.take(0);
        self.stages[at].finish(&mut batch, self.clock.now(), removed);
        self.pass(batch, at + 1);
    }

    /// Puts a transform behind those of its own plugin and of the plugins before it.
    fn insert(&mut self, stage: Stage) {
        let at = self.stages.iter().rposition(|s| s.rank <= stage.rank).map_or(0, |last| last + 1);
        self.stages.insert(at, stage);
    }

    fn remove(&mut self, health: &Arc<Health>) {
        if let Some(at) = self.stages.iter().position(|s| Arc::ptr_eq(&s.health, health)) {
            self.finish(at, true);
            self.stages.remove(at).health.stopped();
        }
    }
}
