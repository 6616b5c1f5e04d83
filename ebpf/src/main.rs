//! The kernel programs, one per tracepoint. `plugins/sched` loads them and reads the maps.
//!
//! | file | does |
//! | --- | --- |
//! | `cpu.rs`, `maps.rs` | this CPU's ledger; the maps, whose layout is in `common/` |
//! | `ledger.rs` | charges CPU time |
//! | `clock.rs`, `irq.rs`, `counters.rs`, `perf.rs` | time, interrupts and hardware counters for the ledger |
//! | `log.rs` | logs events of processes and cgroups |
//! | `process_stats.rs` | reads what a thread used besides CPU time |
//! | `task.rs` | reads kernel structures |
//! | `scan.rs` | copies kernel memory to find offsets in |
//! | `object.rs` | the panic handler and the licence of every object |
//! | `bench.rs` | an object of its own, for benchmarks |
//!
//! Most programs exist twice: as tp_btf for kernels with type information, and as `raw_…` for kernels
//! without.
#![no_std]
#![no_main]

mod clock;
mod counters;
mod cpu;
mod irq;
mod ledger;
mod log;
mod maps;
mod object;
mod perf;
mod process_stats;
mod scan;
mod task;

use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::task::{Probed, Typed};

/// Defines a program as tp_btf and as raw tracepoint. `$object` turns the number of an argument into an
/// object.
macro_rules! on_tracepoint {
    ($(
        $(#[$doc:meta])*
        $typed:ident, $raw:ident on $tracepoint:literal: |$ctx:ident, $object:ident| $body:expr;
    )*) => {$(
        $(#[$doc])*
        #[btf_tracepoint(function = $tracepoint)]
        pub fn $typed($ctx: BtfTracePointContext) -> i32 {
            let $object = |number| Typed($ctx.arg(number));
            let _ = $body;
            0
        }

        $(#[$doc])*
        #[raw_tracepoint(tracepoint = $tracepoint)]
        pub fn $raw($ctx: RawTracePointContext) -> i32 {
            let $object = |number| Probed($ctx.arg(number));
            let _ = $body;
            0
        }
    )*};
}

on_tracepoint! {
    /// Charges the slice that ends. `prev` is still the current task.
    /// Arguments: `preempt, prev, next[, prev_state]`.
    sched_switch, raw_sched_switch on "sched_switch":
        |ctx, object| ledger::switch(&ctx, object(1), object(2));

    /// Logs a new process. Arguments: `parent, child`.
    sched_process_fork, raw_sched_process_fork on "sched_process_fork":
        |ctx, object| log::fork(&ctx, object(0), object(1));

    /// Logs that a process executes another program. Arguments: `task, old_pid, bprm`.
    sched_process_exec, raw_sched_process_exec on "sched_process_exec":
        |ctx, object| log::exec(&ctx, object(0), object(2));

    /// Logs that a process or a thread exits. Arguments: `task[, group_dead]`. Only new kernels have the
    /// second, which is not used.
    sched_process_exit, raw_sched_process_exit on "sched_process_exit":
        |ctx, object| log::exit(&ctx, object(0));
}

/// Logs a new cgroup. Arguments: `cgroup, path`.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    let _ = log::cgroup_created(&ctx, Typed(ctx.arg(0)), ctx.arg(1));
    0
}

/// Attached to every tracepoint at which an interrupt begins.
#[raw_tracepoint(tracepoint = "irq_handler_entry")]
pub fn irq_enter(_ctx: RawTracePointContext) -> i32 {
    irq::enter();
    0
}

/// Attached to every tracepoint at which an interrupt ends.
#[raw_tracepoint(tracepoint = "irq_handler_exit")]
pub fn irq_exit(_ctx: RawTracePointContext) -> i32 {
    irq::exit();
    0
}

/// Charges the running slice of the CPU that runs it, and turns the page. User space runs it with
/// `BPF_PROG_TEST_RUN`: on another CPU the kernel calls it from an interrupt, on the caller's own CPU with
/// preemption disabled. Neither can happen within `sched_switch`, which runs with interrupts disabled.
#[raw_tracepoint(tracepoint = "wattrace_flush")]
pub fn flush(ctx: RawTracePointContext) -> i32 {
    // SAFETY: the helpers have no preconditions. Only the second needs Linux 5.11.
    if maps::KERNEL_READS.load() != 0 {
        ledger::flush(&ctx, Probed(unsafe { bpf_get_current_task() } as *const u8));
    } else {
        ledger::flush(&ctx, Typed(unsafe { bpf_get_current_task_btf() } as *const u8));
    }
    0
}

/// Called for each thread of the machine when user space reads the iterator.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn living_threads(iteration: &process_stats::Iteration) -> i32 {
    process_stats::iterate(iteration);
    0
}

/// Measures what reading a counter costs on the CPU that runs it. User space runs it as it runs `flush`.
#[raw_tracepoint(tracepoint = "wattrace_counter_cost")]
pub fn counter_cost(_ctx: RawTracePointContext) -> i32 {
    counters::measure_cost();
    0
}

/// Copies the `task_struct` of the calling thread, in which user space finds the offsets of members. User
/// space runs it as it runs `flush`.
#[raw_tracepoint(tracepoint = "wattrace_scan")]
pub fn scan(_ctx: RawTracePointContext) -> i32 {
    scan::copy();
    0
}
