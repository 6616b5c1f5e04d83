//! What the transform asks the resolvers, and what they answer.

use std::sync::{Arc, Weak};

use wattrace_api::{Attribute, Consumer};

use crate::level::Level;

/// A group that has a name outside of this plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Container { id: Arc<str>, is_in_pod: bool },
    Pod { uid: Arc<str> },
    User(u32),
}

/// A request for the name of a group. It lapses when the group ends.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) subject: Subject,
    pub(crate) group: Weak<Consumer>,
}

/// The names of the group `key` of `level`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) level: Level,
    pub(crate) key: Arc<str>,
    /// Attributes of the group alone.
    pub(crate) of_group: Vec<Attribute>,
    /// Attributes of the group and of each of its processes.
    pub(crate) of_processes: Vec<Attribute>,
}

impl Answer {
    /// Whether it is about `subject`.
    pub(crate) fn is_about(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Container { id, .. } => (self.level, &self.key) == (Level::Container, id),
            Subject::Pod { uid } => (self.level, &self.key) == (Level::Pod, uid),
            Subject::User(user) => self.level == Level::User && self.key.parse() == Ok(*user),
        }
    }
}
