//! Reads the joules of a span back out of a database, for `wattrace query` and `wattrace view`.
//!
//! | module | holds |
//! | --- | --- |
//! | `portions` | what each series counted within a span |
//! | `recorded` | points as they were recorded, for `wattrace top --replay` |
//! | `report` | their sums by process, program, unit, …, beside idle and unattributed energy |
//! | `increments` | every single increment of energy |
//!
//! An increment of a counter belongs to the moment at which its window ends, so a span holds whole windows:
//! those that end after its beginning, up to its end. The books of each window are closed, and so are those
//! of any span.

mod increments;
mod portions;
mod recorded;
mod report;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::schema::{self, APPLICATION_ID, Header, PATIENCE, VERSION};
pub use increments::{EnergySeries, EnergySink, EnergyUser};
pub use recorded::{RecordedPoint, RecordedSeries};
pub use report::{Domain, EnergyReport, Row};

/// After `from`, up to `to`; in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Windows that end then or before are not in it.
    pub from: u64,
    /// The last end of a window.
    pub to: u64,
}

/// Whose joules a report shows in its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Each process.
    Process,
    /// All processes of an executable.
    Program,
    /// Consumers of the plugin `groups`, by their type: `unit`, `container`, `pod`, `job`, `user`, …
    Group(&'static str),
}

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no file.
    #[error("{0}: no such file")]
    Missing(PathBuf),
    /// It is something else.
    #[error("{0}: is no database of Wattrace")]
    Foreign(PathBuf),
    /// A later release wrote it.
    #[error("{0}: has schema version {1}, and this Wattrace reads up to {VERSION}: use a newer one")]
    Newer(PathBuf, i64),
    /// SQLite fails.
    #[error("{0}: {1}")]
    Failed(PathBuf, rusqlite::Error),
}

/// A database that is read. It sees the state of the moment at which it was opened, whatever is written
/// meanwhile.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
    version: i64,
}

/// The write-ahead log of a database.
fn log(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Opens a database for reading, as it is now. `is_immutable`: nobody writes it.
fn begin(path: &Path, is_immutable: bool) -> rusqlite::Result<(Connection, Header)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match is_immutable {
        true => Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI),
        false => Connection::open_with_flags(path, flags),
    }?;
    connection.busy_timeout(PATIENCE)?;
    connection.execute_batch("BEGIN")?;
    let header = schema::header(&connection)?;
    Ok((connection, header))
}

/// The URI of a database that nobody writes.
fn immutable(path: &Path) -> OsString {
    let special = [b'%', b'?', b'#'];
    let escape = |&byte: &u8| match special.contains(&byte) {
        true => format!("%{byte:02x}").into_bytes(),
        false => vec![byte],
    };
    let path: Vec<u8> = path.as_os_str().as_bytes().iter().flat_map(escape).collect();
    OsString::from_vec([b"file:", &*path, b"?immutable=1"].concat())
}

impl Reader {
    /// Opens the database at `path`, and changes nothing in it.
    ///
    /// # Errors
    /// There is none, or it was written by something else or by a later release.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let failed = |e| match e {
            rusqlite::Error::SqliteFailure(e, _) if e.code == ErrorCode::NotADatabase => {
                ReadError::Foreign(path.into())
            }
            e => ReadError::Failed(path.into(), e),
        };
        if std::fs::metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            return Err(ReadError::Missing(path.into()));
        }
        let (connection, header) = match begin(path, false) {
            // Who may not write in its directory cannot create the log that a stopped agent has removed.
            Err(e)
                if matches!(e.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
                    && !log(path).exists() =>
            {
                begin(path, true)
            }
            result => result,
        }
        .map_err(failed)?;
        match (header.application_id, header.user_version) {
            (APPLICATION_ID, version @ 1..=VERSION) => Ok(Self { path: path.into(), connection, version }),
            (APPLICATION_ID, version) => Err(ReadError::Newer(path.into(), version)),
            _ => Err(ReadError::Foreign(path.into())),
        }
    }

    /// What the database has points of; `None` if it has none.
    ///
    /// # Errors
    /// SQLite's.
    pub fn extent(&self) -> Result<Option<Span>, ReadError> {
        portions::extent(&self.connection, self.has_sums()).map_err(|e| self.failed(e))
    }

    /// The joules of `span`, whose borders are moved back to the begin of the minute or hour where only sums
    /// are left of it. `domain` selects a domain; otherwise the report is about all that a total counts: not
    /// those within another domain, and not a meter of the whole machine.
    ///
    /// # Errors
    /// SQLite's.
    pub fn energy(&self, span: Span, by: By, domain: Option<&str>) -> Result<EnergyReport, ReadError> {
        let read = || {
            let span = match self.has_sums() {
                true => portions::aligned(&self.connection, span)?,
                false => span,
            };
            Ok((span, portions::read(&self.connection, self.has_sums(), span, by)?))
        };
        let (span, portions) = read().map_err(|e| self.failed(e))?;
        Ok(report::build(span, portions, by, domain))
    }

    /// Gives `sink` every increment of energy in `span`, whose borders are moved back as those of
    /// [`Self::energy`]. Returns the span with them.
    ///
    /// # Errors
    /// SQLite's.
    pub fn energy_increments(&self, span: Span, sink: &mut dyn EnergySink) -> Result<Span, ReadError> {
        let mut read = || {
            let span = increments::aligned(&self.connection, self.has_sums(), span)?;
            increments::read(&self.connection, self.has_sums(), span, sink)?;
            Ok(span)
        };
        read().map_err(|e| self.failed(e))
    }

    /// The first and the last moment of which there are points; `None` if there are none.
    ///
    /// # Errors
    /// SQLite's.
    pub fn points_extent(&self) -> Result<Option<Span>, ReadError> {
        recorded::extent(&self.connection).map_err(|e| self.failed(e))
    }

    /// Gives `each` the points of `span` as they were recorded, in the order of time.
    ///
    /// # Errors
    /// SQLite's.
    pub fn points(&self, span: Span, each: impl FnMut(RecordedPoint)) -> Result<(), ReadError> {
        recorded::points(&self.connection, span, each).map_err(|e| self.failed(e))
    }

    /// The series of points with this id.
    ///
    /// # Errors
    /// SQLite's.
    pub fn recorded_series(&self, id: i64) -> Result<Option<RecordedSeries>, ReadError> {
        recorded::series(&self.connection, self.has_sums(), id).map_err(|e| self.failed(e))
    }

    /// Whether totals over all domains count `domain`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn is_in_totals(&self, domain: &str) -> Result<bool, ReadError> {
        recorded::is_in_totals(&self.connection, domain).map_err(|e| self.failed(e))
    }

    /// Version 1 had only points.
    fn has_sums(&self) -> bool {
        self.version > 1
    }

    fn failed(&self, error: rusqlite::Error) -> ReadError {
        ReadError::Failed(self.path.clone(), error)
    }
}
