//! Wattrace plugin: serves metrics over HTTP to Prometheus, and to everything else that scrapes its text
//! formats.
//!
//! | module | does |
//! | --- | --- |
//! | `config` | the settings |
//! | `output` | the output: updates the table, and owns the server |
//! | `table`, `ended`, `sample` | the latest value of every series; series that ended and wait for a scrape |
//! | `names`, `text` | Prometheus' names of metrics and labels; the text formats |
//! | `exposition` | what a scrape gets, made at most once a second |
//! | `server`, `access` | connections and requests; who may scrape |
//!
//! Follow a value: `output` → `table` → `exposition` → `server`.
//!
//! Before all this stands a transform of the output's own: `wattrace-ranking`, which limits the number of
//! processes that have series (`plugins.prometheus.top`).

mod access;
mod config;
mod ended;
mod exposition;
mod names;
mod output;
mod sample;
mod server;
mod table;
mod text;

use wattrace_api::{Error, Plugin, Setup};

pub use config::PrometheusConfig;

use crate::config::Settings;
use crate::output::Exporter;

/// The plugin `prometheus`.
pub struct Prometheus;

impl Plugin for Prometheus {
    const NAME: &'static str = "prometheus";
    const DESCRIPTION: &'static str = "serves metrics to Prometheus, which scrapes them";
    type Config = PrometheusConfig;
    const USES_NETWORK: bool = true;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: PrometheusConfig, setup: &mut Setup) -> Result<(), Error> {
        let settings = Settings::resolve(config)?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        let transforms = wattrace_ranking::of_processes(settings.top, settings.rank_interval, &registry);
        setup.output_through("metrics", transforms, move || {
            Exporter::open(&settings, registry.clone(), clock.clone(), &runtime)
        });
        Ok(())
    }
}
