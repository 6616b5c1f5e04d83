//! Wattrace plugin: sources and outputs that are programs in any language. Each is a child process that reads
//! and writes JSON lines. docs/exec-plugins.md describes the protocol.
//!
//! | module | does |
//! | --- | --- |
//! | `config` | the keys of `[plugins.exec]` |
//! | `program` | what to start, and how it is spawned |
//! | `child` | the handle of a child: write, kill, end |
//! | `supervisor` | the thread of a child: starts it, reads its lines, reaps it |
//! | `process_group`, `descendants` | signals to a child and its group; the end of what left the group |
//! | `line_splitter`, `line_queue` | a child's lines, until its element reads them |
//! | `stderr` | logs its standard error |
//! | `wire` | the protocol's lines |
//! | `limits` | bounds on the texts that a program sends |
//! | `labels` | what names a series, as a description of that series |
//! | `recorder` | checks points and records them to series |
//! | `source`, `output` | the elements |
//! | `encode` | points as lines |
//! | `anomalies` | problems: counted, logged, published as a metric |
//! | [`fuzzing`] | the entry for fuzzers |
//!
//! The path of a line: `supervisor` → `line_queue` → `source` → `wire` → `recorder` → `labels` →
//! `wattrace-ingest`.

mod anomalies;
mod child;
mod config;
mod descendants;
mod encode;
#[doc(hidden)]
pub mod fuzzing;
mod labels;
mod limits;
mod line_queue;
mod line_splitter;
mod output;
mod process_group;
mod program;
mod recorder;
mod source;
mod stderr;
mod supervisor;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger};

pub use config::{ExecConfig, OutputConfig, SourceConfig};

use crate::anomalies::{AnomalyCounts, AnomalySource};
use crate::labels::ClaimedDomains;
use crate::output::ExecOutput;
use crate::source::ExecSource;

/// How often the anomalies are published.
const ANOMALY_INTERVAL: Duration = Duration::from_secs(10);

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
        let mut elements = Vec::new();
        for config in config.sources {
            let counts = Arc::new(AnomalyCounts::new("source", &config.name));
            elements.push(counts.clone());
            let trigger = Trigger::every(config.interval);
            let (registry, clock, name) = (registry.clone(), clock.clone(), config.name.clone());
            let domains = ClaimedDomains::default();
            setup.source(name, trigger, move || {
                ExecSource::open(&config, registry.clone(), clock.clone(), counts.clone(), domains.clone())
            });
        }
        for config in config.outputs {
            let counts = Arc::new(AnomalyCounts::new("output", &config.name));
            elements.push(counts.clone());
            let (registry, clock, name) = (registry.clone(), clock.clone(), config.name.clone());
            setup.output(name, move || {
                ExecOutput::open(&config, registry.clone(), clock.clone(), counts.clone())
            });
        }
        if !elements.is_empty() {
            let start = clock.now();
            setup.source(config::ANOMALY_SOURCE, Trigger::every(ANOMALY_INTERVAL), move || {
                AnomalySource::open(&elements, registry.clone(), clock.clone(), start)
            });
        }
        Ok(())
    }

    fn diagnose(config: &ExecConfig) -> Vec<Finding> {
        config.findings()
    }
}
