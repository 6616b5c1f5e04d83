//! Opens the database: checks that it is a Wattrace database, creates the tables of schema.sql in an empty
//! one, migrates one of an earlier version, and creates the views of views.sql.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rustix::fs::{FileType, OFlags};
use wattrace_api::{Clock, Error};
use wattrace_text_output::{FileIdentity, OutputPath, Place};

use crate::age::AgeClock;
use crate::rollup;

/// Goes up with every change of schema.sql.
pub(crate) const VERSION: i64 = 2;
/// "Watt", in the file's header, by which file(1) and [`open`] recognise the database.
pub(crate) const APPLICATION_ID: i64 = 0x5761_7474;
/// How long a call waits for another writer. Then the batch is tried again later.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

/// The write-ahead log is cut to so many bytes when it is empty.
const LOG_SIZE: i64 = 16 << 20;

/// An open database.
pub(crate) struct Database {
    pub(crate) connection: Connection,
    /// Its `data_version` at the last commit.
    pub(crate) seen: Option<i64>,
    /// Which file it is.
    pub(crate) identity: Option<FileIdentity>,
    /// By which its sums are too old.
    pub(crate) ages: AgeClock,
}

/// Opens the database at `path`; a missing or empty one gets its tables.
///
/// # Errors
/// Fatal: it can't be opened, or is not a Wattrace database of this version. Retry: it is locked.
pub(crate) fn open(path: &OutputPath, clock: &Clock) -> Result<Database, Error> {
    let fail = |e: io::Error| path.open_error(&e);
    let place = Place::find(&path.path).map_err(fail)?;
    match place.kind().map_err(fail)? {
        Some(FileType::RegularFile) => {}
        Some(FileType::Directory) => return Err(fail(io::ErrorKind::IsADirectory.into())),
        Some(_) => return Err(fail(io::Error::other("it is no regular file"))),
        // SQLite would create it readable by everybody.
        None => drop(place.open(OFlags::CREATE | OFlags::EXCL | OFlags::RDWR).map_err(fail)?),
    }
    let (found, path) = (place.path(), &path.path);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(&found, flags).map_err(|e| explain(path, &e))?;
    check(path, &connection)?;
    prepare(&mut connection).map_err(|e| explain(path, &e))?;
    let ages = AgeClock::start(&connection, clock).map_err(|e| explain(path, &e))?;
    Ok(Database { connection, seen: None, identity: FileIdentity::at(&found).map_err(fail)?, ages })
}

/// Closes a database whose file has been renamed or deleted, or emptied if `is_emptied`. What was committed
/// moves from its write-ahead log, which has kept its name, into the renamed file.
pub(crate) fn leave(connection: Connection, is_emptied: bool) {
    // There is nothing to do about a failure: the log stays beside the new database, which ignores it.
    let _ = if is_emptied {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
    } else {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    };
    let _ = connection.close();
}

/// What the file says of itself.
pub(crate) struct Header {
    pub(crate) application_id: i64,
    pub(crate) user_version: i64,
}

/// Reads the header.
///
/// # Errors
/// The database's: it may be none.
pub(crate) fn header(connection: &Connection) -> rusqlite::Result<Header> {
    let value = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok(Header { application_id: value("application_id")?, user_version: value("user_version")? })
}

/// An error if the database holds something else. Changes nothing.
fn check(path: &Path, connection: &Connection) -> Result<(), Error> {
    let look = || {
        connection.busy_timeout(PATIENCE)?;
        let count = "SELECT count(*) FROM sqlite_schema";
        let objects: i64 = connection.query_row(count, [], |row| row.get(0))?;
        let header = header(connection)?;
        rusqlite::Result::Ok((header.application_id, header.user_version, objects))
    };
    match look().map_err(|e| explain(path, &e))? {
        (APPLICATION_ID, 1..=VERSION, _) | (0, 0, 0) => Ok(()),
        (APPLICATION_ID, version, _) => Err(refuse(
            path,
            format_args!("has schema version {version}, and this Wattrace writes version {VERSION}"),
        )),
        _ => Err(refuse(path, format_args!("is a database of something else"))),
    }
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    // Only an empty database takes it; others reuse the pages that become free.
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    // So readers and the writer don't wait for each other. Some network file systems don't support it and
    // keep their journal mode.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "normal")?;
    // The log is cut to this after a reader held it for long.
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_SIZE, |_| Ok(()))?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // Who deletes a series would look for its points in all of them. Without both, `points` keeps referring
    // to `series` while that table is renamed.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "legacy_alter_table", true)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Within the transaction, since another agent may have been faster.
    let version = header(&transaction)?.user_version;
    if version < VERSION {
        if version == 1 {
            let rename = "DROP VIEW IF EXISTS measurements; DROP VIEW IF EXISTS energy; \
                          ALTER TABLE series RENAME TO series_1";
            transaction.execute_batch(rename)?;
        }
        transaction.execute_batch(include_str!("schema.sql"))?;
        if version == 1 {
            transaction.execute_batch(include_str!("migration_1.sql"))?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.execute_batch(include_str!("views.sql"))?;
    // Of runs that were killed: what has no points left. A series that still lives gets another row.
    let dead = "DELETE FROM series WHERE end_unix_nano IS NULL AND id NOT IN (SELECT series_id FROM points)";
    transaction.execute(dead, [])?;
    transaction.commit()?;
    connection.pragma_update(None, "legacy_alter_table", false)?;
    connection.execute_batch(rollup::TEMPORARY)
}

fn refuse(path: &Path, what: std::fmt::Arguments<'_>) -> Error {
    let path = path.display();
    Error::fatal(format!("plugins.sqlite.path: {path} {what}: choose another path, or move the file away"))
}

/// The error for the runner, with its remedy.
pub(crate) fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let say = |what: String| format!("plugins.sqlite.path: {}: {error}; {what}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::retry(say("another process is writing it; trying again".into()))
        }
        Some(ErrorCode::DiskFull) => Error::retry(say("free some space; points wait in memory".into())),
        Some(ErrorCode::SystemIoFailure) => Error::retry(say("check the disk; points wait in memory".into())),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
            Error::fatal(say("grant write access to it and its directory, or choose another path".into()))
        }
        _ => Error::fatal(say("choose another path, or move the file away".into())),
    }
}
