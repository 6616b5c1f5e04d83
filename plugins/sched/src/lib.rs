//! The `sched` plugin: CPU time per process and package, every nanosecond once, counted by the kernel
//! programs of `ebpf/`.
//!
//! | file | holds |
//! | --- | --- |
//! | `requirements.rs` | what the kernel and our permissions must offer, each with its remedy |
//! | `topology.rs` | which package a CPU is in, and which CPU shares its core |
//! | `kernel/` | loading the programs, flushing the ledgers, mapping their memory |
//! | `reader.rs` | a CPU's ledger, page by page |
//! | `processes.rs` | the processes that ran, from ledger entries and events |
//! | `threads.rs` | their threads, where those are asked for |
//! | `tally.rs` | what one of them used, and its series |
//! | `proc.rs` | what only /proc and the cgroup tree know |
//! | `command_line.rs` | command lines without secrets |
//! | `accounts.rs` | a reading of all that, and its emission |
//! | `cost.rs` | what the kernel programs cost |
//! | `source.rs` | when it is read |
//! | `fuzzing.rs` | everything that reads text of others, for fuzzers |

mod accounts;
mod command_line;
mod cost;
#[doc(hidden)]
pub mod fuzzing;
pub mod kernel;
mod proc;
mod processes;
mod reader;
pub mod requirements;
mod source;
mod tally;
mod threads;
pub mod topology;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Error, Finding, Plugin, Setup, Trigger};

pub use kernel::Counter;
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
    /// Bound on the kernel memory of all CPUs' ledgers, in MiB. More memory lets more threads run between two
    /// readings before a reading is forced.
    pub ledger_mib: u32,
    /// Whether time in interrupts is told apart from the task they interrupt.
    pub irq: Interrupts,
    /// Hardware counters to read per process: "cycles", "instructions", "cache-misses". They cost something
    /// at every context switch, and are left out where reading one is dear (in most virtual machines).
    pub counters: Vec<Counter>,
    /// Whether to read the counters however dear they are.
    pub counters_force: bool,
    /// Whether to read processes' command lines. They can hold secrets; what looks like one is left out.
    pub command_lines: bool,
    /// Whether each thread is a consumer of its own, beside its process.
    pub threads: bool,
}

/// Whose time an interrupt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interrupts {
    /// The task's that it interrupted.
    WithTask,
    /// Its own: the consumer `irq`.
    Separate,
}

impl Default for SchedConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            ledger_mib: 32,
            irq: Interrupts::WithTask,
            counters: Vec::new(),
            counters_force: false,
            command_lines: false,
            threads: false,
        }
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
