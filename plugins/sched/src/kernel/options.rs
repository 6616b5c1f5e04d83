//! What the kernel programs account for.

use super::counters::{Counter, PerfEvent};

/// What to account for, and how much memory to use.
#[derive(Clone, Debug)]
pub struct Options {
    /// For each possible CPU, the CPU that shares its core, if there is one.
    pub siblings: Vec<Option<usize>>,
    /// Bound on the kernel memory of all CPUs' ledgers and logs, in MiB.
    pub memory_mib: u32,
    /// Whether interrupts are accounted separately from the task that they interrupt.
    pub separate_irq: bool,
    /// The counters to read at every switch, and the perf event of each.
    pub counters: Vec<(Counter, PerfEvent)>,
    /// Whether command lines are read.
    pub command_lines: bool,
    /// Whether what a thread used besides CPU time is read when it exits.
    pub process_stats: bool,
    /// Whether exits are logged of threads that are not the last of their processes.
    pub thread_exits: bool,
    /// Whether to use the kernel's type information, if it has any. Without it, programs are attached as raw
    /// tracepoints.
    pub typed: bool,
}

impl Options {
    /// The least: CPU time on `cpus` CPUs, none of which shares a core.
    pub fn of_cpus(cpus: usize) -> Self {
        Self {
            siblings: vec![None; cpus],
            memory_mib: 32,
            separate_irq: false,
            counters: Vec::new(),
            command_lines: false,
            process_stats: false,
            thread_exits: false,
            typed: true,
        }
    }

    /// A bit for each counter.
    pub(super) fn counter_bits(&self) -> u32 {
        self.counters.iter().map(|(counter, _)| 1 << counter.position()).sum()
    }
}
