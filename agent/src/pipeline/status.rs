//! What `status` tells of an element: a snapshot, ready to be shown or serialised.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;
use wattrace_api::Clock;

use super::health::{Health, State};
use super::queue::Queue;
use super::roster::{OutputEntry, SourceEntry, TransformEntry};
use super::settings::{Bounds, QueuePolicy};

/// An element's condition in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It is being opened, for the first time.
    Opening,
    /// It works.
    Running,
    /// It was told to pause.
    Paused,
    /// What it deals with isn't there; it is looked for again if `agent.rediscover` says so.
    Gone,
    /// It failed, and is tried again.
    Failing,
    /// It is in a call from which it should long have returned.
    Stuck,
    /// It has ended.
    Stopped,
}

/// An element, as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct ElementStatus {
    /// `kind/plugin/element`.
    pub name: String,
    /// Its condition.
    pub state: Condition,
    /// Why it is gone, failing or stuck; empty otherwise.
    pub reason: String,
    /// What went wrong last, even if it works again; empty if nothing has.
    pub last_error: String,
    /// When the call began that it is stuck in, in nanoseconds since the Unix epoch; 0 if it is not stuck.
    pub stuck_since_unix_nano: u64,
    /// Polls, batches seen, written or produced.
    pub calls: u64,
    /// Errors and contained panics.
    pub errors: u64,
    /// Points that came to it.
    pub points_in: u64,
    /// Points that it gave out, passed on or wrote.
    pub points_out: u64,
    /// Points lost in it, all in all.
    pub lost: u64,
    /// The same by reason.
    pub losses: Vec<(&'static str, u64)>,
    /// Points that a transform left out because it is told to.
    pub left_out: u64,
    /// Of a source that ticks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticks: Option<TickStatus>,
    /// Of an output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
}

/// How a source ticks.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TickStatus {
    /// Nanoseconds between ticks; 0: it is polled when asked only.
    pub interval_ns: u64,
    /// Ticks that took place.
    pub ticks: u64,
    /// Ticks that did not; the window of the next one spans theirs.
    pub missed: u64,
    /// Mean time from when a tick was to fire to when it did.
    pub lateness_mean_ns: u64,
    /// The longest such time.
    pub lateness_max_ns: u64,
}

/// How full an output's queue is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct QueueStatus {
    /// Batches that wait.
    pub depth: usize,
    /// Batches that may wait.
    pub capacity: usize,
    /// Points that wait.
    pub points: usize,
    /// Points that may wait.
    pub capacity_points: usize,
    /// What happens when there is no room.
    pub policy: QueuePolicy,
}

impl From<&Queue> for QueueStatus {
    fn from(queue: &Queue) -> Self {
        let (depth, points) = queue.depth();
        let Bounds { batches: capacity, points: capacity_points, policy } = queue.bounds();
        Self { depth, capacity, points, capacity_points, policy }
    }
}

impl ElementStatus {
    pub(crate) fn of_source(source: &SourceEntry, clock: &Clock) -> Self {
        let mut status = Self::of(&source.health, clock);
        let h = &source.health;
        status.ticks = source.managed.then(|| TickStatus {
            interval_ns: nanos(source.orders.borrow().trigger.interval),
            ticks: h.ticks.load(Relaxed),
            missed: h.missed.load(Relaxed),
            lateness_mean_ns: h.late_ns.load(Relaxed) / h.ticks.load(Relaxed).max(1),
            lateness_max_ns: h.latest_ns.load(Relaxed),
        });
        status
    }

    pub(crate) fn of_transform(transform: &TransformEntry, clock: &Clock) -> Self {
        Self::of(&transform.health, clock)
    }

    pub(crate) fn of_output(output: &OutputEntry, clock: &Clock) -> Self {
        Self { queue: Some((&*output.queue).into()), ..Self::of(&output.health, clock) }
    }

    fn of(health: &Health, clock: &Clock) -> Self {
        let stuck = health.stuck_since().map(|since| clock.unix_nanos(since));
        let (state, reason) = match (stuck, health.state()) {
            (Some(since), _) => {
                let since = std::time::UNIX_EPOCH + Duration::from_nanos(since);
                let since = humantime::format_rfc3339_seconds(since);
                let call = if health.is_opening() { "opening since" } else { "since" };
                (Condition::Stuck, format!("{call} {since}"))
            }
            (None, State::Stopped) => (Condition::Stopped, String::new()),
            (None, State::Gone(why)) => (Condition::Gone, why),
            (None, _) if health.paused() => (Condition::Paused, String::new()),
            (None, State::Failing(why)) => (Condition::Failing, why),
            (None, State::Opening) => (Condition::Opening, String::new()),
            (None, State::Running) => (Condition::Running, String::new()),
        };
        Self {
            name: health.name.clone(),
            state,
            reason,
            last_error: health.last_error(),
            stuck_since_unix_nano: stuck.unwrap_or(0),
            calls: health.calls.load(Relaxed),
            errors: health.errors.load(Relaxed),
            points_in: health.points_in.load(Relaxed),
            points_out: health.points_out.load(Relaxed),
            lost: health.lost.load(Relaxed),
            losses: health.losses(),
            left_out: health.left_out.load(Relaxed),
            ticks: None,
            queue: None,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
