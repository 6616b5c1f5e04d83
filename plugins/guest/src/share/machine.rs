//! One machine's energy, and the message about it. `machines.rs` adds to it.

use wattrace_api::{Clock, Timestamp};

use crate::message::{DomainShare, SCHEMA, Share};

/// One machine's energy.
pub(super) struct Machine {
    pub(super) name: String,
    /// The id of the consumer that has the name now.
    pub(super) id: String,
    /// Empty: the entry is free.
    pub(super) directory: String,
    pub(super) session: u64,
    pub(super) start_unix_nano: u64,
    pub(super) as_of_unix_nano: u64,
    pub(super) as_of: Timestamp,
    pub(super) domains: Vec<DomainShare>,
    pub(super) open_series: usize,
    /// When the last series ended.
    pub(super) gone: Option<Timestamp>,
    /// Whether its energy has changed since it was written.
    pub(super) is_changed: bool,
    /// When this run last wrote it.
    pub(super) written: Option<Timestamp>,
}

impl Machine {
    /// Whether its last series has ended: its energy does not change any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// The message about it.
    pub(super) fn message(&self, clock: &Clock) -> Message {
        let share = Share {
            schema: SCHEMA.to_owned(),
            machine: self.name.clone(),
            session: self.session,
            start_unix_nano: self.start_unix_nano,
            as_of_unix_nano: self.as_of_unix_nano,
            age_nano: 0,
            domains: self.domains.clone(),
        };
        Message { share, as_of: self.as_of }.with_age(clock)
    }
}

/// A message, with the end of its last window by the host's monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) share: Share,
    as_of: Timestamp,
}

impl Message {
    /// The message with its age now.
    pub(super) fn with_age(mut self, clock: &Clock) -> Self {
        self.share.age_nano = u64::try_from(clock.now().since(self.as_of).as_nanos()).unwrap_or(u64::MAX);
        self
    }
}
