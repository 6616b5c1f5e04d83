//! Wattrace plugin: receives metrics over OTLP, by gRPC and HTTP, so that an agent is a gateway for others.
//! docs/gateway.md is its manual.
//!
//! | module | does |
//! | --- | --- |
//! | `config` | the keys of `[plugins.otlp-receiver]` |
//! | `listen` | sockets and connections |
//! | `admission` | authentication, and a limit on concurrent requests |
//! | `grpc`, `http` | the two protocols |
//! | `gateway` | the points that have arrived and wait for the pipeline: bounded |
//! | `sender`, `convert` | one sender's series; conversion of OTLP's points |
//! | `sequence` | lost, duplicate and reordered requests |
//! | `counts` | the gateway's own metrics |
//! | `source`, `wake` | the pipeline element, and how the servers wake it |
//! | [`fuzzing`] | everything that parses bytes from outside, for fuzzers |
//!
//! Follow a value: `listen` → `grpc` or `http` → `admission` → `gateway` → `sender` → `convert` → `source`.

mod admission;
mod config;
mod convert;
mod counts;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod grpc;
mod http;
mod listen;
mod sender;
mod sequence;
mod source;
mod wake;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger};

pub use config::OtlpReceiverConfig;

use crate::config::Settings;
use crate::source::Receiver;

/// The plugin `otlp-receiver`.
pub struct OtlpReceiver;

impl Plugin for OtlpReceiver {
    const NAME: &'static str = "otlp-receiver";
    const DESCRIPTION: &'static str =
        "receives metrics over OTLP, so that this agent is a gateway for others";
    type Config = OtlpReceiverConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: OtlpReceiverConfig, setup: &mut Setup) -> Result<(), Error> {
        let settings = Settings::resolve(config)?;
        settings.warn_if_open();
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        setup.source("metrics", Trigger::every(gateway::tick_interval(&settings)), move || {
            Receiver::open(&settings, registry.clone(), clock.clone(), &runtime)
        });
        Ok(())
    }

    fn diagnose(config: &OtlpReceiverConfig) -> Vec<Finding> {
        config.findings()
    }
}
