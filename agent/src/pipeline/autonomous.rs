//! An autonomous source's thread: polls its future, forwards what it sends, and sets it going anew when it
//! has failed. It has a thread, with the async runtime at hand, so that one that blocks against the contract
//! holds up nobody else.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use wattrace_api::feed::OpenAutonomous;
use wattrace_api::{Batch, Error, ErrorKind, Feed};

use super::flow::{LiveSet, Pool};
use super::guard::{Backoff, contained};
use super::health::Health;
use super::source::{Orders, Request};
use super::transforms::Upstream;

/// How long it may take to come to its end once told.
const GRACE: Duration = Duration::from_millis(500);

/// An autonomous source and all that its thread needs.
pub(crate) struct AutonomousTask {
    pub(crate) health: Arc<Health>,
    pub(crate) orders: watch::Receiver<Orders>,
    pub(crate) open: OpenAutonomous,
    pub(crate) pool: Arc<Pool>,
    pub(crate) rediscover: Duration,
    pub(crate) downstream: Upstream,
}

impl AutonomousTask {
    /// Runs until asked to stop, or until the source comes to its own end; returns whether that was it.
    pub(crate) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) -> bool {
        let (mut live, mut backoff) = (LiveSet::default(), Backoff::new(Duration::from_secs(1)));
        let end = loop {
            let (result, end) = self.produce(&mut requests, &mut live, &mut backoff).await;
            // An agent that stops needs no ends; a source that is set going anew opens series of its own.
            if !matches!(end, Some(Request::Stop(_))) {
                let mut batch = self.pool.take(0);
                live.end_all(&mut batch);
                self.forward(batch).await;
            }
            let wait = match result {
                Ok(()) => break end,
                Err(error) => {
                    self.health.failed(&error);
                    match error.kind() {
                        ErrorKind::Gone => self.rediscover,
                        ErrorKind::Retry | ErrorKind::Fatal => backoff.wait(),
                    }
                }
            };
            if end.is_some() {
                break end;
            }
            if let Some(end) = idle(&mut requests, wait).await {
                break Some(end);
            }
        };
        self.health.stopped();
        let own_end = end.is_none();
        if let Some(Request::Stop(reply) | Request::Remove(reply)) = end {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(());
        }
        own_end
    }

    /// Sets the source going, until it ends or is told to. Returns with what it ended, and the request to
    /// end.
    async fn produce(
        &mut self,
        requests: &mut mpsc::UnboundedReceiver<Request>,
        live: &mut LiveSet,
        backoff: &mut Backoff,
    ) -> (Result<(), Error>, Option<Request>) {
        let (sender, mut batches) = mpsc::channel(1);
        let (stopping, stop) = watch::channel(false);
        // As many points as it sent last.
        let points = Arc::new(AtomicUsize::new(0));
        let (pool, expected) = (self.pool.clone(), points.clone());
        let feed = Feed::new(sender, Arc::new(move || pool.take(expected.load(Relaxed))), stop);
        let opened = {
            let _busy = self.health.opening();
            contained(|| Ok((self.open)(feed)))
        };
        let mut source = match opened {
            Ok(source) => source,
            Err(error) => return (Err(error), None),
        };
        let (mut end, mut deadline) = (None, Instant::now());
        let health = self.health.clone();
        let mut running = poll_fn(|context| {
            let _busy = health.busy();
            match contained(|| Ok(source.as_mut().poll(context))) {
                Ok(polled) => polled,
                Err(panicked) => std::task::Poll::Ready(Err(panicked)),
            }
        });
        let result = loop {
            let paused = self.orders.borrow_and_update().paused;
            tokio::select! {
                biased;
                request = requests.recv(), if end.is_none() => match request {
                    // It cannot be polled: it has nothing to say now that it has not said.
                    Some(Request::Poll(reply)) => drop(reply.send(())),
                    Some(request) => {
                        stopping.send_replace(true);
                        (end, deadline) = (Some(request), Instant::now() + GRACE);
                    }
                    // The pipeline is gone.
                    None => break Ok(()),
                },
                Ok(()) = self.orders.changed() => {}
                Some(batch) = batches.recv(), if !paused || end.is_some() => {
                    live.note(&batch);
                    points.store(batch.len(), Relaxed);
                    self.health.works();
                    backoff.reset();
                    self.health.calls.fetch_add(1, Relaxed);
                    self.health.points_out.fetch_add(batch.len() as u64, Relaxed);
                    self.forward(batch).await;
                }
                result = &mut running => break result,
                () = sleep_until(deadline), if end.is_some() => break Ok(()),
            }
        };
        while let Ok(batch) = batches.try_recv() {
            live.note(&batch);
            self.health.calls.fetch_add(1, Relaxed);
            self.health.points_out.fetch_add(batch.len() as u64, Relaxed);
            self.forward(batch).await;
        }
        (result, end)
    }

    async fn forward(&self, batch: Batch) {
        if batch.is_empty() {
            self.pool.give_back(batch);
        } else {
            // The transforms are the only receiver, and they outlive the sources unless they were abandoned.
            self.downstream.send(batch).await;
        }
    }
}

/// Waits for `wait` (for good if it is zero), or until asked to end.
async fn idle(requests: &mut mpsc::UnboundedReceiver<Request>, wait: Duration) -> Option<Request> {
    let until = Instant::now() + wait;
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Poll(reply)) => drop(reply.send(())),
                end => return end,
            },
            () = sleep_until(until), if !wait.is_zero() => return None,
        }
    }
}
