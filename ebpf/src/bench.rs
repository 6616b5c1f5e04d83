//! Programs that the benchmarks of `plugins/sched` compare accounting with, in an object of their own: the
//! agent does not contain them.
#![no_std]
#![no_main]

mod object;
mod perf;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::PerfEventArray;
use aya_ebpf::programs::BtfTracePointContext;

/// The cycle counters, by CPU.
#[map]
pub static CYCLES: PerfEventArray<u64> = PerfEventArray::new(0);
/// The counters of instructions, by CPU.
#[map]
pub static INSTRUCTIONS: PerfEventArray<u64> = PerfEventArray::new(0);

/// Does nothing: what calling any program at a context switch costs.
#[btf_tracepoint(function = "sched_switch")]
pub fn empty(ctx: BtfTracePointContext) -> i32 {
    let _ = ctx.as_ptr();
    0
}

/// Reads two counters and does nothing with them.
#[btf_tracepoint(function = "sched_switch")]
pub fn bare_readings(_ctx: BtfTracePointContext) -> i32 {
    perf::read(&CYCLES);
    perf::read(&INSTRUCTIONS);
    0
}
