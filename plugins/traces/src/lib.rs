//! Wattrace plugin: sends processes as spans to an OpenTelemetry collector. A span is a process, from its
//! fork to its end; its parent is the span of the process that forked it; its attributes say how many joules
//! of which domain it used. docs/traces.md describes it for users.
//!
//! | module | does |
//! | --- | --- |
//! | `config`, `selection`, `limits` | the settings: who is traced, and who has a span of its own |
//! | `exporter` | the output: decides when spans are sent, and keeps what does not arrive |
//! | `table` | from points to spans |
//! | `trees`, `process` | who is traced, and as whose child; what a process used in its present span |
//! | `carrier`, `ids` | the trace that a process has in its environment; the ids of spans and traces |
//! | `books` | until when the energy of each domain is attributed |
//! | `span`, `resource` | spans in the terms of OpenTelemetry's SDK; the resource they are about |
//! | `queue`, `request`, `delivery` | spans that wait, put together to requests, and sent |
//! | `losses` | what was lost |
//! | [`operation`] | the agent's own operation as a trace, which is not about processes |
//! | [`fuzzing`] | the entry for fuzzers |
//!
//! Follow a process: `exporter` → `table` → `trees` → `process` → `span` → `queue` → `request` →
//! `delivery`.
//!
//! **A span is over** when all series of its process have ended and the books of all domains are closed to
//! the last moment in which it ran. So at any time, the joules of all spans, of what still runs and of all
//! that is not traced are what the meters have counted, to the microjoule.
//!
//! **Spans are the SDK's `SpanData`**, which opentelemetry-proto encodes, and they are sent by
//! `wattrace-otlp-client`, as metrics are. The exporter of the crate opentelemetry-otlp does the same, but
//! reports a failed request as text and a partial success not at all: spans that a collector has rejected
//! could not be counted.

mod books;
mod carrier;
mod config;
mod delivery;
mod exporter;
#[doc(hidden)]
pub mod fuzzing;
mod ids;
mod limits;
mod losses;
pub mod operation;
mod process;
mod queue;
mod request;
mod resource;
mod selection;
mod span;
mod table;
mod trees;

use wattrace_api::{Error, Plugin, Setup};
use wattrace_otlp_client::Env;

pub use config::TracesConfig;

use crate::config::{Settings, TRACES};
use crate::exporter::{Commands, Exporter};

/// The plugin `traces`.
pub struct Traces;

impl Plugin for Traces {
    const NAME: &'static str = "traces";
    const DESCRIPTION: &'static str =
        "sends processes as spans to an OpenTelemetry collector, with their energy";
    type Config = TracesConfig;
    const USES_NETWORK: bool = true;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: TracesConfig, setup: &mut Setup) -> Result<(), Error> {
        let settings = Settings::resolve(config, &Env::process(TRACES))?;
        let (registry, clock, runtime, events) =
            (setup.registry(), setup.clock(), setup.runtime(), setup.events());
        let subscribe = move || Commands { started: events.subscribe::<_>(), ended: events.subscribe::<_>() };
        // From the start, so that no command is missed.
        let mut first = Some(subscribe());
        setup.output("spans", move || {
            let _within = runtime.enter();
            let transport = wattrace_otlp_client::connect(&settings.client)?;
            let commands = first.take().unwrap_or_else(&subscribe);
            let (registry, clock, runtime) = (registry.clone(), clock.clone(), runtime.clone());
            Ok(Exporter::new(&settings, transport, commands, registry, clock, runtime))
        });
        Ok(())
    }
}
