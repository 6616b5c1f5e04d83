//! The elements of a running pipeline, with the handles by which the runner reaches each of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use wattrace_api::Trigger;

use super::commands::{Command, CommandSender};
use super::health::Health;
use super::queue::Queue;

/// A source and its thread.
#[derive(Clone)]
pub(crate) struct SourceEntry {
    pub(crate) plugin: &'static str,
    pub(crate) health: Arc<Health>,
    pub(crate) commands: CommandSender,
    /// As set last.
    pub(crate) trigger: Trigger,
}

/// A transform in the chain.
#[derive(Clone)]
pub(crate) struct TransformEntry {
    pub(crate) plugin: &'static str,
    pub(crate) health: Arc<Health>,
}

/// An output and its thread.
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

    /// Waits until its thread has ended. After `deadline` the output is abandoned, and what waits for it
    /// counts as lost.
    pub(crate) async fn end_by(&mut self, deadline: Instant) {
        let ended = async { while self.flushed.changed().await.is_ok() {} };
        if timeout_at(deadline, ended).await.is_err() {
            self.health.abandoned("its last write");
            self.health.lose(self.queue.abandon(), "the output was abandoned");
        }
    }
}

/// All elements, each kind in its order.
#[derive(Clone, Default)]
pub(crate) struct Entries {
    /// In the order of their ticks.
    pub(crate) sources: Vec<SourceEntry>,
    pub(crate) transforms: Vec<TransformEntry>,
    pub(crate) outputs: Vec<OutputEntry>,
}

/// The elements of a running pipeline.
#[derive(Default)]
pub(crate) struct Elements(Mutex<Entries>);

impl Elements {
    /// The entries, to read or change; never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the entries.
    pub(crate) fn entries(&self) -> Entries {
        self.lock().clone()
    }

    /// The health of every element: sources, transforms, outputs.
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

    /// The elements for which `is` holds, given plugin and health.
    pub(crate) fn select(&self, is: impl Fn(&str, &Health) -> bool) -> Entries {
        let entries = self.entries();
        Entries {
            sources: entries.sources.into_iter().filter(|s| is(s.plugin, &s.health)).collect(),
            transforms: entries.transforms.into_iter().filter(|t| is(t.plugin, &t.health)).collect(),
            outputs: entries.outputs.into_iter().filter(|o| is(o.plugin, &o.health)).collect(),
        }
    }

    /// Adds a source. Requests to several go out in the order in which their ticks fall.
    pub(crate) fn add_source(&self, entry: SourceEntry) {
        let mut entries = self.lock();
        entries.sources.push(entry);
        entries.sources.sort_by_key(|s| s.trigger.offset);
    }

    /// Removes an element that has ended.
    pub(crate) fn remove(&self, health: &Arc<Health>) {
        let mut entries = self.lock();
        entries.sources.retain(|s| !Arc::ptr_eq(&s.health, health));
        entries.transforms.retain(|t| !Arc::ptr_eq(&t.health, health));
        entries.outputs.retain(|o| !Arc::ptr_eq(&o.health, health));
    }
}

/// Sends a command to the sources, one after the other, and waits for their replies until `deadline`. A
/// source that does not reply delays those after it by a share of the time only. Returns those that have not
/// replied.
pub(crate) async fn ask_all(
    sources: &[SourceEntry],
    command: fn(oneshot::Sender<()>) -> Command,
    deadline: Instant,
) -> Vec<&SourceEntry> {
    let mut pending = Vec::new();
    for (source, left) in sources.iter().zip((2..=sources.len() as u32 + 1).rev()) {
        let (reply, mut replied) = oneshot::channel();
        source.commands.send(command(reply));
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        // A closed channel means that the source has ended, which is a reply too.
        if timeout(share.max(Duration::from_millis(1)), &mut replied).await.is_err() {
            pending.push((source, replied));
        }
    }
    let mut silent = Vec::new();
    for (source, replied) in pending {
        if timeout_at(deadline, replied).await.is_err() {
            silent.push(source);
        }
    }
    silent
}
