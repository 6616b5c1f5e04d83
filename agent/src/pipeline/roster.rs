//! The roster: every element of a running pipeline, and by which means each is told something.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::health::Health;
use super::queue::Queue;
use super::source::{Orders, Request};

/// A source on its way.
#[derive(Clone)]
pub(crate) struct SourceEntry {
    pub(crate) plugin: &'static str,
    pub(crate) health: Arc<Health>,
    pub(crate) requests: mpsc::UnboundedSender<Request>,
    pub(crate) orders: watch::Sender<Orders>,
    /// Whether it is polled, rather than producing when it wants.
    pub(crate) managed: bool,
}

/// A transform in its place.
#[derive(Clone)]
pub(crate) struct TransformEntry {
    pub(crate) plugin: &'static str,
    pub(crate) health: Arc<Health>,
}

/// An output on its thread.
#[derive(Clone)]
pub(crate) struct OutputEntry {
    pub(crate) plugin: &'static str,
    pub(crate) health: Arc<Health>,
    pub(crate) queue: Arc<Queue>,
    /// Number of the last flush that was carried out; closed once the thread has ended.
    pub(crate) flushed: watch::Receiver<u64>,
}

impl OutputEntry {
    /// Waits until flush `number` has been carried out. Returns whether that was by `deadline`.
    pub(crate) async fn flushed_by(&mut self, number: u64, deadline: Instant) -> bool {
        matches!(timeout_at(deadline, self.flushed.wait_for(|&done| done >= number)).await, Ok(Ok(_)))
    }

    /// Waits until its thread has ended. Returns whether it did so by `deadline`.
    pub(crate) async fn ended(&mut self, deadline: Instant) -> bool {
        timeout_at(deadline, async { while self.flushed.changed().await.is_ok() {} }).await.is_ok()
    }
}

/// All elements, each kind in its order.
#[derive(Clone, Default)]
pub(crate) struct Entries {
    /// In the order in which their ticks fall.
    pub(crate) sources: Vec<SourceEntry>,
    pub(crate) transforms: Vec<TransformEntry>,
    pub(crate) outputs: Vec<OutputEntry>,
}

/// The elements of a running pipeline.
#[derive(Default)]
pub(crate) struct Roster(Mutex<Entries>);

impl Roster {
    /// To look at or change; never held while something is awaited.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the entries, to talk to the elements.
    pub(crate) fn entries(&self) -> Entries {
        self.lock().clone()
    }

    /// The books of every element: sources, transforms, outputs.
    pub(crate) fn health(&self) -> Vec<Arc<Health>> {
        let entries = self.lock();
        (entries.sources.iter().map(|s| &s.health))
            .chain(entries.transforms.iter().map(|t| &t.health))
            .chain(entries.outputs.iter().map(|o| &o.health))
            .cloned()
            .collect()
    }

    /// Whether there is an element `kind/plugin/element` of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.health().iter().any(|h| h.name == name)
    }

    /// Strikes out an element that has ended.
    pub(crate) fn strike(&self, health: &Arc<Health>) {
        let mut entries = self.lock();
        entries.sources.retain(|s| !Arc::ptr_eq(&s.health, health));
        entries.transforms.retain(|t| !Arc::ptr_eq(&t.health, health));
        entries.outputs.retain(|o| !Arc::ptr_eq(&o.health, health));
    }
}

/// Asks the sources, one after the other, and waits for their answers until `deadline`. One that does not
/// answer holds up those after it for a share of the time only. Returns those that have not answered.
pub(crate) async fn ask_all(
    sources: &[SourceEntry],
    request: fn(oneshot::Sender<()>) -> Request,
    deadline: Instant,
) -> Vec<&SourceEntry> {
    let mut waited_for = Vec::new();
    for (source, left) in sources.iter().zip((2..=sources.len() as u32 + 1).rev()) {
        let (reply, answered) = oneshot::channel();
        // Errors mean that the source has ended instead.
        let _ = source.requests.send(request(reply));
        let mut answer = Box::pin(async move { drop(answered.await) });
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        if timeout(share.max(Duration::from_millis(1)), &mut answer).await.is_err() {
            waited_for.push((source, answer));
        }
    }
    let mut silent = Vec::new();
    for (source, answer) in waited_for {
        if timeout_at(deadline, answer).await.is_err() {
            silent.push(source);
        }
    }
    silent
}
