//! What `wattrace watch` was attached to, in its report. `cli/watch.rs` attaches.

use serde::Serialize;
use wattrace_api::text::printable;

use crate::cli::table::shortened;

/// Something that ran already.
#[derive(Clone, Debug, Serialize)]
pub(in crate::cli) struct Watched {
    /// `process`, `name`, `unit`, `container` or `cgroup`.
    pub(in crate::cli) kind: &'static str,
    /// Which one: a pid, a name, an id, a path.
    pub(in crate::cli) id: String,
    /// The pids of its processes when it began to be watched.
    pub(in crate::cli) attached: Vec<u32>,
    pub(in crate::cli) until: Until,
}

/// Why it was no longer watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Until {
    /// It ended.
    Ended,
    /// The time was up.
    Duration,
    /// A signal asked this process to end.
    Interrupted,
}

/// A longer name is cut, in characters.
const MAX_ID: usize = 60;

impl Watched {
    /// ``process `4711` ended after 2.000 s``.
    pub(super) fn for_people(&self, wall: f64) -> String {
        let Self { kind, id, until, .. } = self;
        let id = shortened(&printable(id), MAX_ID);
        match until {
            Until::Ended => format!("{kind} `{id}` ended after {wall:.3} s"),
            Until::Duration | Until::Interrupted => format!("{kind} `{id}` was watched for {wall:.3} s"),
        }
    }
}
