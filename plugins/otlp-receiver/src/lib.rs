//! Wattrace plugin: receives metrics over OTLP, by gRPC and HTTP, so that an agent is a gateway for others.
//! docs/gateway.md is its manual.
//!
//! | module | does |
//! | --- | --- |
//! | `config` | what is asked for |
//! | `listen`, `tls` | sockets, connections, who is whom |
//! | `door` | who may come in, and how many at a time |
//! | `grpc`, `http` | the two ways of asking, and of answering |
//! | `gateway` | what everybody has sent and the pipeline has not taken yet: bounded |
//! | `sender`, `convert` | one sender's series, and from OTLP's points to ours |
//! | `sequence` | requests that were lost, doubled or overtaken on the way |
//! | `counts` | the gateway's own metrics |
//! | `source` | hands over to the pipeline what has come |
//! | [`fuzzing`] | everything that reads bytes of others, for fuzzers |
//!
//! Follow a value: `listen` → `door` → `grpc` or `http` → `gateway` → `sender` → `convert` → `source`.

mod config;
mod convert;
mod counts;
mod door;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod grpc;
mod http;
mod listen;
mod sender;
mod sequence;
mod source;
mod tls;

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
        settings.warn_if_open_to_all();
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        // It may wait for a request that is just being taken in.
        setup.source("metrics", Trigger::every(settings.interval), move || {
            let _within = runtime.enter();
            Receiver::open(&settings, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &OtlpReceiverConfig) -> Vec<Finding> {
        config.findings()
    }
}
