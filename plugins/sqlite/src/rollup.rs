//! Sums up what is old, so that a database stays small however long the agent runs: points per minute, and
//! these sums per hour. Deletes what is too old. What is summed up is deleted in the same transaction, so
//! each increment of a counter stands in one place, and the sum over any span of whole minutes or hours stays
//! the same.
//!
//! Processes are summed up by program: a machine starts thousands of them in an hour. Threads and process
//! trees, which count once more what processes count, end with their points, and so do gauges of consumers.
//!
//! A step handles the oldest minute or hour, or a part of it: it locks the database for some milliseconds.
//! `output` decides how many steps follow a commit.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, named_params, params};
use tracing::info;

/// How long what is kept.
#[derive(Clone, Debug)]
pub(crate) struct Retention {
    /// Points as they were written.
    pub(crate) points: Duration,
    /// Sums per minute.
    pub(crate) minutes: Duration,
    /// Anything.
    pub(crate) max_age: Duration,
    /// Bytes in use in the database file. Above it, the oldest points and sums are handled as if they were
    /// older.
    pub(crate) max_size: u64,
}

/// Younger points are never summed up: meters may be late.
const MIN_POINTS: Duration = Duration::from_secs(120);
/// Younger sums per minute are never summed up.
const MIN_MINUTES: Duration = Duration::from_secs(2 * HOUR);
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const SECOND: u64 = 1_000_000_000;

/// The time, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// By the wall clock, which decides what is summed up.
    pub(crate) second: u64,
    /// By `age`, which decides what is deleted.
    pub(crate) of_ages: u64,
}

/// Up to when something is old enough, in seconds since the Unix epoch.
struct Horizons {
    points: u64,
    minutes: u64,
    age: u64,
    is_full: bool,
}

impl Retention {
    fn horizons(&self, now: Now, is_full: bool) -> Horizons {
        let before = |age: Duration| now.second.saturating_sub(age.as_secs());
        let age = now.of_ages.saturating_sub(self.max_age.as_secs());
        let (points, minutes) = match is_full {
            true => (self.points.min(MIN_POINTS), self.minutes.min(MIN_MINUTES)),
            false => (self.points, self.minutes),
        };
        // What is too old is summed up, so that the next point of its series counts from there, and deleted.
        let (points, minutes) = (points.min(self.max_age), minutes.min(self.max_age));
        Horizons { points: before(points), minutes: before(minutes), age, is_full }
    }
}

/// A table for the series of a step. It holds the columns of a subject, what they add to its sum, and what
/// to write into `series`.
pub(crate) const TEMPORARY: &str = "CREATE TEMP TABLE IF NOT EXISTS slice (
    series_id INTEGER PRIMARY KEY, last_steps INTEGER, last_unix_nano INTEGER,
    metric, unit, kind, step, resource_type, resource_id, domain, origin, consumer_type, consumer_id,
    attributes, steps INTEGER, value REAL, points INTEGER, begun INTEGER, others INTEGER)";

const FILL_SLICE: &str = "INSERT INTO temp.slice
    SELECT series_id, last_steps, last_unix_nano,
        metric, unit, kind, step, resource_type, resource_id, ifnull(domain, ''), ifnull(origin, ''),
        CASE consumer_type WHEN 'process' THEN 'program' ELSE ifnull(consumer_type, '') END,
        CASE consumer_type
            WHEN 'process' THEN ifnull(attributes ->> '$.\"process.executable.name\"', '')
            ELSE ifnull(consumer_id, '')
        END,
        CASE consumer_type WHEN 'process' THEN own_attributes ELSE attributes END,
        max(last_steps - base_steps, 0), value, points,
        consumer_type IS 'process' AND summed_unix_nano IS NULL,
        consumer_type IS 'process' AND ifnull(summed_unix_nano <= :begin_nano, 0)
    FROM (
        SELECT series_id, max(steps) AS last_steps, max(time_unix_nano) AS last_unix_nano,
            sum(value) AS value, count(value) AS points
        FROM points WHERE time_unix_nano <= :until_nano GROUP BY series_id
    ) JOIN series ON series.id = series_id";

/// What of a slice is kept.
const KEPT: &str =
    "consumer_type NOT IN ('thread', 'tree') AND (steps > 0 OR points > 0 AND consumer_type = '')";

const KEY: &str =
    "metric, resource_type, resource_id, domain, origin, consumer_type, consumer_id, attributes";

const UPDATE_SERIES: &str = "UPDATE series
    SET base_steps = max(base_steps, ifnull(last_steps, 0)), summed_unix_nano = last_unix_nano
    FROM temp.slice WHERE series.id = series_id";

const SUM_MINUTES: &str = "INSERT INTO sums
    SELECT 3600, :end, subject_id, sum(steps), sum(value), sum(points), sum(begun), max(first_others)
    FROM (
        SELECT *, first_value(others) OVER (PARTITION BY subject_id ORDER BY end_unix_s) AS first_others
        FROM sums WHERE seconds = 60 AND end_unix_s <= :until
    )
    GROUP BY subject_id
    ON CONFLICT DO UPDATE SET steps = steps + excluded.steps, value = value + excluded.value,
        points = points + excluded.points, begun = begun + excluded.begun";

/// Does one step, of about `size` rows; false if there is nothing to do.
///
/// # Errors
/// The database's. Then nothing has changed.
pub(crate) fn step(
    connection: &mut Connection,
    retention: &Retention,
    now: Now,
    size: usize,
) -> rusqlite::Result<bool> {
    let is_full = used_bytes(connection)? > retention.max_size;
    let horizons = retention.horizons(now, is_full);
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let is_done = sum_points(&transaction, horizons.points, size)?
        || sum_minutes(&transaction, horizons.minutes, size)?
        || delete_oldest(&transaction, &horizons)?;
    transaction.commit()?;
    shrink(connection)?;
    Ok(is_done)
}

/// Gives a few of the free pages back to the file system, if there are many.
fn shrink(connection: &Connection) -> rusqlite::Result<()> {
    let value = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if value("freelist_count")? <= value("page_count")? / 4 {
        return Ok(());
    }
    let mut vacuum = connection.prepare_cached("PRAGMA incremental_vacuum(256)")?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Bytes of pages that hold something.
pub(crate) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let value = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = value("page_count")?.saturating_sub(value("freelist_count")?);
    Ok(unsigned(pages.saturating_mul(value("page_size")?)))
}

/// Sums up points of the oldest minute, if all of it is over at `horizon`.
fn sum_points(transaction: &Transaction<'_>, horizon: u64, size: i64) -> rusqlite::Result<bool> {
    let oldest = "SELECT min(time_unix_nano) FROM points";
    let Some(oldest) = transaction.query_row(oldest, [], |row| row.get::<_, Option<i64>>(0))? else {
        return Ok(false);
    };
    let end = unsigned(oldest).div_ceil(MINUTE * SECOND) * MINUTE;
    if end > horizon {
        return Ok(false);
    }
    let end_nano = signed(end.saturating_mul(SECOND));
    // All points of one time stay together.
    let nth = "SELECT time_unix_nano FROM points WHERE time_unix_nano <= ?1 \
               ORDER BY time_unix_nano LIMIT 1 OFFSET ?2";
    let until_nano = cut(transaction, nth, end_nano, size)?;
    let begin_nano = end_nano - signed(MINUTE * SECOND);
    transaction.execute("DELETE FROM temp.slice", [])?;
    let borders = named_params! { ":begin_nano": begin_nano, ":until_nano": until_nano };
    transaction.prepare_cached(FILL_SLICE)?.execute(borders)?;
    let subjects = format!(
        "INSERT INTO subjects (unit, kind, step, {KEY}, last_unix_s) \
         SELECT DISTINCT unit, kind, step, {KEY}, ?1 FROM temp.slice WHERE {KEPT} \
         ON CONFLICT DO UPDATE SET last_unix_s = max(last_unix_s, excluded.last_unix_s)"
    );
    transaction.prepare_cached(&subjects)?.execute(params![signed(end)])?;
    let sums = format!(
        "INSERT INTO sums \
         SELECT 60, ?1, subjects.id, sum(steps), sum(value), sum(points), sum(begun), sum(others) \
         FROM temp.slice JOIN subjects USING ({KEY}) WHERE {KEPT} GROUP BY subjects.id \
         ON CONFLICT DO UPDATE SET steps = steps + excluded.steps, value = value + excluded.value, \
         points = points + excluded.points, begun = begun + excluded.begun, others = others + excluded.others"
    );
    transaction.prepare_cached(&sums)?.execute(params![signed(end)])?;
    transaction.prepare_cached(UPDATE_SERIES)?.execute([])?;
    transaction.execute("DELETE FROM points WHERE time_unix_nano <= ?1", params![until_nano])?;
    transaction.execute("DELETE FROM series WHERE end_unix_nano <= ?1", params![until_nano])?;
    Ok(true)
}

/// Sums up sums per minute of the oldest hour, if all of it is over at `horizon`.
fn sum_minutes(transaction: &Transaction<'_>, horizon: u64, size: i64) -> rusqlite::Result<bool> {
    let Some(oldest) = oldest(transaction, MINUTE)? else { return Ok(false) };
    let end = oldest.div_ceil(HOUR) * HOUR;
    if end > horizon {
        return Ok(false);
    }
    let nth = "SELECT end_unix_s FROM sums WHERE seconds = 60 AND end_unix_s <= ?1 \
               ORDER BY end_unix_s LIMIT 1 OFFSET ?2";
    let until = cut(transaction, nth, signed(end), size)?;
    let borders = named_params! { ":end": signed(end), ":until": until };
    transaction.prepare_cached(SUM_MINUTES)?.execute(borders)?;
    transaction.execute("DELETE FROM sums WHERE seconds = 60 AND end_unix_s <= ?1", params![until])?;
    Ok(true)
}

/// Deletes the oldest sums that are too old, or that the database has no room for.
fn delete_oldest(transaction: &Transaction<'_>, horizons: &Horizons) -> rusqlite::Result<bool> {
    for seconds in [HOUR, MINUTE] {
        let Some(end) = oldest(transaction, seconds)? else { continue };
        if end > horizons.age && !horizons.is_full {
            continue;
        }
        if end > horizons.age {
            info!("plugins.sqlite.max_size is reached: deleting the oldest sums, up to Unix time {end}");
        }
        let sums = "DELETE FROM sums WHERE seconds = ?1 AND end_unix_s = ?2";
        transaction.execute(sums, params![signed(seconds), signed(end)])?;
        // A sum ends at most an hour after the last minute in it.
        let subjects = "DELETE FROM subjects WHERE last_unix_s <= ?1";
        transaction.execute(subjects, params![signed(end.saturating_sub(HOUR))])?;
        return Ok(true);
    }
    Ok(false)
}

/// The time of row number `size` of those up to `end`; `end` if there are fewer.
fn cut(transaction: &Transaction<'_>, nth: &str, end: i64, size: i64) -> rusqlite::Result<i64> {
    let found =
        transaction.prepare_cached(nth)?.query_row(params![end, size], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(end))
}

/// The end of the oldest sum.
fn oldest(transaction: &Transaction<'_>, seconds: u64) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT min(end_unix_s) FROM sums WHERE seconds = ?1";
    let end: Option<i64> = transaction.query_row(sql, params![signed(seconds)], |row| row.get(0))?;
    Ok(end.map(unsigned))
}

/// Times before 1970 count as 1970.
fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
