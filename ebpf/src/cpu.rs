//! The ledger of the CPU on which a program runs. Each program looks it up once and passes it down.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use wattrace_common::ledger::Cpu;

use crate::maps::CPUS;

/// The number of this CPU and its ledger.
#[inline(always)]
pub fn this_cpu() -> Option<(u32, &'static Cpu)> {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    Some((cpu, CPUS.get(cpu)?))
}
