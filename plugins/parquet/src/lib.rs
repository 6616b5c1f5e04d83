//! Wattrace plugin: writes every point into Parquet files, which pandas, polars and DuckDB open.
//!
//! | module | does |
//! | --- | --- |
//! | `config` | the settings |
//! | `output` | the output: when a row group is written, and when another file begins |
//! | `rows` | rows that wait for their row group, and what they say of their series |
//! | `columns` | the schema, and the writing of a row group |
//! | `file` | a file under a temporary name, which gets its own when it is complete |
//! | `recovery` | what an agent left that could not complete its file |

mod columns;
mod config;
mod file;
mod output;
mod recovery;
mod rows;

use wattrace_api::{Error, Plugin, Setup};

pub use config::ParquetConfig;

use crate::config::Settings;
use crate::output::ParquetOutput;
use crate::rows::Rows;

/// The plugin `parquet`.
pub struct Parquet;

impl Plugin for Parquet {
    const NAME: &'static str = "parquet";
    const DESCRIPTION: &'static str = "writes every point into Parquet files, for pandas, polars and DuckDB";
    type Config = ParquetConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: ParquetConfig, setup: &mut Setup) -> Result<(), Error> {
        let settings = Settings::resolve(config)?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.output(Self::NAME, move || {
            let rows = Rows::new(registry.clone(), clock.clone(), &settings.host);
            ParquetOutput::open(settings.clone(), rows, clock.clone())
        });
        Ok(())
    }
}
