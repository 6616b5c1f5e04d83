//! Wattrace plugin: sends every point in Influx line protocol to a time-series database: InfluxDB,
//! VictoriaMetrics, QuestDB, or Telegraf before another one.
//!
//! | module | does |
//! | --- | --- |
//! | `config` | the settings |
//! | `exporter` | the output: takes batches, sends what waits, counts what is lost |
//! | `lines`, `escape` | from points to lines |
//! | `outbox` | the requests that wait, in memory and in a spool on disk |
//! | `server`, `answer` | sends one request; what its answer means |
//!
//! Follow a value: `exporter` → `lines` → `outbox` → `server`.
//!
//! Before all this stands a transform of the output's own: `wattrace-ranking`, which limits the number of
//! processes that have series (`plugins.influx.top`).

mod answer;
mod config;
mod escape;
mod exporter;
mod lines;
mod outbox;
mod server;

use wattrace_api::{Error, Plugin, Setup};

pub use config::InfluxConfig;

use crate::config::Settings;
use crate::exporter::Exporter;
use crate::lines::Lines;
use crate::server::Server;

/// The plugin `influx`.
pub struct Influx;

impl Plugin for Influx {
    const NAME: &'static str = "influx";
    const DESCRIPTION: &'static str = "sends points in Influx line protocol to a time-series database";
    type Config = InfluxConfig;
    const USES_NETWORK: bool = true;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: InfluxConfig, setup: &mut Setup) -> Result<(), Error> {
        let settings = Settings::resolve(config)?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        let transforms = wattrace_ranking::of_processes(settings.top, settings.rank_interval, &registry);
        setup.output_through("points", transforms, move || {
            let server = Box::new(Server::new(&settings, runtime.clone())?);
            let lines = Lines::new(&settings, registry.clone(), clock.clone());
            Ok(Exporter::new(&settings, server, lines, clock.clone()))
        });
        Ok(())
    }
}
