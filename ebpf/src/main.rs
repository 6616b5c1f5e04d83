//! The kernel programs: one small program per tracepoint. Accounting is in `ledger.rs`, what is read of a task in
//! `task.rs`, the maps in `maps.rs`; their layout is `common/`'s. `plugins/sched` loads them and reads the maps.
#![no_std]
#![no_main]

mod events;
mod ledger;
mod maps;
mod task;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::task::{ProbedTask, TypedTask};

/// Charges the slice that ends. `prev` is still the current task here.
/// Arguments: `preempt, prev, next[, prev_state]`.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    ledger::switch(TypedTask(ctx.arg(1)));
    0
}

/// Charges the running slice of the CPU it is run on and turns the page. Run by user space with `BPF_PROG_TEST_RUN`,
/// which calls it from an interrupt on that CPU, or with preemption off where the caller itself runs there: either way
/// not within `sched_switch`, which fires with interrupts off.
#[raw_tracepoint(tracepoint = "wattrace_flush")]
pub fn flush(_ctx: RawTracePointContext) -> i32 {
    // SAFETY: the helper has no preconditions.
    ledger::flush(ProbedTask(unsafe { bpf_get_current_task() } as *const u8));
    0
}

/// Tells of a new process. Arguments: `parent, child`.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    events::tell_pressure(&ctx);
    events::fork(TypedTask(ctx.arg(0)), TypedTask(ctx.arg(1)));
    0
}

/// Tells of a process's new program. Arguments: `task, old_pid, bprm`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    events::exec(TypedTask(ctx.arg(0)), ctx.arg(2));
    0
}

/// Tells of a process's end. Arguments: `task[, group_dead]`; the second exists on new kernels only and is not used.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    events::tell_pressure(&ctx);
    events::exit(TypedTask(ctx.arg(0)));
    0
}

/// Does nothing, on the same tracepoint as `sched_switch`: what an eBPF program costs at all, for the benchmark.
#[btf_tracepoint(function = "sched_switch")]
pub fn empty(ctx: BtfTracePointContext) -> i32 {
    let _ = ctx.as_ptr();
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
