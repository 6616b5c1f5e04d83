//! The spool's file: an SQLite database in WAL mode, locked for as long as it is open. Every call is one
//! transaction, so that what it does is on the disk as a whole or not at all.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use rustix::fs::{FileType, OFlags};
use wattrace_text_output::{FileIdentity, Place as FilePlace};

use crate::payload::{pack, unpack};
use crate::problem::Problem;
use crate::{Amount, Class, Entry};

/// "Watt", "Spool" in version 1.
const APPLICATION_ID: i64 = 0x5753_7001;
/// Bytes of a database's header.
const HEADER: u64 = 100;
/// How often pages of the log go to the file.
const CHECKPOINT_PAGES: i64 = 512;

/// The open file.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) connection: Connection,
    max_size: u64,
    /// The spool's time minus CLOCK_MONOTONIC, in nanoseconds.
    offset: i64,
    next_push: i64,
    pub(crate) amount: Amount,
    identity: Option<FileIdentity>,
}

/// The time of a moment, by the monotonic and by the wall clock, in nanoseconds, and the boot that the
/// monotonic one counts from.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) monotonic: u64,
    pub(crate) unix: u64,
    pub(crate) boot: String,
}

/// A payload to store, and when it was pushed, by the monotonic clock.
pub(crate) struct Pushed<'a> {
    pub(crate) at: u64,
    pub(crate) entry: &'a Entry,
}

/// The oldest payloads: those that can be read, and the points of those that are damaged, which are gone.
#[derive(Debug, Default)]
pub(crate) struct Oldest {
    pub(crate) waiting: Vec<(i64, Entry)>,
    pub(crate) damaged: u64,
}

impl Disk {
    /// Opens the file, or creates it; what an earlier run pushed last counts as last.
    pub(crate) fn open(file: &Path, max_size: u64, now: &Moment) -> Result<Self, Problem> {
        let found = find(file)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(&found, flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        // Before the first access, so that there is no memory shared with other processes, and no other
        // process.
        connection.pragma_update_and_check(None, "locking_mode", "exclusive", |_| Ok(()))?;
        let is_new = is_new(&connection)?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", 4 * 1024 * 1024)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if is_new {
            create(&transaction, now)?;
        }
        let (offset, next_push) = begin_run(&transaction, now)?;
        let amount = amount(&transaction)?;
        transaction.commit()?;
        Ok(Self { connection, max_size, offset, next_push, amount, identity: FileIdentity::at(&found)? })
    }

    /// Whether `file` still names it. If that cannot be known, it is still there to be used.
    pub(crate) fn is_at(&self, file: &Path) -> bool {
        FileIdentity::at(file).unwrap_or(self.identity) == self.identity
    }

    /// Stores what is pushed together. Returns how many points the limit on bytes has removed.
    pub(crate) fn push<'a>(&mut self, all: impl Iterator<Item = Pushed<'a>>) -> Result<u64, Problem> {
        let (max_size, offset, push) = (self.max_size, self.offset, self.next_push);
        let mut amount = self.amount;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let sql = "INSERT INTO payloads (push, class, points, time, payload) VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut insert = transaction.prepare_cached(sql)?;
            for Pushed { at, entry } in all {
                let (points, time) = (integer(entry.points), integer(at).saturating_add(offset));
                insert.execute(params![
                    push,
                    class_number(entry.class),
                    points,
                    time,
                    pack(&entry.payload)
                ])?;
                amount.add(entry.points);
            }
        }
        let removed = shrink(&transaction, max_size, &mut amount)?;
        transaction.commit()?;
        (self.amount, self.next_push) = (amount, push + 1);
        Ok(removed)
    }

    /// The oldest payloads after `after`: one, and as many more as `bytes` have room for, each of which is at
    /// least as long as it is stored.
    pub(crate) fn oldest(&mut self, after: i64, bytes: usize) -> Result<Oldest, Problem> {
        let (mut oldest, mut size, mut damaged) = (Oldest::default(), 0, Vec::new());
        {
            let sql = "SELECT id, class, points, payload FROM payloads WHERE id > ?1 ORDER BY id";
            let mut select = self.connection.prepare_cached(sql)?;
            let mut rows = select.query([after])?;
            while let Some(row) = rows.next()? {
                let (id, class, points): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let points = u64::try_from(points).unwrap_or(0);
                let Ok(payload) = unpack(row.get_ref(3)?.as_blob().unwrap_or_default()) else {
                    damaged.push(id);
                    oldest.damaged += points;
                    continue;
                };
                size += payload.len();
                if size > bytes && !oldest.waiting.is_empty() {
                    break;
                }
                let entry = Entry { class: class_of(class), points, payload };
                oldest.waiting.push((id, entry));
            }
        }
        if !damaged.is_empty() {
            self.remove(&damaged)?;
        }
        Ok(oldest)
    }

    /// Removes payloads, those that are still there.
    pub(crate) fn remove(&mut self, ids: &[i64]) -> Result<(), Problem> {
        let mut amount = self.amount;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let sql = "DELETE FROM payloads WHERE id = ?1 RETURNING points";
            let mut delete = transaction.prepare_cached(sql)?;
            for id in ids {
                if let Some(points) = delete.query_row([id], |row| row.get::<_, i64>(0)).optional()? {
                    amount.remove(u64::try_from(points).unwrap_or(0));
                }
            }
        }
        transaction.commit()?;
        self.amount = amount;
        Ok(())
    }

    /// Removes what was pushed before the moment `oldest` of the monotonic clock. Returns how many points
    /// that was.
    pub(crate) fn expire(&mut self, oldest: i64) -> Result<u64, Problem> {
        let oldest = oldest.saturating_add(self.offset);
        let any = "SELECT 1 FROM payloads WHERE time < ?1 LIMIT 1";
        if self.connection.query_row(any, [oldest], |_| Ok(())).optional()?.is_none() {
            return Ok(0);
        }
        let mut amount = self.amount;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut removed = 0;
        {
            let mut delete = transaction.prepare("DELETE FROM payloads WHERE time < ?1 RETURNING points")?;
            let mut rows = delete.query([oldest])?;
            while let Some(row) = rows.next()? {
                let points = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
                amount.remove(points);
                removed += points;
            }
        }
        transaction.commit()?;
        self.amount = amount;
        Ok(removed)
    }

    /// Gives the room of what was removed back to the file system, and closes the file.
    pub(crate) fn close_empty(self) -> Result<(), Problem> {
        self.connection.execute_batch("VACUUM")?;
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

/// The file's path without links; creates it if it is missing.
fn find(file: &Path) -> Result<PathBuf, Problem> {
    if let Some(directory) = file.parent().filter(|path| !path.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    }
    let place = FilePlace::find(file)?;
    match place.kind()? {
        // SQLite would take it for a new one.
        Some(FileType::RegularFile) if matches!(place.path().metadata()?.len(), 1..HEADER) => {
            return Err(Problem::Corrupt("it has no header".to_owned()));
        }
        Some(FileType::RegularFile) => {}
        Some(_) => return Err(Problem::Disk("it is no regular file; name another file".to_owned())),
        // SQLite would create it readable by everybody.
        None => drop(place.open(OFlags::CREATE | OFlags::EXCL | OFlags::RDWR)?),
    }
    Ok(place.path())
}

/// Whether the database is empty; an error if it holds something else.
fn is_new(connection: &Connection) -> Result<bool, Problem> {
    let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (id, objects) {
        (APPLICATION_ID, 1..) => Ok(false),
        (0 | APPLICATION_ID, 0) => Ok(true),
        _ => Err(Problem::Foreign),
    }
}

fn create(transaction: &Transaction<'_>, now: &Moment) -> rusqlite::Result<()> {
    transaction.execute_batch(include_str!("schema.sql"))?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.execute("INSERT INTO run VALUES (?1, ?2, 0)", params![now.boot, offset_by_wall(now)])?;
    Ok(())
}

fn offset_by_wall(now: &Moment) -> i64 {
    integer(now.unix).saturating_sub(integer(now.monotonic))
}

/// Makes the newest push of the run before count as last. Returns the spool's time minus CLOCK_MONOTONIC, and
/// the number of the next push.
fn begin_run(transaction: &Transaction<'_>, now: &Moment) -> rusqlite::Result<(i64, i64)> {
    let sql = "SELECT boot, offset, earlier_push FROM run";
    let (boot, offset, earlier): (String, i64, i64) =
        transaction.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let offset = if boot == now.boot { offset } else { offset_by_wall(now) };
    let newest = "SELECT max(push) FROM payloads";
    let newest: i64 = transaction.query_row(newest, [], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0);
    // What has no points is no value that could be the last.
    let promote = "UPDATE payloads SET class = 1 WHERE class = 0 AND push = \
                   (SELECT max(push) FROM payloads WHERE class = 0 AND points > 0 AND push > ?1)";
    transaction.execute(promote, [earlier])?;
    let newest = newest.max(earlier);
    let update = "UPDATE run SET boot = ?1, offset = ?2, earlier_push = ?3";
    transaction.execute(update, params![now.boot, offset, newest])?;
    Ok((offset, newest + 1))
}

fn amount(transaction: &Transaction<'_>) -> rusqlite::Result<Amount> {
    let sql = "SELECT count(*), coalesce(sum(points), 0) FROM payloads";
    let (payloads, points): (i64, i64) =
        transaction.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let whole = |n| u64::try_from(n).unwrap_or(0);
    Ok(Amount { payloads: whole(payloads), points: whole(points) })
}

/// Removes the oldest intermediate payloads, then the oldest last ones, until at most `max_size` bytes of
/// the file are used. Returns how many points that was.
fn shrink(transaction: &Transaction<'_>, max_size: u64, amount: &mut Amount) -> rusqlite::Result<u64> {
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let page_size = pragma("page_size")?;
    let used =
        || -> rusqlite::Result<i64> { Ok((pragma("page_count")? - pragma("freelist_count")?) * page_size) };
    let sql = "DELETE FROM payloads WHERE id = (SELECT id FROM payloads ORDER BY class, id LIMIT 1) \
               RETURNING points";
    let mut delete = transaction.prepare_cached(sql)?;
    let mut removed = 0;
    while used()? > integer(max_size) {
        let Some(points) = delete.query_row([], |row| row.get::<_, i64>(0)).optional()? else { break };
        let points = u64::try_from(points).unwrap_or(0);
        amount.remove(points);
        removed += points;
    }
    Ok(removed)
}

/// SQLite's integers end at 2⁶³.
fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn class_number(class: Class) -> i64 {
    match class {
        Class::Intermediate => 0,
        Class::Last => 1,
    }
}

/// The class that a number stands for.
pub(crate) fn class_of(number: i64) -> Class {
    if number == 0 { Class::Intermediate } else { Class::Last }
}
