//! A spool: what a server has not taken yet, in a file that survives the agent.
//!
//! An output that sends over a network pushes what it could not deliver ([`Spool::push`]), sends it again,
//! oldest first ([`Spool::oldest`]), and removes what was taken or refused for good ([`Spool::done`]).
//! Payloads are opaque. Each has a [`Class`], a number of points and a time, by which the limits decide what
//! goes first.
//!
//! | module | does |
//! | --- | --- |
//! | `spool` | the spool: on disk, or in memory while the disk does not work |
//! | `disk` | the file, an SQLite database: transactions, limits, what goes first |
//! | `memory` | the same in memory |
//! | `problem` | what is wrong with a file, and the remedy |
//! | `salvage` | sets a damaged file aside, and takes what can be read of it |
//! | `payload` | payloads as they are stored: compressed, with a checksum |
//!
//! **Nothing waits, nothing is written.** The file is created with the first push, emptied when everything is
//! done, and open (and locked) only in between.
//!
//! **What survives.** A push returns when it is on the disk (one `fsync` a push), so it survives the end of
//! the agent at any moment, and a power cut. A removal may be forgotten by either: then a payload is sent
//! twice.
//!
//! **What goes first.** When the file is full, intermediate payloads go before last ones, and the oldest of a
//! class goes first. An agent that was killed could not say which of its payloads were the last. So the
//! newest push of a run that holds intermediate payloads counts as last for the next run; each push should
//! therefore hold all values that the server does not know.
//!
//! **Two agents on one file.** The first has it. The others keep what waits in memory, say so once, and
//! take the file as soon as it is free.
//!
//! **A file that is deleted or renamed** while it is used is still readable: what waits in it moves to
//! another file at the same path.
//!
//! **Clocks.** Within one boot of the machine, ages are differences of the monotonic clock. Only from one
//! boot to the next are they differences of the wall clock.

mod disk;
mod memory;
mod payload;
mod problem;
mod salvage;
mod spool;

use std::path::PathBuf;
use std::time::Duration;

pub use spool::Spool;
use wattrace_api::{Error, state_directory};

/// Reason of a loss: the limit on bytes.
pub const FULL: &str = "spool_full";
/// Reason of a loss: the limit on age.
pub const EXPIRED: &str = "spool_expired";
/// Reason of a loss: the file was damaged.
pub const CORRUPT: &str = "spool_corrupt";

/// Where a spool is, and its limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the user knows it by, for messages: the key of the configuration, as in `plugins.otlp.spool`.
    pub key: &'static str,
    /// The file. Its directory is created when it is needed.
    pub file: PathBuf,
    /// Most bytes of the file. The largest push, and a log of up to some 4 MiB, come in addition.
    pub max_size: u64,
    /// What is older is removed.
    pub max_age: Duration,
    /// Most bytes of payloads in memory while the disk does not work.
    pub max_memory: usize,
}

/// Most bytes that wait in memory while the disk does not work.
const MAX_MEMORY: usize = 16 * 1024 * 1024;

impl Settings {
    /// What is configured under `key` (as in `plugins.otlp.spool`) and the same with `_max_mib` and
    /// `_max_age`. An empty path stands for `spool/NAME.db` in the state directory. `None`: the path is
    /// `none`, or a user has no state directory.
    ///
    /// # Errors
    /// A limit is 0.
    pub fn resolve(
        key: &'static str,
        name: &str,
        path: PathBuf,
        max_mib: u32,
        max_age: Duration,
    ) -> Result<Option<Self>, Error> {
        let file = match path.to_str() {
            Some("none") => return Ok(None),
            Some("") => state_directory().map(|state| state.join("spool").join(format!("{name}.db"))),
            _ => Some(path),
        };
        if max_mib == 0 || max_age.is_zero() {
            let limit = if max_mib == 0 { "max_mib" } else { "max_age" };
            return Err(Error::fatal(format!(
                "{key}_{limit}: is 0, so that nothing could wait; without a spool: spool = \"none\""
            )));
        }
        let max_size = u64::from(max_mib) * 1024 * 1024;
        Ok(file.map(|file| Self { key, file, max_size, max_age, max_memory: MAX_MEMORY }))
    }
}

/// What becomes of a payload under pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Later payloads contain it, as the later values of a counter contain the earlier ones: it goes first.
    Intermediate,
    /// Nothing contains it: a value of a series that has ended, a span, a row.
    Last,
}

/// What is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What becomes of it under pressure.
    pub class: Class,
    /// How many points it holds, for the counts of losses.
    pub points: u64,
    /// The payload.
    pub payload: Vec<u8>,
}

/// What waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// By which [`Spool::done`] knows it.
    pub id: Id,
    /// It itself.
    pub entry: Entry,
}

/// The identity of a payload that waits. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(Place, i64);

/// Where a payload waits. What is in memory is newer than what is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// In the file of this number: another one begins when a file is set aside or was deleted.
    Disk(u32),
    Memory,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Payloads.
    pub payloads: u64,
    /// Points in them.
    pub points: u64,
}

impl Amount {
    fn add(&mut self, points: u64) {
        self.payloads += 1;
        self.points += points;
    }

    fn remove(&mut self, points: u64) {
        self.payloads = self.payloads.saturating_sub(1);
        self.points = self.points.saturating_sub(points);
    }
}
