//! The kernel programs: one small program per tracepoint. What is charged to whom is in `ledger.rs` (by
//! `clock.rs`' time, less `irq.rs`' interrupts, with `counters.rs`' counts), what is told of processes in
//! `log.rs`, what is read of a task in `task.rs`, the maps in `maps.rs`; their layout is `common/`'s.
//! `plugins/sched` loads them and reads the maps.
//!
//! Most programs are here twice: as tp_btf, for kernels that have type information, and as `raw_…` for those
//! that have not.
#![no_std]
#![no_main]

mod clock;
mod counters;
mod irq;
mod ledger;
mod log;
mod maps;
mod scan;
mod task;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::task::{Probed, Typed};

/// Defines a program as tp_btf and as raw tracepoint; `$object` makes an object of an argument's number.
macro_rules! on_tracepoint {
    ($($(#[$doc:meta])* $typed:ident, $raw:ident on $tracepoint:literal: |$ctx:ident, $object:ident| $body:expr;)*) => {$(
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
    /// Charges the slice that ends. `prev` is still the current task here.
    /// Arguments: `preempt, prev, next[, prev_state]`.
    sched_switch, raw_sched_switch on "sched_switch": |ctx, object| ledger::switch(&ctx, object(1), object(2));

    /// Tells of a new process. Arguments: `parent, child`.
    sched_process_fork, raw_sched_process_fork on "sched_process_fork":
        |ctx, object| log::fork(&ctx, object(0), object(1));

    /// Tells of a process's new program. Arguments: `task, old_pid, bprm`.
    sched_process_exec, raw_sched_process_exec on "sched_process_exec":
        |ctx, object| log::exec(&ctx, object(0), object(2));

    /// Tells of a process's end. Arguments: `task[, group_dead]`; the second exists on new kernels only and
    /// is not used.
    sched_process_exit, raw_sched_process_exit on "sched_process_exit": |ctx, object| log::exit(&ctx, object(0));
}

/// Tells of a new cgroup. Arguments: `cgroup, path`.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    let _ = log::cgroup_made(&ctx, Typed(ctx.arg(0)), ctx.arg(1));
    0
}

/// An interrupt begins: attached to every tracepoint that tells so.
#[raw_tracepoint(tracepoint = "irq_handler_entry")]
pub fn irq_enter(_ctx: RawTracePointContext) -> i32 {
    irq::enter();
    0
}

/// An interrupt ends: attached to every tracepoint that tells so.
#[raw_tracepoint(tracepoint = "irq_handler_exit")]
pub fn irq_exit(_ctx: RawTracePointContext) -> i32 {
    irq::exit();
    0
}

/// Charges the running slice of the CPU it is run on and turns the page. Run by user space with
/// `BPF_PROG_TEST_RUN`, which calls it from an interrupt on that CPU, or with preemption off where the caller
/// itself runs there: either way not within `sched_switch`, which fires with interrupts off.
#[raw_tracepoint(tracepoint = "wattrace_flush")]
pub fn flush(ctx: RawTracePointContext) -> i32 {
    // SAFETY: the helper has no preconditions.
    ledger::flush(&ctx, Probed(unsafe { bpf_get_current_task() } as *const u8));
    0
}

/// Measures what reading a counter costs on the CPU it is run on. Run as `flush` is.
#[raw_tracepoint(tracepoint = "wattrace_counter_cost")]
pub fn counter_cost(_ctx: RawTracePointContext) -> i32 {
    counters::measure_cost();
    0
}

/// Copies the `task_struct` of the thread that runs it, for user space to find its members in. Run as `flush`
/// is.
#[raw_tracepoint(tracepoint = "wattrace_scan")]
pub fn scan(_ctx: RawTracePointContext) -> i32 {
    scan::copy();
    0
}

/// Does nothing, on the same tracepoint as `sched_switch`: what an eBPF program costs at all, for the
/// benchmark.
#[btf_tracepoint(function = "sched_switch")]
pub fn empty(ctx: BtfTracePointContext) -> i32 {
    let _ = ctx.as_ptr();
    0
}

/// Reads the counters on the same tracepoint and does nothing with what they say: what reading them costs at
/// all, for the benchmark.
#[btf_tracepoint(function = "sched_switch")]
pub fn bare_readings(_ctx: BtfTracePointContext) -> i32 {
    counters::read_only();
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lets programs use the helpers they need only under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
