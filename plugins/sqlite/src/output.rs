//! The output: stages batches, commits what is staged, and follows the database's path. `store` commits,
//! `schema` opens, `rollup` sums up what is old after each commit.

use tracing::warn;
use wattrace_api::{Batch, Clock, Error, ErrorKind, Output, Plugin as _};
use wattrace_text_output::{FileIdentity, IntervalTimer, OutputPath};

use crate::age::wall_second;
use crate::rollup::{Now, Retention};
use crate::schema::Database;
use crate::staged::Staged;
use crate::{Sqlite, SqliteConfig, rollup, schema, store};

/// Points that are committed without waiting for more.
const ENOUGH: usize = 50_000;
/// Old points that are summed up after a commit, unless it wrote many.
const STEP: usize = 20_000;

pub(crate) struct SqliteOutput {
    path: OutputPath,
    /// `None` between a database that was left and the next.
    database: Option<Database>,
    staged: Staged,
    clock: Clock,
    commit_timer: IntervalTimer,
    retention: Retention,
    /// Why the last commit failed.
    trouble: Option<String>,
    /// Why old points could not be summed up.
    rollup_trouble: Option<String>,
    lost: u64,
}

impl SqliteOutput {
    pub(crate) fn open(config: &SqliteConfig, staged: Staged, clock: Clock) -> Result<Self, Error> {
        let path = OutputPath { plugin: Sqlite::NAME, path: config.path.clone() };
        let database = Some(schema::open(&path, &clock)?);
        let commit_timer = IntervalTimer::new(config.commit_interval, clock.now());
        let retention = Retention {
            points: config.keep_points,
            minutes: config.keep_minutes,
            max_age: config.max_age,
            max_size: config.max_size.0,
        };
        let (trouble, rollup_trouble) = (None, None);
        Ok(Self { path, database, staged, commit_timer, clock, retention, trouble, rollup_trouble, lost: 0 })
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
        let explain = |e| schema::explain(&self.path.path, &e);
        let written = self.staged.points.len();
        store::commit(&mut database.connection, &mut self.staged, &mut database.seen).map_err(explain)?;
        // Twice what was written, so that a backlog shrinks.
        let size = STEP.max(2 * written);
        let now = Now { second: wall_second(&self.clock), of_ages: database.ages.second(&self.clock) };
        let step = rollup::step(&mut database.connection, &self.retention, now, size).map_err(explain);
        self.rollup_trouble = step.err().map(|e| format!("old points cannot be summed up: {e}"));
        Ok(())
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
        self.database = Some(schema::open(&self.path, &self.clock).map_err(|e| Error::retry(e.to_string()))?);
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
        self.trouble.as_deref().or(self.rollup_trouble.as_deref())
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
    use std::path::Path;
    use std::time::Duration;

    use rusqlite::Connection;
    use wattrace_api::testing::Rig;
    use wattrace_api::{Resource, Timestamp, Window, metric};

    /// An output that commits every batch, and batches of `n` points.
    fn fixture(dir: &Path, n: u32) -> (SqliteOutput, impl Fn(u64) -> Batch) {
        let mut rig = Rig::new();
        let points: Vec<_> =
            (0..n).map(|_| (rig.series(&metric::HW_ENERGY, Resource::package(0)), 1)).collect();
        let staged = Staged::new(rig.registry.clone(), rig.clock.clone());
        let config = SqliteConfig {
            path: dir.join("w.db"),
            commit_interval: Duration::ZERO,
            ..SqliteConfig::default()
        };
        let output = SqliteOutput::open(&config, staged, rig.clock.clone()).unwrap();
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

    /// A limit of half a megabyte, and points that fill it in half an hour.
    #[test]
    fn a_full_database_sums_up_early_and_loses_no_joule() {
        const SECOND: u64 = 1_000_000_000;
        let (dir, mut rig) = (tempfile::tempdir().unwrap(), Rig::new());
        let begin = 1_800_000_000;
        rig.clock.set(Timestamp(begin * SECOND));
        let config = SqliteConfig {
            path: dir.path().join("w.db"),
            commit_interval: Duration::ZERO,
            max_size: wattrace_text_output::Size(512 << 10),
            ..SqliteConfig::default()
        };
        let staged = Staged::new(rig.registry.clone(), rig.clock.clone());
        let mut output = SqliteOutput::open(&config, staged, rig.clock.clone()).unwrap();
        let series: Vec<_> = (0..20).map(|n| rig.series(&metric::HW_ENERGY, Resource::package(n))).collect();
        let mut largest = 0;
        for second in (1..6 * 3600).step_by(2) {
            let end = begin + second;
            rig.clock.set(Timestamp(end * SECOND));
            let points: Vec<_> = series.iter().map(|&id| (id, second)).collect();
            let window = Window::new(Timestamp((end - 2) * SECOND), Timestamp(end * SECOND));
            output.write(&rig.batch(window, &points)).unwrap();
            largest = largest.max(rollup::used_bytes(connection(&output)).unwrap());
        }
        assert!(largest <= 600 << 10, "{largest} B in use");
        let size = std::fs::metadata(dir.path().join("w.db")).unwrap().len();
        assert!(size <= 1 << 20, "the file has {size} B");
        let one = |sql: &str| connection(&output).query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let now = i64::try_from(begin + 6 * 3600).unwrap();
        let oldest_point = now - one("SELECT min(time_unix_nano) / 1000000000 FROM points");
        assert!((120..3600).contains(&oldest_point), "summed up before their hour: {oldest_point} s");
        let total = one("SELECT (SELECT sum(steps) FROM sums) + (SELECT sum(last - base_steps) FROM series \
                         JOIN (SELECT series_id, max(steps) AS last FROM points GROUP BY series_id) \
                         ON series_id = id)");
        assert_eq!(total, 20 * (6 * 3600 - 1));
    }

    #[test]
    fn a_wall_clock_that_jumps_ahead_deletes_nothing() {
        const SECOND: u64 = 1_000_000_000;
        let (dir, mut rig) = (tempfile::tempdir().unwrap(), Rig::new());
        let (begin, clock) = (1_800_000_000, rig.clock.clone());
        clock.set(Timestamp(begin * SECOND));
        let config = SqliteConfig {
            path: dir.path().join("w.db"),
            commit_interval: Duration::ZERO,
            keep_points: Duration::from_secs(600),
            keep_minutes: Duration::from_secs(3600),
            max_age: Duration::from_secs(86_400),
            ..SqliteConfig::default()
        };
        let staged = Staged::new(rig.registry.clone(), clock.clone());
        let mut output = SqliteOutput::open(&config, staged, clock.clone()).unwrap();
        let id = rig.series(&metric::HW_ENERGY, Resource::package(0));
        let pass = |output: &mut SqliteOutput, n: u64| {
            let end = Timestamp((begin + n * 30) * SECOND);
            clock.set(end);
            output.write(&rig.batch(Window::new(Timestamp(end.0 - 30 * SECOND), end), &[(id, n)])).unwrap();
        };
        (1..=720).for_each(|n| pass(&mut output, n));
        let one = |output: &SqliteOutput, sql: &str| {
            connection(output).query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let oldest = "SELECT min(end_unix_s) FROM sums WHERE seconds = 3600";
        let before = one(&output, oldest);
        clock.step_wall_clock(73 * 365 * 86_400 * 1_000_000_000);
        clock.follow_wall_clock();
        (721..=900).for_each(|n| pass(&mut output, n));
        assert_eq!(one(&output, oldest), before);
        let total = "SELECT (SELECT sum(steps) FROM sums) + (SELECT sum(last - base_steps) FROM series \
                     JOIN (SELECT series_id, max(steps) AS last FROM points GROUP BY series_id) \
                     ON series_id = id)";
        assert_eq!(one(&output, total), 900);
    }
}
