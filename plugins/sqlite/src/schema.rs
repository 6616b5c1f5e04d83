//! Opens the database: checks that it is a Wattrace database of this version, creates the tables of
//! schema.sql in an empty one, and the views of views.sql where they are missing.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rustix::fs::{FileType, OFlags};
use wattrace_api::Error;
use wattrace_text_output::{FileIdentity, OutputPath, Place};

/// Goes up with every change of schema.sql.
const VERSION: i64 = 1;
/// "Watt", in the file's header, by which file(1) and [`open`] recognise the database.
const APPLICATION_ID: i64 = 0x5761_7474;
/// How long a call waits for another writer. Then the batch is tried again later.
const PATIENCE: Duration = Duration::from_millis(250);

/// An open database.
pub(crate) struct Database {
    pub(crate) connection: Connection,
    /// Which file it is.
    pub(crate) identity: Option<FileIdentity>,
}

/// Opens the database at `path`; a missing or empty one gets its tables.
///
/// # Errors
/// Fatal: it can't be opened, or is not a Wattrace database of this version. Retry: it is locked.
pub(crate) fn open(path: &OutputPath) -> Result<Database, Error> {
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
    let is_empty = check(path, &connection)?;
    prepare(&mut connection, is_empty).map_err(|e| explain(path, &e))?;
    Ok(Database { connection, identity: FileIdentity::at(&found).map_err(fail)? })
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

/// Whether the database is empty; an error if it holds something else. Changes nothing.
fn check(path: &Path, connection: &Connection) -> Result<bool, Error> {
    let look = || {
        connection.busy_timeout(PATIENCE)?;
        let header = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let count = "SELECT count(*) FROM sqlite_schema";
        let objects: i64 = connection.query_row(count, [], |row| row.get(0))?;
        rusqlite::Result::Ok((header("application_id")?, header("user_version")?, objects))
    };
    match look().map_err(|e| explain(path, &e))? {
        (APPLICATION_ID, VERSION, _) => Ok(false),
        (APPLICATION_ID, version, _) => Err(refuse(
            path,
            format_args!("has schema version {version}, and this Wattrace writes version {VERSION}"),
        )),
        (0, 0, 0) => Ok(true),
        _ => Err(refuse(path, format_args!("is a database of something else"))),
    }
}

fn prepare(connection: &mut Connection, is_empty: bool) -> rusqlite::Result<()> {
    // So readers and the writer don't wait for each other. Some network file systems don't support it and
    // keep their journal mode.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "normal")?;
    if is_empty {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another agent may have created them meanwhile.
        if transaction.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? == 0 {
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
    }
    connection.execute_batch(include_str!("views.sql"))?;
    Ok(())
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
