//! Wattrace plugin: sends metrics to an OpenTelemetry collector over OTLP, gRPC or HTTP.
//!
//! | module | does |
//! | --- | --- |
//! | `config`, `protocol`, `endpoint`, `env`, `resource` | the settings: from the configuration and the environment |
//! | `exporter` | the output: updates the table, sends it every interval, counts what is lost |
//! | `table`, `stream`, `ended` | the latest values, the streams that report them, ended streams |
//! | `encode`, `attributes`, `split` | from points to requests, and apart again |
//! | `delivery`, `sizes` | sends a set of requests, in the sizes that the collector takes |
//! | `transport`, `connect`, `grpc`, `grpc_wire`, `http`, `tls`, `token` | how requests are sent |
//! | `answer`, `shown` | what answers mean, and how their texts are shown |
//! | `backoff`, `collector` | when to try again, and what to log about the collector |
//!
//! Follow a value: `exporter` → `table` → `encode` → `delivery` → `transport`.
//!
//! Before all this stands a transform of the output's own: `wattrace-ranking`, which limits the number of
//! processes that have streams (`plugins.otlp.top`).

mod answer;
mod attributes;
mod backoff;
mod collector;
mod config;
mod connect;
mod delivery;
mod encode;
mod ended;
mod endpoint;
mod env;
mod exporter;
mod grpc;
mod grpc_wire;
mod http;
mod protocol;
mod resource;
mod shown;
mod sizes;
mod split;
mod stream;
mod table;
mod tls;
mod token;
mod transport;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use wattrace_api::spec::Open;
use wattrace_api::{Error, Plugin, Registry, Setup, Transform};
use wattrace_ranking::Top;

pub use config::OtlpConfig;

use crate::config::Settings;
use crate::env::Env;
use crate::exporter::Exporter;

/// What this agent calls itself to collectors.
const USER_AGENT: &str = concat!("wattrace/", env!("CARGO_PKG_VERSION"));

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
        Env::process().wants_metrics()
    }

    fn start(config: OtlpConfig, setup: &mut Setup) -> Result<(), Error> {
        let settings = Settings::resolve(config, Env::process())?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        let crowded = Arc::new(AtomicBool::new(false));
        let transforms = limit(&settings, &crowded, &registry);
        setup.output_through("metrics", transforms, move || {
            let _within = runtime.enter();
            let transport = connect::connect(&settings)?;
            let (registry, clock, runtime) = (registry.clone(), clock.clone(), runtime.clone());
            Ok(Exporter::new(&settings, transport, crowded.clone(), registry, clock, runtime))
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
