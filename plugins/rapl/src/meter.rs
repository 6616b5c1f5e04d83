//! What RAPL's three interfaces have in common: meters that read one or more counters at once, and the
//! reasons why an interface cannot be used. `perf`, `powercap` and `msr` open them, `source` polls them.

use std::fmt;
use std::io;
use std::path::PathBuf;

use wattrace_api::Origin;
use wattrace_meter::sysfs::Fault;
use wattrace_meter::{Counter, Subject};

/// Reads one or more counters at one instant.
pub(crate) trait Meter: Send {
    /// Fills `readings`, one raw value per counter, in their order. Allocates nothing unless it fails.
    fn read(&mut self, readings: &mut [u64]) -> Result<Continuity, Fault>;

    /// Called when the values stand still. If what is read is dead, closes it and returns `true`: the next
    /// read opens it again.
    fn close_if_dead(&mut self) -> bool {
        false
    }
}

/// Whether readings can be compared with those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// They count from the same start as the readings before.
    Continued,
    /// They count from just now, when the counters were opened again. The energy since the readings before is
    /// unknown.
    Restarted,
}

/// Counters that are read together, and so share their windows.
pub(crate) struct CounterGroup {
    pub(crate) meter: Box<dyn Meter>,
    pub(crate) counters: Vec<(Subject, Counter)>,
}

/// All counters of an interface.
#[derive(Default)]
pub(crate) struct OpenInterface {
    pub(crate) groups: Vec<CounterGroup>,
    /// Warnings for the user of the interface: counters that were left out, and why.
    pub(crate) warnings: Vec<String>,
}

impl OpenInterface {
    /// Where the values come from: `simulated` if any of them is. `None` without counters.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.subjects().map(|subject| subject.domain.origin).max()
    }

    /// Reads the groups until one can be read, so that what only opens does not pass for a meter.
    ///
    /// # Errors
    /// None can be read; why the first cannot.
    pub(crate) fn read_once(&mut self) -> Result<(), Fault> {
        let mut first = None;
        for CounterGroup { meter, counters } in &mut self.groups {
            match meter.read(&mut vec![0; counters.len()]) {
                Ok(_) => return Ok(()),
                Err(fault) => first = first.or(Some(fault)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// The subjects of all counters.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.groups.iter().flat_map(|group| &group.counters).map(|(subject, _)| subject)
    }
}

/// The remedy for counters that exist and cannot be read.
pub(crate) const UNREADABLE: &str = "the driver or the firmware shows a counter that it cannot read; \
    another kernel may, or another plugins.rapl.interface";

/// Why an interface cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// The directory that was read.
    pub(crate) looked_in: PathBuf,
    /// What is missing there, or what was refused.
    pub(crate) reason: String,
    /// What makes it usable.
    pub(crate) remedy: String,
    /// Whether this is a permission.
    pub(crate) is_denied: bool,
}

impl Unavailable {
    /// Something is missing below `looked_in`.
    pub(crate) fn new(looked_in: PathBuf, reason: String, remedy: &str) -> Self {
        Self { looked_in, reason, remedy: remedy.to_owned(), is_denied: false }
    }

    /// The kernel answered with `e`: the remedy is `permission` if access was denied, else `otherwise`.
    pub(crate) fn refused(
        looked_in: PathBuf,
        reason: String,
        e: &io::Error,
        (permission, otherwise): (&str, &str),
    ) -> Self {
        match e.kind() {
            io::ErrorKind::PermissionDenied => {
                Self { is_denied: true, ..Self::new(looked_in, reason, permission) }
            }
            _ => Self::new(looked_in, reason, otherwise),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (looked in {}): {}", self.reason, self.looked_in.display(), self.remedy)
    }
}
