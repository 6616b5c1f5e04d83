//! The `sched` plugin: CPU time per process and package, every nanosecond once, counted by the kernel
//! programs of `ebpf/`.
//!
//! | file | holds |
//! | --- | --- |
//! | `source.rs` | the source: when the accounts are read and emitted |
//! | `accounts.rs`, `open.rs` | a pass over all CPUs, and its emission; the setup |
//! | `kernel/` | the kernel programs: loading them, flushing the ledgers, reading their memory |
//! | `requirements.rs`, `namespaces.rs` | what the kernel and our permissions must offer, with remedies |
//! | `reader.rs` | a CPU's ledger, page by page |
//! | `processes.rs`, `threads.rs` | the processes that ran and, if they are asked for, their threads |
//! | `names.rs` | the names of processes, each kept once |
//! | `usage.rs` | what one of them used, and its series |
//! | `process_stats.rs` | what a process used besides CPU time |
//! | `counted.rs` | which counters and perf events are read |
//! | `closing.rs` | idle time, interrupts and overflow |
//! | `cgroups.rs`, `command_line.rs` | the paths of cgroups; command lines without secrets |
//! | `cost.rs`, `own_metrics.rs` | what the kernel programs cost; what they lost |
//! | `fuzzing.rs` | the parsers of foreign data, for fuzzers |

mod accounts;
mod cgroups;
mod closing;
mod command_line;
mod cost;
mod counted;
mod exited;
#[doc(hidden)]
pub mod fuzzing;
pub mod kernel;
mod names;
pub mod namespaces;
mod open;
mod own_metrics;
mod process_stats;
mod processes;
mod reader;
pub mod requirements;
mod source;
mod threads;
mod usage;

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
    /// Time between ticks, at least 1 ms.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Bound on the kernel memory of all CPUs' ledgers, in MiB. With more memory, more threads can run
    /// between two ticks before an early read is needed.
    pub ledger_mib: u32,
    /// Whether interrupts are accounted separately from the task that they interrupt.
    pub irq: Interrupts,
    /// Hardware counters to read per process: "cycles", "instructions", "cache-misses". Reading one costs
    /// time at every context switch. Where that is expensive (in most virtual machines), they are not read.
    pub counters: Vec<Counter>,
    /// Perf events to count per process in the same way, by the names that `perf list` shows or as raw
    /// codes: "page-faults", "LLC-load-misses", "r01c2", "cpu/event=0x3c,umask=0x01/". With `counters`, at
    /// most three.
    pub events: Vec<String>,
    /// Whether to read the counters even if that is expensive.
    pub counters_force: bool,
    /// Whether to read command lines. They may contain secrets: what looks like one is hidden.
    pub command_lines: bool,
    /// Whether to read what else processes used: context switches, page faults, bytes read and written, the
    /// wait for CPUs, memory. It costs some ten series per process.
    pub process_stats: bool,
    /// How often that is read of living processes, besides when they exit.
    #[serde(with = "humantime_serde")]
    pub process_stats_interval: Duration,
    /// Whether each thread is a consumer of its own, in addition to its process.
    pub threads: bool,
}

/// To whom interrupts are charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interrupts {
    /// To the task that they interrupt.
    WithTask,
    /// To the consumer `irq`.
    Separate,
}

impl Default for SchedConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            ledger_mib: 32,
            irq: Interrupts::WithTask,
            counters: Vec::new(),
            events: Vec::new(),
            counters_force: false,
            command_lines: false,
            process_stats: false,
            process_stats_interval: Duration::from_secs(10),
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
        counted::check(&config)?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("cpu", Trigger::just_after(config.interval), move || {
            SchedSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(_config: &SchedConfig) -> Vec<Finding> {
        requirements::check(&requirements::Facts::gather())
    }
}
