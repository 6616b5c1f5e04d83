//! Files that cannot be used any more: a damaged one is set aside under another name, and one that was
//! deleted is still open. What can be read of them is passed on.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::Entry;
use crate::disk::class_of;
use crate::payload::unpack;

/// Renames the file, and its log, to a name with `.corrupt` at its end. An earlier one of that name is
/// replaced, so that there is at most one. Returns the new name.
///
/// # Errors
/// Those of renaming.
pub(crate) fn set_aside(file: &Path) -> io::Result<PathBuf> {
    let aside = with_suffix(file, ".corrupt");
    std::fs::rename(file, &aside)?;
    let (log, log_aside) = (with_suffix(file, "-wal"), with_suffix(&aside, "-wal"));
    match std::fs::rename(log, &log_aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => _ = std::fs::remove_file(log_aside),
        renamed => renamed?,
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// What can be read of such a file.
pub(crate) struct Remains(Connection);

impl Remains {
    /// Of an open file that its path does not name any more.
    pub(crate) fn of_left(connection: Connection) -> Self {
        // Otherwise it would delete the log of that name at its end, which is another file's by then. A
        // failure means that it has none.
        _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        Self(connection)
    }

    /// Opens a file that was set aside; `None`: nothing can be read of it.
    pub(crate) fn open(aside: &Path) -> Option<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(aside, flags).ok()?;
        // A file that is shorter than it says can be read with this.
        connection.pragma_update(None, "writable_schema", true).ok()?;
        connection.pragma_update_and_check(None, "locking_mode", "exclusive", |_| Ok(())).ok()?;
        Some(Self(connection))
    }

    /// How many points it held, if that can be read.
    pub(crate) fn points(&self) -> Option<u64> {
        let sql = "SELECT coalesce(sum(points), 0) FROM payloads";
        self.0.query_row(sql, [], |row| row.get::<_, i64>(0)).ok().and_then(|n| u64::try_from(n).ok())
    }

    /// Passes on what can be read: from the oldest up to the first damage, and from the newest down to it.
    pub(crate) fn each(&self, mut take: impl FnMut(Entry)) {
        let last =
            self.run("SELECT id, class, points, payload FROM payloads ORDER BY id", i64::MIN, &mut take);
        if let Some(last) = last.damaged_after {
            let down = "SELECT id, class, points, payload FROM payloads ORDER BY id DESC";
            self.run(down, last, &mut take);
        }
    }

    /// Passes on rows until one is damaged, or has an id of at most `until`.
    fn run(&self, sql: &str, until: i64, take: &mut impl FnMut(Entry)) -> Run {
        let mut last = i64::MIN;
        let mut go = || -> rusqlite::Result<()> {
            let mut select = self.0.prepare(sql)?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let (id, class, points): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                if id <= until {
                    break;
                }
                let payload = unpack(row.get_ref(3)?.as_blob().unwrap_or_default());
                last = id;
                if let (Ok(payload), Ok(points)) = (payload, u64::try_from(points)) {
                    take(Entry { class: class_of(class), points, payload });
                }
            }
            Ok(())
        };
        let ended = go();
        Run { damaged_after: ended.is_err().then_some(last) }
    }
}

/// How a run over the rows ended.
struct Run {
    /// The last row before the damage, if there is any.
    damaged_after: Option<i64>,
}
