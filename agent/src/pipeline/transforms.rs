//! The transforms' thread: takes each source's batches in, passes them through every transform in order, and
//! hands them to the outputs' queues. It has a thread, so that a transform that does not return keeps no
//! worker from the others, and an output whose queue blocks keeps none waiting.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use wattrace_api::{Batch, Clock, Error, ErrorKind, Timestamp, Transform};

use super::flow::{LiveSet, Pool};
use super::guard::{Backoff, contained};
use super::health::Health;
use super::opening::Opener;
use super::queue::{ENOUGH, LINGER, Queue};

/// The way to the transforms' thread, bounded in batches and in points.
#[derive(Clone)]
pub(crate) struct Upstream {
    sender: mpsc::Sender<ToTransforms>,
    /// Points that may still be sent.
    room: Arc<Semaphore>,
    most: u32,
    thread: Arc<OnceLock<Thread>>,
}

impl Upstream {
    /// The way there, and its other end.
    pub(crate) fn new(batches: usize, points: u32) -> (Self, mpsc::Receiver<ToTransforms>) {
        let (sender, receiver) = mpsc::channel(batches);
        let room = Arc::new(Semaphore::new(points as usize));
        (Self { sender, room, most: points, thread: Arc::default() }, receiver)
    }

    /// Says which thread it is that receives.
    pub(crate) fn lead_to(&self, thread: &Thread) {
        // Only the first call counts, and there is only one.
        let _ = self.thread.set(thread.clone());
    }

    /// Sends a batch; waits while there are too many batches or points on the way. Returns whether it was
    /// taken.
    pub(crate) async fn send(&self, batch: Batch) -> bool {
        // A batch of more than may be under way has the way to itself.
        let points = u32::try_from(batch.len()).unwrap_or(u32::MAX).min(self.most);
        let room = match self.room.clone().try_acquire_many_owned(points) {
            Ok(room) => room,
            Err(_) => {
                self.wake();
                let Ok(room) = self.room.clone().acquire_many_owned(points).await else { return false };
                room
            }
        };
        let sent = self.sender.send(ToTransforms::Batch(batch, room)).await;
        let waiting = self.sender.max_capacity() - self.sender.capacity();
        if waiting >= ENOUGH || self.room.available_permits() < self.most as usize / 2 {
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
    /// Points on their way, and the room that they take there.
    Batch(Batch, OwnedSemaphorePermit),
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

/// How long batches wait for a transform that is opened anew before they pass it by.
const QUICK_OPENING: Duration = Duration::from_millis(100);

/// One transform in its place.
pub(crate) struct Stage {
    pub(crate) health: Arc<Health>,
    /// Its plugin's place among the plugins.
    pub(crate) rank: usize,
    opener: Opener<dyn Transform>,
    /// `None` while it is failing or being opened: batches pass it by.
    transform: Option<Box<dyn Transform>>,
    live: LiveSet,
    backoff: Backoff,
    resume: Timestamp,
}

impl Stage {
    pub(crate) fn new(
        health: Arc<Health>,
        rank: usize,
        opener: Opener<dyn Transform>,
        transform: Option<Box<dyn Transform>>,
    ) -> Self {
        let backoff = Backoff::new(Duration::from_secs(1));
        Self { health, rank, opener, transform, live: LiveSet::default(), backoff, resume: Timestamp(0) }
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
        if self.transform.is_none() {
            self.open(now);
        }
        let Some(transform) = self.transform.as_deref_mut() else { return };
        let health = self.health.clone();
        let _busy = health.busy();
        self.live.before(batch);
        health.points_in.fetch_add(batch.len() as u64, Relaxed);
        let result = contained(|| {
            let result = f(transform, batch);
            health.left_out.fetch_add(transform.take_left_out(), Relaxed);
            result
        });
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

    /// Opens it, if it is time to; one that takes long is passed by meanwhile.
    fn open(&mut self, now: Timestamp) {
        let mut patience = Duration::ZERO;
        if !self.opener.is_under_way() && now >= self.resume {
            self.opener.begin();
            patience = QUICK_OPENING;
        }
        match self.opener.result_within(patience) {
            Some(Ok(transform)) => {
                self.transform = Some(transform);
                self.health.opened();
            }
            Some(Err(error)) => self.fail(&error, now),
            None => {}
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
    /// Runs until told to finish; then lets the transforms give out what they held back and closes the
    /// queues.
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
                ToTransforms::Batch(batch, room) => {
                    drop(room);
                    self.pass(batch, 0);
                }
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
        let (mut batch, stage) = (self.pool.take(0), &mut self.stages[at]);
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use wattrace_api::{Registry, Resource, SeriesSpec, Value, metric};

    use super::*;

    #[tokio::test]
    async fn who_sends_waits_while_too_many_points_are_on_the_way_but_not_for_a_batch_that_is_too_large() {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let id = registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)));
        let batch = |points: usize| {
            let mut batch = Batch::default();
            batch.extend(&vec![id; points], &vec![Value::of_steps(1); points]);
            batch
        };
        let (upstream, mut received) = Upstream::new(64, 100);
        let mut take = || match received.try_recv() {
            Ok(ToTransforms::Batch(batch, _)) => batch.len(),
            _ => 0,
        };
        let short = Duration::from_millis(1);
        assert!(upstream.send(batch(60)).await && upstream.send(batch(40)).await);
        assert!(timeout(short, upstream.send(batch(1))).await.is_err(), "there is no room");
        assert_eq!(take(), 60);
        assert!(upstream.send(batch(1)).await);
        assert!(timeout(short, upstream.send(batch(1000))).await.is_err(), "others are on the way");
        assert_eq!([take(), take()], [40, 1]);
        assert!(upstream.send(batch(1000)).await);
        assert!(timeout(short, upstream.send(batch(1))).await.is_err());
        assert_eq!([take(), take()], [1000, 0]);
        drop(received);
        assert!(!upstream.send(batch(1)).await, "nobody is there any more");
    }
}
