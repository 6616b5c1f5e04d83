//! The time by which sums are too old to be kept. A wall clock that jumps ahead must not delete what is to be
//! kept for a year: ages grow no faster than the monotonic clock, from the newest data that the database
//! holds when it is opened.

use rusqlite::Connection;
use wattrace_api::{Clock, Timestamp};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgeClock {
    /// Seconds since the Unix epoch at the moment `since`.
    second: u64,
    since: Timestamp,
}

impl AgeClock {
    /// From the newest data of a database on; from now on if it is empty.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn start(connection: &Connection, clock: &Clock) -> rusqlite::Result<Self> {
        let newest = "SELECT max(
            ifnull((SELECT max(time_unix_nano) / 1000000000 FROM points), 0),
            ifnull((SELECT max(end_unix_s) FROM sums WHERE seconds = 60), 0),
            ifnull((SELECT max(end_unix_s) FROM sums WHERE seconds = 3600), 0))";
        let newest: i64 = connection.query_row(newest, [], |row| row.get(0))?;
        let newest = u64::try_from(newest).ok().filter(|second| *second > 0);
        let wall = wall_second(clock);
        Ok(Self { second: newest.unwrap_or(wall).min(wall), since: clock.now() })
    }

    /// The time at most, in seconds since the Unix epoch.
    pub(crate) fn second(&self, clock: &Clock) -> u64 {
        let passed = clock.now().since(self.since).as_secs();
        wall_second(clock).min(self.second.saturating_add(passed))
    }
}

/// The wall clock's second.
pub(crate) fn wall_second(clock: &Clock) -> u64 {
    clock.unix_nanos(clock.now()) / 1_000_000_000
}
