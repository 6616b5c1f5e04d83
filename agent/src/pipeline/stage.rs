//! A transform in the chain, with what the runner keeps for it: its opening, contained calls, the series to
//! end for it. `transforms.rs` runs the chain.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use wattrace_api::spec::Open;
use wattrace_api::{Batch, Error, ErrorKind, Timestamp, Transform};
use wattrace_backoff::Backoff;

use super::flow::LiveSet;
use super::guard::{MAX_RETRY, contained};
use super::health::Health;

/// How long batches wait for a transform that is reopened before they bypass it.
const QUICK_OPENING: Duration = Duration::from_millis(100);

type OpenResult = Result<Box<dyn Transform>, Error>;

/// One transform in the chain.
pub(crate) struct Stage {
    pub(crate) health: Arc<Health>,
    /// Its plugin's position in the list of plugins.
    pub(crate) rank: usize,
    /// Called on a thread of its own: an opening that does not return stops neither the start nor other
    /// transforms.
    open: Arc<Mutex<Open<dyn Transform>>>,
    /// The opening that is in progress.
    opening: Option<Receiver<OpenResult>>,
    /// `None` while it is failing or being opened: batches bypass it.
    transform: Option<Box<dyn Transform>>,
    live: LiveSet,
    backoff: Backoff,
    resume: Timestamp,
}

impl Stage {
    pub(crate) fn new(health: Arc<Health>, rank: usize, open: Open<dyn Transform>) -> Self {
        Self {
            health,
            rank,
            open: Arc::new(Mutex::new(open)),
            opening: None,
            transform: None,
            live: LiveSet::default(),
            backoff: Backoff::new(Duration::from_secs(1), MAX_RETRY),
            resume: Timestamp(0),
        }
    }

    /// Opens the transform, or goes on waiting for an opening in progress, for `patience`. Returns whether
    /// the opening has ended, in whichever way.
    pub(crate) fn open(&mut self, patience: Duration, now: Timestamp) -> bool {
        let opening = match self.opening.take() {
            Some(opening) => opening,
            None => match self.begin_opening() {
                Ok(opening) => opening,
                Err(e) => {
                    self.fail(&Error::retry(format!("cannot start a thread to open it: {e}")), now);
                    return true;
                }
            },
        };
        match opening.recv_timeout(patience) {
            Ok(Ok(transform)) => {
                self.transform = Some(transform);
                self.health.opened();
            }
            Ok(Err(error)) => self.fail(&error, now),
            Err(RecvTimeoutError::Timeout) => {
                self.opening = Some(opening);
                return false;
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.fail(&Error::fatal("the thread that opens it has ended without a result"), now);
            }
        }
        true
    }

    fn begin_opening(&self) -> std::io::Result<Receiver<OpenResult>> {
        let (sender, receiver) = channel();
        let (open, health) = (self.open.clone(), self.health.clone());
        let run = move || {
            let busy = health.opening();
            let opened = contained(&mut *open.lock().unwrap_or_else(PoisonError::into_inner));
            drop(busy);
            // An error means that the transform was removed meanwhile: what was opened is dropped.
            let _ = sender.send(opened);
        };
        thread::Builder::new().name(self.health.name.clone()).spawn(run)?;
        Ok(receiver)
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
            self.reopen(now);
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

    /// Reopens it if it is time to.
    fn reopen(&mut self, now: Timestamp) {
        if self.opening.is_some() {
            self.open(Duration::ZERO, now);
        } else if now >= self.resume {
            self.open(QUICK_OPENING, now);
        }
    }

    fn fail(&mut self, error: &Error, now: Timestamp) {
        self.health.failed(error);
        self.resume = now + self.backoff.next_wait();
        if error.kind() == ErrorKind::Gone {
            self.resume = Timestamp(u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::{Clock, ElementKind};

    use super::*;
    use crate::pipeline::health::State;

    struct Nothing;

    impl Transform for Nothing {
        fn apply(&mut self, _: &mut Batch) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    fn an_opening_goes_on_beyond_the_patience_and_is_called_once_at_a_time() {
        let health = Health::new(ElementKind::Transform, "p", "e", Duration::ZERO, Clock::system());
        let (open_gate, gate) = channel();
        let open: Open<dyn Transform> = Box::new(move || match gate.recv() {
            Ok(true) => Ok(Box::new(Nothing)),
            Ok(false) => panic!("off by one"),
            Err(e) => Err(Error::gone(e)),
        });
        let mut stage = Stage::new(health.clone(), 0, open);
        let (now, long) = (Timestamp(0), Duration::from_secs(20));
        for works in [true, false, true] {
            stage.transform = None;
            assert!(!stage.open(Duration::from_millis(1), now) && !stage.open(Duration::ZERO, now));
            open_gate.send(works).unwrap();
            assert!(stage.open(long, now));
            assert_eq!(stage.transform.is_some(), works);
        }
        drop(open_gate);
        assert!(stage.open(long, now));
        assert!(matches!(health.state(), State::Gone(_)), "{:?}", health.state());
        assert_eq!(stage.resume, Timestamp(u64::MAX), "what is gone is not reopened");
    }
}
