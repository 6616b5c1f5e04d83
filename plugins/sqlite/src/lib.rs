//! Writes every point into an SQLite database that other programs may read and write meanwhile.
//!
//! | file | holds |
//! | --- | --- |
//! | schema.sql, views.sql, schema.rs | the tables and views; whether the database is ours and of this version |
//! | staged.rs | what was taken and not committed yet |
//! | store.rs | one transaction that writes all of it |
//!
//! A batch is taken as a whole or not at all: while what is staged can't be committed, the next batch is
//! refused ([`wattrace_api::ErrorKind::Retry`]), so that nothing is written twice. The database is locked
//! only while a commit runs.

mod schema;
mod staged;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;
use wattrace_api::{Batch, Clock, Error, ErrorKind, Output, Plugin, Setup};
use wattrace_text_output::{FileIdentity, IntervalTimer, OutputPath};

use schema::Database;
use staged::Staged;

/// The plugin.
pub struct Sqlite;

/// `[plugins.sqlite]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqliteConfig {
    /// The database file. An existing one is added to.
    pub path: PathBuf,
    /// How long points may wait in memory, to be committed together. With "0s" every batch is committed at
    /// once.
    #[serde(with = "humantime_serde")]
    pub commit_interval: Duration,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self { path: "wattrace.db".into(), commit_interval: Duration::from_secs(1) }
    }
}

impl Plugin for Sqlite {
    const NAME: &'static str = "sqlite";
    const DESCRIPTION: &'static str = "Writes every point into an SQLite database";
    type Config = SqliteConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: SqliteConfig, setup: &mut Setup) -> Result<(), Error> {
        if config.path.as_os_str().is_empty() {
            return Err(Error::fatal("plugins.sqlite.path: is empty: name a database file"));
        }
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.output(Self::NAME, move || {
            let staged = Staged::new(registry.clone(), clock.clone());
            SqliteOutput::open(&config.path, staged, clock.clone(), config.commit_interval)
        });
        Ok(())
    }
}

/// Points that are committed without waiting for more.
const ENOUGH: usize = 50_000;

struct SqliteOutput {
    path: OutputPath,
    /// `None` between a database that was left and the next.
    database: Option<Database>,
    staged: Staged,
    clock: Clock,
    commit_timer: IntervalTimer,
    /// Why the last commit failed.
    trouble: Option<String>,
    lost: u64,
}

impl SqliteOutput {
    fn open(path: &Path, staged: Staged, clock: Clock, interval: Duration) -> Result<Self, Error> {
        let path = OutputPath { plugin: Sqlite::NAME, path: path.into() };
        let database = Some(schema::open(&path)?);
        let commit_timer = IntervalTimer::new(interval, clock.now());
        Ok(Self { path, database, staged, commit_timer, clock, trouble: None, lost: 0 })
    }

    /// Commits what is staged. What was not committed stays.
    fn commit(&mut self) -> Result<(), Error> {
        let result = self.try_commit();
        self.trouble = result.as_ref().err().map(ToString::to_string);
        result
    }

    fn try_commit(&mut self) -> Result<(), Error> {
        self.follow_path()?;
        let Some(database) = self.database.as_mut().filter(|_| !self.staged.is_empty()) else {
            return Ok(());
        };
        store::commit(&mut database.connection, &mut self.staged)
            .map_err(|e| schema::explain(&self.path.path, &e))
    }

    /// Commits what is staged. It is lost with a database that is broken.
    fn commit_or_lose(&mut self) -> Result<(), Error> {
        let result = self.commit();
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fatal) {
            self.lost += self.staged.points.len() as u64;
            self.staged.points.clear();
        }
        result
    }

    /// Leaves a database that the path no longer names, and opens the one that it names now.
    fn follow_path(&mut self) -> Result<(), Error> {
        if let Some(database) = &self.database {
            // If the path cannot be looked at, the database is still there to be written.
            let here = FileIdentity::at(&self.path.path).unwrap_or(database.identity);
            let is_here = here == database.identity;
            let is_emptied = is_here && self.path.path.metadata().is_ok_and(|file| file.len() == 0);
            if is_here && !is_emptied {
                return Ok(());
            }
            let what = if is_emptied { "emptied" } else { "renamed or deleted" };
            warn!("{}", self.path.message(format_args!("the database was {what}; going on in another one")));
            self.database.take().into_iter().for_each(|old| schema::leave(old.connection, is_emptied));
            self.staged.begin_again();
        }
        // The points wait until it can be opened.
        self.database = Some(schema::open(&self.path).map_err(|e| Error::retry(e.to_string()))?);
        Ok(())
    }
}

impl Output for SqliteOutput {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.trouble.is_some() {
            self.commit_or_lose()?;
        }
        self.staged.take(batch);
        if self.commit_timer.is_due(self.clock.now()) || self.staged.points.len() >= ENOUGH {
            // The batch is taken, so it does not fail: the next one gets the error.
            let _: Result<(), Error> = self.commit();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.commit_or_lose()
    }

    fn undelivered(&self) -> u64 {
        self.staged.points.len() as u64
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let losses = [
            ("their series was unknown", self.staged.take_unknown()),
            ("the database failed", std::mem::take(&mut self.lost)),
        ];
        losses.into_iter().filter(|(_, n)| *n > 0).collect()
    }
}

impl Drop for SqliteOutput {
    fn drop(&mut self) {
        // There is nobody left to report an error to.
        let _: Result<(), Error> = self.commit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use wattrace_api::testing::Rig;
    use wattrace_api::{Resource, Timestamp, Window, metric};

    /// An output that commits every batch, and batches of `n` points.
    fn fixture(dir: &Path, n: u32) -> (SqliteOutput, impl Fn(u64) -> Batch) {
        let mut rig = Rig::new();
        let points: Vec<_> =
            (0..n).map(|_| (rig.series(&metric::HW_ENERGY, Resource::package(0)), 1)).collect();
        let staged = Staged::new(rig.registry.clone(), rig.clock.clone());
        let output =
            SqliteOutput::open(&dir.join("w.db"), staged, rig.clock.clone(), Duration::ZERO).unwrap();
        (output, move |time| rig.batch(Window::new(Timestamp(time), Timestamp(time + 1)), &points))
    }

    fn connection(output: &SqliteOutput) -> &Connection {
        &output.database.as_ref().unwrap().connection
    }

    /// Rows of both tables, as another connection sees them.
    fn rows(dir: &Path) -> (i64, i64) {
        let reader = Connection::open(dir.join("w.db")).unwrap();
        let sql = "SELECT (SELECT count(*) FROM series), (SELECT count(*) FROM points)";
        reader.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }

    #[test]
    fn points_refused_by_a_full_disk_are_written_once_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let (mut output, batch) = fixture(dir.path(), 1000);
        connection(&output).pragma_update_and_check(None, "max_page_count", 20, |_| Ok(())).unwrap();
        output.write(&batch(0)).unwrap();
        for _ in 0..2 {
            let error = output.write(&batch(1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Retry);
            assert!(error.to_string().contains("free some space"), "{error}");
            assert_eq!((output.trouble(), output.undelivered()), (Some(&*error.to_string()), 1000));
        }
        assert_eq!(rows(dir.path()), (0, 0));
        connection(&output).pragma_update_and_check(None, "max_page_count", 1 << 20, |_| Ok(())).unwrap();
        output.write(&batch(1)).unwrap();
        assert_eq!(rows(dir.path()), (1000, 2000));
    }

    /// Without a write-ahead log, as on some file systems, a reader makes the commit fail.
    #[test]
    fn points_whose_commit_failed_are_written_once_later() {
        let dir = tempfile::tempdir().unwrap();
        let (mut output, batch) = fixture(dir.path(), 2);
        connection(&output).pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())).unwrap();
        let reader = Connection::open(dir.path().join("w.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM series").unwrap();
        output.write(&batch(0)).unwrap();
        assert_eq!(output.write(&batch(1)).unwrap_err().kind(), ErrorKind::Retry);
        reader.execute_batch("COMMIT").unwrap();
        output.write(&batch(1)).unwrap();
        assert_eq!(rows(dir.path()), (2, 4));
    }

    #[test]
    fn points_lost_in_a_broken_database_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (mut output, batch) = fixture(dir.path(), 3);
        connection(&output).execute_batch("DROP VIEW measurements; DROP TABLE points").unwrap();
        output.write(&batch(0)).unwrap();
        assert_eq!(output.write(&batch(1)).unwrap_err().kind(), ErrorKind::Fatal);
        assert_eq!(output.take_losses(), [("the database failed", 3)]);
    }
}
