//! Wattrace plugin: sends metrics to an OpenTelemetry collector over OTLP, gRPC or HTTP.
//!
//! | module | does |
//! | --- | --- |
//! | `config`, `env`, `resource` | what is asked for, by the configuration and by OpenTelemetry's environment variables |
//! | `exporter` | the output: updates the table, sends it every interval, counts what is lost |
//! | `table`, `stream`, `top`, `ended` | the latest values, the streams that report them, and those that have ended |
//! | `encode` | from points to requests |
//! | `transport`, `grpc`, `http`, `tls`, `token` | the ways to a collector, and what its answers mean |
//! | `backoff`, `link` | when to try again, and what to tell the operator |
//!
//! Follow a value: `exporter` → `table` → `encode` → `transport`.

mod backoff;
mod config;
mod encode;
mod ended;
mod env;
mod exporter;
mod grpc;
mod http;
mod link;
mod resource;
mod stream;
mod table;
mod tls;
mod token;
mod top;
mod transport;

use wattrace_api::{Error, Plugin, Setup};

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

    /// When OTEL_EXPORTER_OTLP_ENDPOINT or its metrics' variant is set, and OTEL_SDK_DISABLED and
    /// OTEL_METRICS_EXPORTER do not object.
    fn on_by_default() -> bool {
        Env::process().wants_metrics()
    }

    fn start(config: OtlpConfig, setup: &mut Setup) -> Result<(), Error> {
        let settings = Settings::resolve(config, Env::process())?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        setup.output("metrics", move || {
            let _within = runtime.enter();
            let transport = transport::to(&settings)?;
            Ok(Exporter::new(&settings, transport, registry.clone(), clock.clone(), runtime.clone()))
        });
        Ok(())
    }
}
