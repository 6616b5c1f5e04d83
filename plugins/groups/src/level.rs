//! The levels: the ways of dividing all processes into groups.

use serde::{Deserialize, Serialize};
use wattrace_api::ConsumerKind;

/// A way of dividing all processes into groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The cgroup that a process is in.
    Cgroup,
    /// The systemd unit.
    Unit,
    /// The container.
    Container,
    /// The Kubernetes pod.
    Pod,
    /// The batch job.
    Job,
    /// The virtual machine.
    Machine,
    /// The user with whose rights it runs.
    User,
    /// Its oldest living ancestor below init, with all descendants of that.
    Tree,
}

/// How many levels there can be.
pub(crate) const MOST_LEVELS: usize = 8;

impl Level {
    /// The kind of its groups.
    pub(crate) fn kind(self) -> ConsumerKind {
        match self {
            Level::Cgroup => ConsumerKind::Cgroup,
            Level::Unit => ConsumerKind::Unit,
            Level::Container => ConsumerKind::Container,
            Level::Pod => ConsumerKind::Pod,
            Level::Job => ConsumerKind::Job,
            Level::Machine => ConsumerKind::Machine,
            Level::User => ConsumerKind::User,
            Level::Tree => ConsumerKind::Tree,
        }
    }
}
