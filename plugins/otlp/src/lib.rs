//! Wattrace plugin: sends metrics to an OpenTelemetry collector over OTLP, gRPC or HTTP.
//!
//! | module | does |
//! | --- | --- |
//! | `config`, `resource` | the settings: from the configuration and the environment |
//! | `exporter`, `losses` | the output: updates the table, sends it every interval, counts what is lost |
//! | `table`, `stream`, `ended` | the latest values, the streams that report them, ended streams |
//! | `temporality`, `power`, `histogram` | what points cover; distributions of power |
//! | `encode`, `attributes`, `split` | from points to requests, and apart again |
//! | `delivery`, `sizes` | sends a set of requests, in the sizes that the collector takes |
//! | `backlog` | what the collector has not taken, in a spool, and sends it again |
//! | `backoff`, `collector` | when to try again, and what to log about the collector |
//! | `signal` | what `wattrace-otlp-client`, which sends the requests, must know of metrics |
//!
//! Follow a value: `exporter` → `table` → `encode` → `delivery` → `wattrace-otlp-client`.
//!
//! Before all this stands a transform of the output's own: `wattrace-ranking`, which limits the number of
//! processes that have streams (`plugins.otlp.top`).

mod attributes;
mod backlog;
mod backoff;
mod collector;
mod config;
mod delivery;
mod encode;
mod ended;
mod exporter;
mod histogram;
mod losses;
mod power;
mod resource;
mod signal;
mod sizes;
mod split;
mod stream;
mod table;
mod temporality;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use wattrace_api::spec::Open;
use wattrace_api::{Error, Plugin, Registry, Setup, Transform};
use wattrace_otlp_client::{Env, connect};
use wattrace_ranking::Top;
use wattrace_spool::Spool;

pub use config::OtlpConfig;

use crate::config::Settings;
use crate::exporter::Exporter;
use crate::signal::METRICS;

/// The plugin `otlp`.
pub struct Otlp;

impl Plugin for Otlp {
    const NAME: &'static str = "otlp";
    const DESCRIPTION: &'static str = "sends metrics to an OpenTelemetry collector, over gRPC or HTTP";
    type Config = OtlpConfig;
    const USES_NETWORK: bool = true;

    /// When OTEL_EXPORTER_OTLP_ENDPOINT or its metrics' variant is set, and OTEL_SDK_DISABLED and
    /// OTEL_METRICS_EXPORTER do not object.
    fn on_by_default() -> bool {
        Env::process(METRICS).wants_export()
    }

    fn start(config: OtlpConfig, setup: &mut Setup) -> Result<(), Error> {
        let settings = Settings::resolve(config, &Env::process(METRICS))?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        let crowded = Arc::new(AtomicBool::new(false));
        let transforms = limit(&settings, &crowded, &registry);
        setup.output_through("metrics", transforms, move || {
            let _within = runtime.enter();
            let transport = connect(&settings.client)?;
            let (registry, clock, runtime) = (registry.clone(), clock.clone(), runtime.clone());
            let spool = settings.spool.clone().map(|spool| Spool::new(spool, clock.clone()));
            let exporter = Exporter::new(&settings, transport, crowded.clone(), registry, clock, runtime);
            Ok(match spool {
                Some(spool) => exporter.with_spool(spool),
                None => exporter,
            })
        });
        Ok(())
    }
}

/// The transform that leaves streams of their own to `plugins.otlp.top` processes, and their threads; none if
/// that is 0. While `crowded` is set it lets no more have them.
fn limit(
    settings: &Settings,
    crowded: &Arc<AtomicBool>,
    registry: &Arc<Registry>,
) -> Vec<Open<dyn Transform>> {
    if settings.top == 0 {
        return Vec::new();
    }
    let ranking = wattrace_ranking::Settings::of_processes(settings.top, settings.interval);
    let (crowded, registry) = (crowded.clone(), registry.clone());
    vec![Box::new(move || {
        let top = Top::new(ranking.clone(), registry.clone());
        Ok(Box::new(top.frozen_while(crowded.clone())))
    })]
}
