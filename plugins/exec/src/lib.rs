//! Wattrace plugin: sources and outputs that are programs in any language. Each is a child process that
//! speaks JSON lines on its standard input and output; docs/exec-plugins.md has the protocol.
//!
//! | module | does |
//! | --- | --- |
//! | `config` | what is to run |
//! | `process`, `keeper`, `inbox` | a child: its start, its lines, its end |
//! | `stderr` | what it says besides, in the log |
//! | `wire` | the protocol's lines |
//! | `subject` | what a line's point is about, as a series |
//! | `postings` | from a line's point to a series' point, checked |
//! | `source`, `output` | the elements |
//! | `encode` | points as lines |
//! | `supervision` | what went wrong, counted, as metrics |
//! | [`fuzzing`] | everything that reads lines of others, for fuzzers |
//!
//! Follow a line: `keeper` → `inbox` → `source` → `wire` → `postings` → `subject` → `wattrace-ingest`.

mod config;
mod encode;
#[doc(hidden)]
pub mod fuzzing;
mod inbox;
mod keeper;
mod output;
mod postings;
mod process;
mod source;
mod stderr;
mod subject;
mod supervision;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger};

pub use config::{ExecConfig, OutputConfig, SourceConfig};

use crate::output::ExecOutput;
use crate::source::ExecSource;
use crate::supervision::{Supervision, Tally};

/// How often the metrics of supervision are published.
const SUPERVISION_INTERVAL: Duration = Duration::from_secs(10);

/// The plugin `exec`.
pub struct Exec;

impl Plugin for Exec {
    const NAME: &'static str = "exec";
    const DESCRIPTION: &'static str =
        "sources and outputs that are programs in any language, speaking JSON lines";
    type Config = ExecConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: ExecConfig, setup: &mut Setup) -> Result<(), Error> {
        config.check()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        let mut tallies = Vec::new();
        for config in config.sources {
            let tally = Arc::new(Tally::new("source", &config.name));
            tallies.push(tally.clone());
            let trigger = Trigger::every(config.interval);
            let (registry, clock, name) = (registry.clone(), clock.clone(), config.name.clone());
            let shared = postings::Shared::default();
            setup.source(name, trigger, move || {
                ExecSource::open(&config, registry.clone(), clock.clone(), tally.clone(), shared.clone())
            });
        }
        for config in config.outputs {
            let tally = Arc::new(Tally::new("output", &config.name));
            tallies.push(tally.clone());
            let (registry, clock, name) = (registry.clone(), clock.clone(), config.name.clone());
            setup.output(name, move || {
                ExecOutput::open(&config, registry.clone(), clock.clone(), tally.clone())
            });
        }
        if !tallies.is_empty() {
            let start = clock.now();
            setup.source(config::SUPERVISION, Trigger::every(SUPERVISION_INTERVAL), move || {
                Supervision::open(&tallies, registry.clone(), clock.clone(), start)
            });
        }
        Ok(())
    }

    fn diagnose(config: &ExecConfig) -> Vec<Finding> {
        config.findings()
    }
}
