//! The transforms' thread: takes each source's batches in, passes them through every transform in order, and hands them to
//! the outputs' queues. It has a thread, so that a transform that does not return keeps no worker from the others, and an
//! output whose queue blocks keeps none waiting.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use wattrace_api::added::Open;
use wattrace_api::{Batch, Clock, Error, ErrorKind, Timestamp, Transform};

use super::flow::{LiveSet, Pool};
use super::guard::{Backoff, contained};
use super::health::Health;
use super::queue::{ENOUGH, LINGER, Queue};

/// The way to the transforms' thread.
#[derive(Clone)]
pub(crate) struct Upstream {
    sender: mpsc::Sender<ToTransforms>,
    thread: Arc<OnceLock<Thread>>,
}

impl Upstream {
    /// The way there, and its other end.
    pub(crate) fn new(capacity: usize) -> (Self, mpsc::Receiver<ToTransforms>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender, thread: Arc::default() }, receiver)
    }

    /// Says which thread it is that receives.
    pub(crate) fn lead_to(&self, thread: &Thread) {
        // Only the first call counts, and there is only one.
        let _ = self.thread.set(thread.clone());
    }

    /// Sends a batch; waits while there are too many. Returns whether it was taken.
    pub(crate) async fn send(&self, batch: Batch) -> bool {
        let sent = self.sender.send(ToTransforms::Batch(batch)).await;
        if self.sender.max_capacity() - self.sender.capacity() >= ENOUGH {
            self.wake();
        }
        sent.is_ok()
    }

    /// Sends something that is not to wait.
    pub(crate) async fn tell(&self, message: ToTransforms) {
        // An error means that the thread has ended.
        let _ = self.sender.send(message).await;
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// What comes to the transforms' thread, in order.
pub(crate) enum ToTransforms {
    /// Points on their way.
    Batch(Batch),
    /// A transform takes its place from here on.
    Insert(Stage),
    /// A transform gives out what it held back, ends its series, and is gone.
    Remove(Arc<Health>, oneshot::Sender<()>),
    /// An output gets what comes from here on.
    Connect(Arc<Queue>),
    /// An output gets no more; its queue is closed.
    Disconnect(Arc<Queue>, oneshot::Sender<()>),
    /// All that was sent before has reached the outputs' queues when this is answered.
    Pass(oneshot::Sender<()>),
    /// Nothing is worth waiting for any more but what has been sent.
    Finish,
}

/// One transform in its place.
pub(crate) struct Stage {
    pub(crate) health: Arc<Health>,
    /// Its plugin's place among the plugins.
    pub(crate) rank: usize,
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
        rank: usize,
        open: Open<dyn Transform>,
        transform: Option<Box<dyn Transform>>,
    ) -> Self {
        let backoff = Backoff::new(Duration::from_secs(1));
        Self { health, rank, open, transform, live: LiveSet::default(), backoff, resume: Timestamp(0) }
    }

    fn apply(&mut self, batch: &mut Batch, now: Timestamp) {
        if !self.health.paused() {
            self.call(batch, now, |transform, batch| transform.apply(batch));
        }
    }

    fn call(
        &mut self,
        batch: &mut Batch,
        now: Timestamp,
        f: impl FnOnce(&mut dyn Transform, &mut Batch) -> Result<(), Error>,
    ) {
        let health = self.health.clone();
        let _busy = health.busy();
        if self.transform.is_none() && now >= self.resume {
            match contained(&mut self.open) {
                Ok(transform) => self.transform = Some(transform),
                Err(error) => self.fail(&error, now),
            }
        }
        let Some(transform) = self.transform.as_deref_mut() else { return };
        self.live.before(batch);
        health.points_in.fetch_add(batch.len() as u64, Relaxed);
        let result = contained(|| f(transform, batch));
        health.calls.fetch_add(1, Relaxed);
        health.points_out.fetch_add(batch.len() as u64, Relaxed);
        self.live.note_added(batch);
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

/// The transforms and the queues behind them.
pub(crate) struct Transforms {
    pub(crate) stages: Vec<Stage>,
    pub(crate) queues: Vec<Arc<Queue>>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) clock: Clock,
}

impl Transforms {
    /// Runs until told to finish; then lets the transforms give out what they held back and closes the queues.
    pub(crate) fn run(mut self, mut upstream: mpsc::Receiver<ToTransforms>) {
        let mut awake = Instant::now();
        loop {
            let received = match upstream.try_recv() {
                Ok(received) => received,
                Err(_) => {
                    // As for outputs: what comes in a quick succession is taken together.
                    if awake.elapsed() < LINGER && !upstream.is_closed() {
                        thread::park_timeout(LINGER - awake.elapsed().min(LINGER));
                    }
                    awake = Instant::now();
                    let Some(received) = upstream.blocking_recv() else { break };
                    received
                }
            };
            match received {
                ToTransforms::Batch(batch) => self.pass(batch, 0),
                ToTransforms::Insert(stage) => self.insert(stage),
                ToTransforms::Remove(health, done) => {
                    self.remove(&health);
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(());
                }
                ToTransforms::Connect(queue) => self.queues.push(queue),
                ToTransforms::Disconnect(queue, done) => {
                    self.queues.retain(|q| !Arc::ptr_eq(q, &queue));
                    queue.close();
                    let _ = done.send(());
                }
                ToTransforms::Pass(done) => drop(done.send(())),
                // What has been sent is still received; nothing more can be sent.
                ToTransforms::Finish => upstream.close(),
            }
        }
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

    /// Lets transform number `at` give out what it held back, and end its series if it is `going`.
    fn finish(&mut self, at: usize, going: bool) {
        let (mut batch, stage) = (self.pool.take(), &mut self.stages[at]);
        stage.call(&mut batch, self.clock.now(), |transform, out| transform.finish(out));
        if going {
            stage.live.end_all(&mut batch);
        }
        self.pass(batch, at + 1);
    }

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
