//! Opening a transform on a thread of its own: an opening that does not return stops neither the start nor the other
//! transforms. Sources and outputs open on the threads they have (`source.rs`, `output.rs`).

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use wattrace_api::Error;
use wattrace_api::spec::Open;

use super::guard::contained;
use super::health::Health;

/// How an element is opened, and whether that is under way.
pub(crate) struct Opener<E: ?Sized> {
    health: Arc<Health>,
    open: Arc<Mutex<Open<E>>>,
    under_way: Option<oneshot::Receiver<Result<Box<E>, Error>>>,
}

impl<E: ?Sized + Send + 'static> Opener<E> {
    pub(crate) fn new(health: Arc<Health>, open: Open<E>) -> Self {
        Self { health, open: Arc::new(Mutex::new(open)), under_way: None }
    }

    /// Whether it was begun and its result has not been taken.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins, unless it is under way.
    pub(crate) fn begin(&mut self) {
        if self.is_under_way() {
            return;
        }
        let (done, result) = oneshot::channel();
        let (open, health, asking) = (self.open.clone(), self.health.clone(), thread::current());
        let run = move || {
            let busy = health.opening();
            let opened = contained(&mut *open.lock().unwrap_or_else(PoisonError::into_inner));
            drop(busy);
            // Nobody may be waiting any more: what was opened is closed then.
            let _ = done.send(opened);
            asking.unpark();
        };
        self.under_way = Some(match thread::Builder::new().name(self.health.name.clone()).spawn(run) {
            Ok(_) => result,
            Err(e) => {
                let (done, result) = oneshot::channel();
                let _ = done.send(Err(Error::retry(format!("cannot start a thread to open it: {e}"))));
                result
            }
        });
    }

    /// The result, if it comes within `patience`; the thread that began it must be the one that asks, lest it
    /// waits for all of that time.
    pub(crate) fn result_within(&mut self, patience: Duration) -> Option<Result<Box<E>, Error>> {
        let until = Instant::now() + patience;
        loop {
            let result = match self.under_way.as_mut()?.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Closed) => Err(no_answer()),
                Err(TryRecvError::Empty) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    thread::park_timeout(left);
                    continue;
                }
            };
            self.under_way = None;
            return Some(result);
        }
    }
}

fn no_answer() -> Error {
    Error::fatal("the thread that was to open it has ended without a word")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use wattrace_api::{Batch, Clock, ElementKind, Output};

    use super::*;
    use crate::pipeline::health::State;

    struct Nothing;

    impl Output for Nothing {
        fn write(&mut self, _: &Batch) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_open_in_time_is_under_way_until_it_does() {
        let health = Health::new(ElementKind::Output, "p", "e", Duration::ZERO, Clock::system());
        let (let_go, gate) = mpsc::channel();
        let open: Open<dyn Output> = Box::new(move || match gate.recv() {
            Ok(true) => Ok(Box::new(Nothing)),
            Ok(false) => panic!("off by one"),
            Err(e) => Err(Error::gone(e)),
        });
        let mut opener = Opener::new(health.clone(), open);
        assert!(opener.result_within(Duration::ZERO).is_none() && !opener.is_under_way());
        let long = Duration::from_secs(20);
        for works in [true, false, true] {
            opener.begin();
            opener.begin();
            assert!(opener.result_within(Duration::from_millis(1)).is_none() && opener.is_under_way());
            let_go.send(works).unwrap();
            assert_eq!(opener.result_within(long).unwrap().is_ok(), works);
            assert!(!opener.is_under_way());
        }
        drop(let_go);
        opener.begin();
        assert_eq!(opener.result_within(long).unwrap().err().unwrap().kind(), wattrace_api::ErrorKind::Gone);
        assert_eq!(health.state(), State::Opening, "what came of it is for whoever takes the result to say");
    }
}
