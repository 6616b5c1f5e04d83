//! Wattrace plugin: receives metrics over OTLP, by gRPC and HTTP, so that an agent is a gateway for others.
//! docs/gateway.md is its manual.
//!
//! | module | does |
//! | --- | --- |
//! | `config` | the keys of `[plugins.otlp-receiver]` |
//! | `listen`, `seats` | sockets and connections, and which of them makes room for another |
//! | `admission`, `budget` | authentication, and limits on requests and bytes in flight |
//! | `grpc`, `http` | the two protocols |
//! | `decode`, `weigh` | from bytes to a request, unless that unpacks to too many |
//! | `gateway` | the points that have arrived and wait for the pipeline: bounded |
//! | `sender`, `convert`, `bounds` | one sender's series; conversion of OTLP's points; how long they may be |
//! | `sequence` | lost, duplicate and reordered requests |
//! | `counts` | the gateway's own metrics |
//! | `source`, `wake` | the pipeline element, and how the servers wake it |
//! | [`fuzzing`] | everything that parses bytes from outside, for fuzzers |
//!
//! Follow a value: `listen` → `grpc` or `http` → `admission` → `gateway` → `sender` → `convert` → `source`.

mod admission;
mod bounds;
mod budget;
mod config;
mod convert;
mod counts;
mod decode;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod grpc;
mod http;
mod listen;
mod seats;
mod sender;
mod sequence;
mod source;
mod wake;
mod weigh;

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
    const USES_NETWORK: bool = true;

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
