//! The `sched` plugin: CPU time per process and package, every nanosecond once, counted by the kernel programs of `ebpf/`.
//!
//! | file | holds |
//! | --- | --- |
//! | `requirements.rs` | what the kernel and our permissions must offer, each with its remedy |
//! | `btf.rs` | byte offsets in the running kernel's structures |
//! | `kernel.rs` | loading the programs, flushing the ledgers, mapping their memory |
//! | `processes.rs` | the processes that ran, from ledger entries and events |
//! | `proc.rs` | what only /proc and the cgroup tree know |
//! | `source.rs` | a tick: flush, read, emit |
//! | `topology.rs` | which package a CPU is in |

mod btf;
pub mod kernel;
mod proc;
mod processes;
pub mod requirements;
mod source;
pub mod topology;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, Finding, Plugin, Setup, Trigger};

pub use source::SchedSource;

/// The plugin.
#[derive(Debug)]
pub struct Sched;

/// `[plugins.sched]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedConfig {
    /// Time between readings, from 1 ms up.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Bound on the kernel memory of all CPUs' ledgers, in MiB. More memory lets more threads run between two readings
    /// before a reading is forced.
    pub ledger_mib: u32,
}

impl Default for SchedConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), ledger_mib: 32 }
    }
}

impl Plugin for Sched {
    const NAME: &'static str = "sched";
    const DESCRIPTION: &'static str = "CPU time of every process, counted in the kernel by eBPF";
    type Config = SchedConfig;

    fn start(config: SchedConfig, setup: &mut Setup) -> Result<(), Error> {
        if config.interval < Duration::from_millis(1) {
            return Err(Error::fatal(format!(
                "plugins.sched.interval is {:?}: it must be at least 1ms",
                config.interval
            )));
        }
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        setup.source("cpu", Trigger::just_after(config.interval), move || {
            SchedSource::open(&config, registry.clone(), clock.clone(), &runtime)
        });
        Ok(())
    }

    fn diagnose(_config: &SchedConfig) -> Vec<Finding> {
        requirements::check(&requirements::Facts::gather())
    }
}
