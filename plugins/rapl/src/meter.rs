//! What RAPL's interfaces come down to: counters that are read together, and the ways a reading can fail.
//! `perf`, `powercap` and `msr` open them, `source` polls them.

use std::fmt;
use std::path::PathBuf;

use wattrace_api::Origin;

use crate::counter::Counter;
use crate::domain::Subject;

/// Reads one or several counters at one instant.
pub(crate) trait Reader: Send {
    /// Fills `raw`, one number per counter, in their order. Allocates nothing unless it fails.
    fn read(&mut self, raw: &mut [u64]) -> Result<Reading, Fault>;

    /// The numbers stand still: looks whether what is read is still alive. `true`: it was dead and has been
    /// let go; the next read opens it anew.
    fn doubt(&mut self) -> bool {
        false
    }
}

/// What the numbers of a reading count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// What those before counted from.
    Continued,
    /// From when they were opened just now: what was used since the reading before is not in them.
    Anew,
}

/// Counters that are read together, and so share their windows.
pub(crate) struct Group {
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) counters: Vec<(Subject, Counter)>,
}

/// All that an interface meters.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) groups: Vec<Group>,
    /// What is to be said once to whoever uses it: counters that were left out, and why.
    pub(crate) caveats: Vec<String>,
}

impl Opened {
    /// Where the numbers come from, if there are any: the least honourable counts.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.subjects().map(|subject| subject.domain.origin).max()
    }

    /// The subjects of all counters.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.groups.iter().flat_map(|group| &group.counters).map(|(subject, _)| subject)
    }
}

/// Why there is no reading now.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Whether what was read isn't there any more, rather than having said something senseless.
    pub(crate) gone: bool,
    /// Where and what.
    pub(crate) what: String,
}

impl Fault {
    /// A senseless reading.
    pub(crate) fn bad(what: String) -> Self {
        Self { gone: false, what }
    }

    /// The place to read from has vanished.
    pub(crate) fn gone(what: String) -> Self {
        Self { gone: true, what }
    }
}

/// Why an interface can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// The directory that was looked at.
    pub(crate) looked_in: PathBuf,
    /// What is missing there, or who refused what.
    pub(crate) reason: String,
    /// What gives it.
    pub(crate) remedy: String,
}

impl Unavailable {
    /// A remedy for files that may not be read, or the other one.
    pub(crate) fn remedy_of(
        e: &std::io::Error,
        permission: &'static str,
        otherwise: &'static str,
    ) -> &'static str {
        if e.kind() == std::io::ErrorKind::PermissionDenied { permission } else { otherwise }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (looked in {}): {}", self.reason, self.looked_in.display(), self.remedy)
    }
}
