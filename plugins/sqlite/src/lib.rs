//! Writes every point into an SQLite database that other programs may read and write meanwhile, and sums up
//! what is old, so that an agent can run for years.
//!
//! | file | holds |
//! | --- | --- |
//! | schema.sql, views.sql, schema.rs | the tables and views; whether the database is ours and of this version |
//! | staged.rs | what was taken and not committed yet |
//! | store.rs | one transaction that writes all of it |
//! | rollup.rs, age.rs | sums per minute and per hour instead of old points; the oldest are deleted |
//! | output.rs | the output: when to commit, and in which database |
//! | reader.rs | the joules of a span, read back for `wattrace query` and `wattrace view` |
//!
//! A batch is taken as a whole or not at all: while what is staged can't be committed, the next batch is
//! refused ([`wattrace_api::ErrorKind::Retry`]), so that nothing is written twice. The database is locked
//! only while a commit runs.

mod age;
mod output;
mod reader;
mod rollup;
mod schema;
mod staged;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, Plugin, Setup};
use wattrace_text_output::Size;

use output::SqliteOutput;
pub use reader::{
    By, Domain, EnergyReport, EnergySeries, EnergySink, EnergyUser, ReadError, Reader, RecordedPoint,
    RecordedSeries, Row, Span,
};
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
    /// How long points are kept as they were written. Older ones are summed up per minute, and processes by
    /// program.
    #[serde(with = "humantime_serde")]
    pub keep_points: Duration,
    /// How long sums per minute are kept. Older ones are summed up per hour.
    #[serde(with = "humantime_serde")]
    pub keep_minutes: Duration,
    /// How long sums per hour are kept.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// How large the database may grow. Then the oldest points and sums are summed up before their time, and
    /// the oldest sums per hour are deleted.
    pub max_size: Size,
}

/// A smaller database would hold a few minutes of a large machine.
const MIN_SIZE: Size = Size(16 << 20);

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            path: "wattrace.db".into(),
            commit_interval: Duration::from_secs(1),
            keep_points: Duration::from_secs(3600),
            keep_minutes: Duration::from_secs(7 * 86_400),
            // 365.25 days: "1year".
            max_age: Duration::from_secs(31_557_600),
            max_size: Size(1 << 30),
        }
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
        if config.max_size < MIN_SIZE {
            return Err(Error::fatal(format!("plugins.sqlite.max_size: must be at least {MIN_SIZE}")));
        }
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.output(Self::NAME, move || {
            let staged = Staged::new(registry.clone(), clock.clone());
            SqliteOutput::open(&config, staged, clock.clone())
        });
        Ok(())
    }
}
