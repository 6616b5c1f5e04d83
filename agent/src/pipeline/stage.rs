//! A transform in the chain, with what the runner keeps for it: its opening and reopening, contained calls, the series
//! to end for it. `transforms.rs` runs the chain.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use wattrace_api::{Batch, Error, ErrorKind, Timestamp, Transform};

use super::flow::LiveSet;
use super::guard::{Backoff, contained};
use super::health::Health;
use super::opening::Opener;

/// How long batches wait for a transform that is reopened before they bypass it.
const QUICK_OPENING: Duration = Duration::from_millis(100);

/// One transform in the chain.
pub(crate) struct Stage {
    pub(crate) health: Arc<Health>,
    /// Its plugin's position in the list of plugins.
    pub(crate) rank: usize,
    opener: Opener<dyn Transform>,
    /// `None` while it is failing or being opened: batches bypass it.
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

    /// Passes a batch through the transform, unless that is paused.
    pub(crate) fn apply(&mut self, batch: &mut Batch, now: Timestamp) {
        if !self.health.paused() {
            self.call(batch, now, |transform, batch| transform.apply(batch));
        }
    }

    /// Lets the transform add what it held back to `batch`. With `end`, its series end.
    pub(crate) fn finish(&mut self, batch: &mut Batch, now: Timestamp, end: bool) {
        self.call(batch, now, |transform, out| transform.finish(out));
        if end {
            self.live.end_all(batch);
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

    /// Opens it, if it is time to. Batches bypass it while that takes long.
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
