//! The lane: where sources that never wait are polled, on the async runtime's workers, one at a time. Should
//! one of them wait all the same, then only that one worker waits with it: those that come after it get a
//! thread each until it returns.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// How long a poll may keep the next one waiting; those that keep to the contract take microseconds.
const PATIENCE: Duration = Duration::from_millis(2);

/// The lane. All but one of the runtime's workers stay free of it.
pub(crate) struct Lane {
    free: Semaphore,
    /// Somebody has kept others waiting too long and is still in it.
    jammed: AtomicBool,
}

/// The right to poll on this worker.
pub(crate) struct Pass<'a> {
    lane: &'a Lane,
    _permit: SemaphorePermit<'a>,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self { free: Semaphore::new(1), jammed: AtomicBool::new(false) }
    }

    /// Enters it; `None` if that takes too long: then a thread is to be used.
    pub(crate) async fn enter(&self) -> Option<Pass<'_>> {
        let permit = match self.free.try_acquire() {
            Ok(permit) => permit,
            Err(_) if self.jammed.load(Relaxed) => return None,
            Err(_) => match timeout(PATIENCE, self.free.acquire()).await {
                Ok(permit) => permit.ok()?,
                Err(_) => {
                    self.jammed.store(true, Relaxed);
                    return None;
                }
            },
        };
        Some(Pass { lane: self, _permit: permit })
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.lane.jammed.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_while_it_is_jammed_is_sent_to_a_thread_at_once() {
        let lane = Lane::new();
        let stuck = lane.enter().await.unwrap();
        assert!(lane.enter().await.is_none());
        assert!(lane.jammed.load(Relaxed));
        drop(stuck);
        assert!(!lane.jammed.load(Relaxed));
        assert!(lane.enter().await.is_some());
    }
}
