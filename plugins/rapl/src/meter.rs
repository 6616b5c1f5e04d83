//! What both of RAPL's interfaces come down to: counters that are read together, and the ways a reading can fail.
//! `powercap` and `perf` open them, `source` polls them.

use std::fmt;
use std::path::PathBuf;

use crate::counter::Counter;
use crate::domain::Subject;

/// Reads one or several counters at one instant.
pub(crate) trait Reader: Send {
    /// Fills `raw`, one number per counter, in their order. Allocates nothing unless it fails.
    fn read(&mut self, raw: &mut [u64]) -> Result<(), Fault>;
}

/// Counters that are read together, and so share their windows.
pub(crate) struct Group {
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) counters: Vec<(Subject, Counter)>,
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

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (looked in {}): {}", self.reason, self.looked_in.display(), self.remedy)
    }
}
