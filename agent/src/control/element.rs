//! An element as it is told over the socket. The pipeline's own `status.rs` may change; this is what other
//! programs read.

use serde::{Deserialize, Serialize};

use crate::pipeline::status::{Condition, ElementStatus, QueueStatus, TickStatus};

/// How an element is doing. Counts are since it joined the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Element {
    /// `kind/plugin/element`.
    pub(crate) name: String,
    /// `opening`, `running`, `paused`, `gone`, `failing`, `stuck` or `stopped`.
    pub(crate) state: String,
    /// Why it is gone, failing or stuck; otherwise empty.
    pub(crate) reason: String,
    /// What went wrong last, even if it works again; empty if nothing has.
    pub(crate) last_error: String,
    /// When the call began that it is stuck in; 0 if it is not.
    pub(crate) stuck_since_unix_nano: u64,
    /// Polls, or batches seen or written.
    pub(crate) calls: u64,
    /// Errors and contained panics.
    pub(crate) errors: u64,
    /// Points that came to it.
    pub(crate) points_in: u64,
    /// Points that it gave out, passed on or wrote.
    pub(crate) points_out: u64,
    /// Points lost in it.
    pub(crate) points_lost: u64,
    /// The same by reason.
    pub(crate) losses: Vec<Loss>,
    /// Points that a transform left out because it is told to.
    pub(crate) points_left_out: u64,
    /// Of a source that ticks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ticks: Option<Ticks>,
    /// Of an output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<Queue>,
}

/// Points lost for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loss {
    pub(crate) reason: String,
    pub(crate) points: u64,
}

/// How a source ticks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ticks {
    /// Time between ticks; 0: it is polled when asked only.
    pub(crate) interval_ns: u64,
    /// Ticks that took place.
    pub(crate) count: u64,
    /// Ticks that did not; the window of the next one spans theirs.
    pub(crate) missed: u64,
    /// From when ticks were to fire to when they did: the mean,
    pub(crate) lateness_mean_ns: u64,
    /// and the most.
    pub(crate) lateness_max_ns: u64,
}

/// How full an output's queue is, in batches and in points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) depth: u64,
    pub(crate) capacity: u64,
    pub(crate) points: u64,
    pub(crate) capacity_points: u64,
    /// `block`, `drop-oldest` or `drop-newest`.
    pub(crate) policy: String,
}

impl Element {
    /// Whether it is not doing what it is there for.
    pub(crate) fn is_in_trouble(&self) -> bool {
        !self.reason.is_empty()
    }

    /// Whether it has tried, and could not; what is gone has not.
    pub(crate) fn fails(&self) -> bool {
        matches!(self.state.as_str(), "failing" | "stuck")
    }
}

impl From<ElementStatus> for Element {
    fn from(status: ElementStatus) -> Self {
        let losses = status.losses.into_iter();
        Self {
            name: status.name,
            state: word(status.state).into(),
            reason: status.reason,
            last_error: status.last_error,
            stuck_since_unix_nano: status.stuck_since_unix_nano,
            calls: status.calls,
            errors: status.errors,
            points_in: status.points_in,
            points_out: status.points_out,
            points_lost: status.lost,
            losses: losses.map(|(reason, points)| Loss { reason: reason.into(), points }).collect(),
            points_left_out: status.left_out,
            ticks: status.ticks.map(Ticks::from),
            queue: status.queue.map(Queue::from),
        }
    }
}

fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Opening => "opening",
        Condition::Running => "running",
        Condition::Paused => "paused",
        Condition::Gone => "gone",
        Condition::Failing => "failing",
        Condition::Stuck => "stuck",
        Condition::Stopped => "stopped",
    }
}

impl From<TickStatus> for Ticks {
    fn from(ticks: TickStatus) -> Self {
        Self {
            interval_ns: ticks.interval_ns,
            count: ticks.ticks,
            missed: ticks.missed,
            lateness_mean_ns: ticks.lateness_mean_ns,
            lateness_max_ns: ticks.lateness_max_ns,
        }
    }
}

impl From<QueueStatus> for Queue {
    fn from(queue: QueueStatus) -> Self {
        Self {
            depth: queue.depth as u64,
            capacity: queue.capacity as u64,
            points: queue.points as u64,
            capacity_points: queue.capacity_points as u64,
            policy: queue.policy.as_str().into(),
        }
    }
}
