//! Wattrace plugin: writes every point into a PostgreSQL database, with TimescaleDB into a hypertable.
//!
//! | module | does |
//! | --- | --- |
//! | `config`, `url`, `passfile` | the settings, and the password that goes with them |
//! | `output` | the output: takes batches, commits them, reconnects |
//! | `staged` | what was taken and not committed yet |
//! | `portion` | points of a run with their series, as they wait in the spool |
//! | `session`, `tls` | a connection, and one transaction that writes what is staged |
//! | `schema`, schema/*.sql | the tables and views, created and migrated |
//! | `failure` | what an error of the database means |
//!
//! What is staged is committed as a whole or not at all. If the connection breaks while a commit runs,
//! nobody knows whether it took place; so it is sent again, and the tables' keys see to it that each row is
//! there once. The same holds for a portion in the spool, which is removed once it is committed: an agent
//! that is killed in between leaves it for the next one, which writes it again.

mod config;
mod failure;
mod output;
mod passfile;
mod portion;
mod schema;
mod session;
mod staged;
mod tls;
mod url;

use wattrace_api::{Error, Plugin, Setup};

pub use config::PostgresConfig;
pub use url::DatabaseUrl;

use crate::config::Settings;
use crate::output::PostgresOutput;
use crate::staged::Staged;

/// The plugin `postgres`.
pub struct Postgres;

impl Plugin for Postgres {
    const NAME: &'static str = "postgres";
    const DESCRIPTION: &'static str = "writes every point into a PostgreSQL database, or TimescaleDB";
    type Config = PostgresConfig;
    const USES_NETWORK: bool = true;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: PostgresConfig, setup: &mut Setup) -> Result<(), Error> {
        let settings = Settings::resolve(config)?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        setup.output("points", move || {
            let staged = Staged::new(registry.clone(), clock.clone());
            PostgresOutput::open(settings.clone(), staged, clock.clone(), runtime.clone())
        });
        Ok(())
    }
}
