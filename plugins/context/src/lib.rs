//! The `context` plugin: what helps to explain energy. The CPUs' frequencies and temperatures, under the
//! names of OpenTelemetry's conventions for hardware; and, on request, the memory of the busiest processes
//! and the bytes that each cgroup receives and sends. Off by default.
//!
//! | module | holds |
//! | --- | --- |
//! | `config` | the keys of `[plugins.context]` |
//! | `discover`, `source` | finds frequencies and temperature sensors; the source that reads them |
//! | `memory` | the busiest processes, and the source that reads their memory |
//! | `network` | counting packets in the kernel, and the source that reports them |

mod config;
mod discover;
mod memory;
mod network;
mod source;

pub use config::{ContextConfig, Frequency};

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup, Trigger, Verdict};

/// Entry points for fuzzers: what reads sysfs.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::discover::{Gauge, frequencies, temperature_sensors};
}

/// The plugin.
#[derive(Debug)]
pub struct Context;

impl Plugin for Context {
    const NAME: &'static str = "context";
    const DESCRIPTION: &'static str =
        "context for energy: CPU frequency, temperatures; memory and network bytes on request";
    type Config = ContextConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: ContextConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        let every = Trigger::every(config.interval);
        if config.network {
            let (registry, clock) = (registry.clone(), clock.clone());
            setup.source("network", every, move || {
                network::NetworkSource::open(registry.clone(), clock.clone())
            });
        }
        if config.memory_of > 0 {
            let (busy, count, interval) = (memory::Busy::default(), config.memory_of, config.interval);
            let (observed, registry, clock) = (busy.clone(), registry.clone(), clock.clone());
            let (of_observer, clock_of_observer) = (registry.clone(), clock.clone());
            setup.source("memory", every, move || {
                memory::MemorySource::open(busy.clone(), count, interval, registry.clone(), clock.clone())
            });
            setup.transform("busiest", move || {
                let since = clock_of_observer.now();
                Ok(memory::Observer::new(observed.clone(), of_observer.clone(), since))
            });
        }
        if config.reads_gauges() {
            setup.source("gauges", every, move || {
                source::ContextSource::open(&config, registry.clone(), clock.clone())
            });
        }
        Ok(())
    }

    fn diagnose(config: &ContextConfig) -> Vec<Finding> {
        let mut findings: Vec<Finding> = config.network.then(network::diagnose).into_iter().collect();
        if !config.reads_gauges() {
            return findings;
        }
        let root = Path::new(&config.sysfs_root);
        let frequencies = discover::frequencies(root, Frequency::Package);
        let sensors = discover::temperature_sensors(root);
        let any = !frequencies.is_empty() || !sensors.is_empty();
        findings.push(Finding {
            what: "CPU frequency and temperatures".to_owned(),
            verdict: if any { Verdict::Ok } else { Verdict::Optional },
            found: format!("frequencies of {} packages, {} temperatures", frequencies.len(), sensors.len()),
            remedy: if any { String::new() } else { source::REMEDY.to_owned() },
        });
        findings
    }
}
