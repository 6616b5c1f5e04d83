//! The status of an element: a snapshot. The control socket carries it as it is (`wattrace.control/1`), and
//! its client shows it, so a field that exists keeps its serialised name and its meaning.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Clock;

use super::elements::{OutputEntry, SourceEntry};
use super::health::{Health, State};
use crate::config::{Bounds, QueuePolicy};

/// An element's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It is being opened for the first time.
    Opening,
    /// It works.
    Running,
    /// It is paused by a command.
    Paused,
    /// Its device or interface was never there; the runner looks for it every `agent.rediscover`.
    Absent,
    /// Its device or interface was there and is no longer; the runner looks for it as well.
    Gone,
    /// It failed and is retried.
    Failing,
    /// A call into it has not returned within its time limit.
    Stuck,
    /// It has ended.
    Stopped,
}

impl Condition {
    /// Its serialised name.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Opening => "opening",
            Condition::Running => "running",
            Condition::Paused => "paused",
            Condition::Absent => "absent",
            Condition::Gone => "gone",
            Condition::Failing => "failing",
            Condition::Stuck => "stuck",
            Condition::Stopped => "stopped",
        }
    }
}

/// Points lost for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Why.
    pub reason: String,
    /// How many.
    pub points: u64,
}

/// The status of an element. Counts are since it joined the pipeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ElementStatus {
    /// `kind/plugin/element`.
    pub name: String,
    /// Its condition.
    pub state: Condition,
    /// Why it is absent, gone, failing or stuck; otherwise empty.
    pub reason: String,
    /// The last error, even if it works again; empty if there was none.
    pub last_error: String,
    /// Start of the call that it is stuck in, in nanoseconds since the Unix epoch; 0 if it is not stuck.
    pub stuck_since_unix_nano: u64,
    /// Polls of a source; batches that a transform or an output received.
    pub calls: u64,
    /// Errors and contained panics.
    pub errors: u64,
    /// Points received.
    pub points_in: u64,
    /// Points produced, passed on or written.
    pub points_out: u64,
    /// Points lost.
    #[serde(rename = "points_lost")]
    pub lost: u64,
    /// The lost points by reason.
    pub losses: Vec<Loss>,
    /// Points that a transform removed because its configuration says so.
    #[serde(rename = "points_left_out")]
    pub left_out: u64,
    /// Of a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticks: Option<TickStatus>,
    /// Of an output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
}

/// The ticks of a source.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct TickStatus {
    /// Nanoseconds between ticks; 0: it is polled on request only.
    pub interval_ns: u64,
    /// Ticks that took place.
    #[serde(rename = "count")]
    pub ticks: u64,
    /// Ticks that did not take place; the window of the next one spans theirs.
    pub missed: u64,
    /// Mean delay of ticks.
    pub lateness_mean_ns: u64,
    /// Maximum delay of a tick.
    pub lateness_max_ns: u64,
}

/// The fill level of an output's queue.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Batches in the queue.
    pub depth: usize,
    /// Batches that fit.
    pub capacity: usize,
    /// Points in the queue.
    pub points: usize,
    /// Points that fit.
    pub capacity_points: usize,
    /// What happens when it is full.
    pub policy: QueuePolicy,
}

impl ElementStatus {
    /// Whether it is absent, gone, failing or stuck.
    pub fn has_problem(&self) -> bool {
        !self.reason.is_empty()
    }

    pub(crate) fn of_source(source: &SourceEntry, clock: &Clock) -> Self {
        let mut status = Self::of(&source.health, clock);
        let h = &source.health;
        status.ticks = Some(TickStatus {
            interval_ns: u64::try_from(source.trigger.interval.as_nanos()).unwrap_or(u64::MAX),
            ticks: h.ticks.load(Relaxed),
            missed: h.missed.load(Relaxed),
            lateness_mean_ns: h.late_ns.load(Relaxed) / h.ticks.load(Relaxed).max(1),
            lateness_max_ns: h.latest_ns.load(Relaxed),
        });
        status
    }

    pub(crate) fn of_output(output: &OutputEntry, clock: &Clock) -> Self {
        let (depth, points) = output.queue.depth();
        let Bounds { batches: capacity, points: capacity_points, policy } = output.queue.bounds();
        let queue = Some(QueueStatus { depth, capacity, points, capacity_points, policy });
        Self { queue, ..Self::of(&output.health, clock) }
    }

    /// Of an element with neither ticks nor a queue.
    pub(crate) fn of(health: &Health, clock: &Clock) -> Self {
        let stuck = health.stuck_since().map(|since| clock.unix_nanos(since));
        let (state, reason) = match (stuck, health.state()) {
            (Some(since), _) => {
                let since = std::time::UNIX_EPOCH + Duration::from_nanos(since);
                let since = humantime::format_rfc3339_seconds(since);
                let call = if health.is_opening() { "opening since" } else { "since" };
                (Condition::Stuck, format!("{call} {since}"))
            }
            (None, State::Stopped) => (Condition::Stopped, String::new()),
            (None, State::Gone(why)) if health.was_open.load(Relaxed) => (Condition::Gone, why),
            (None, State::Gone(why)) => (Condition::Absent, why),
            (None, _) if health.paused() => (Condition::Paused, String::new()),
            (None, State::Failing(why)) => (Condition::Failing, why),
            (None, State::Opening) => (Condition::Opening, String::new()),
            (None, State::Running) => (Condition::Running, String::new()),
        };
        let loss = |(reason, points): (&str, u64)| Loss { reason: reason.into(), points };
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
            losses: health.losses().into_iter().map(loss).collect(),
            left_out: health.left_out.load(Relaxed),
            ticks: None,
            queue: None,
        }
    }
}
