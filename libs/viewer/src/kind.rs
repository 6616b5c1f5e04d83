//! The kinds of consumers that a viewer distinguishes: those of the contract, and programs.

use serde::{Deserialize, Serialize};
use wattrace_api::ConsumerKind;

/// A kind of consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// All threads of one (pid, start time).
    Process,
    /// A process below init and all its descendants.
    Tree,
    /// All processes of one name.
    Program,
    /// A systemd unit.
    Unit,
    /// A container.
    Container,
    /// A Kubernetes pod.
    Pod,
    /// A batch job.
    Job,
    /// A virtual machine.
    Machine,
    /// The user whose processes they are.
    User,
    /// A control group.
    Cgroup,
    /// One thread.
    Thread,
    /// Nobody, the hardware was idle.
    Idle,
    /// Somebody, but it is not known who.
    Unattributed,
    /// Interrupts.
    Irq,
    /// Everyone below the top N, where the agent has such a limit.
    Other,
}

impl Kind {
    /// The kinds whose consumers are rows, in the order in which a viewer offers them.
    pub const ROWS: [Kind; 9] = [
        Kind::Process,
        Kind::Tree,
        Kind::Program,
        Kind::Unit,
        Kind::Container,
        Kind::Pod,
        Kind::Job,
        Kind::Machine,
        Kind::User,
    ];

    /// The kinds that close the sum, whatever the rows are.
    pub const CLOSING: [Kind; 4] = [Kind::Idle, Kind::Unattributed, Kind::Irq, Kind::Other];

    /// Its name: `process`, `idle`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Process => "process",
            Kind::Tree => "tree",
            Kind::Program => "program",
            Kind::Unit => "unit",
            Kind::Container => "container",
            Kind::Pod => "pod",
            Kind::Job => "job",
            Kind::Machine => "machine",
            Kind::User => "user",
            Kind::Cgroup => "cgroup",
            Kind::Thread => "thread",
            Kind::Idle => "idle",
            Kind::Unattributed => "unattributed",
            Kind::Irq => "irq",
            Kind::Other => "other",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = Self::ROWS.into_iter().chain(Self::CLOSING).chain([Kind::Cgroup, Kind::Thread]);
        all.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether it closes the sum of the rows.
    pub fn is_closing(self) -> bool {
        Self::CLOSING.contains(&self)
    }

    /// Whether the model adds it up from processes. Consumers of other kinds have series of their own.
    pub fn is_derived(self) -> bool {
        matches!(self, Kind::Program | Kind::Tree)
    }
}

impl From<ConsumerKind> for Kind {
    fn from(kind: ConsumerKind) -> Self {
        match kind {
            ConsumerKind::Process => Kind::Process,
            ConsumerKind::Thread => Kind::Thread,
            ConsumerKind::Cgroup => Kind::Cgroup,
            ConsumerKind::Container => Kind::Container,
            ConsumerKind::Pod => Kind::Pod,
            ConsumerKind::Unit => Kind::Unit,
            ConsumerKind::Job => Kind::Job,
            ConsumerKind::Machine => Kind::Machine,
            ConsumerKind::User => Kind::User,
            ConsumerKind::Tree => Kind::Tree,
            ConsumerKind::Idle => Kind::Idle,
            ConsumerKind::Irq => Kind::Irq,
            ConsumerKind::Other => Kind::Other,
            ConsumerKind::Unattributed => Kind::Unattributed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_consumer_kind_of_the_contract_has_its_name_here() {
        for kind in ConsumerKind::ALL {
            assert_eq!(Kind::from(kind).as_str(), kind.as_str());
            assert_eq!(Kind::from_name(kind.as_str()), Some(Kind::from(kind)));
        }
        assert_eq!((Kind::from_name("program"), Kind::from_name("x")), (Some(Kind::Program), None));
    }
}
