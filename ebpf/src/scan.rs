//! For kernels without type information: copies raw kernel memory that belongs to the thread that asks, so
//! that user space can find in it what it knows of itself. `plugins/sched/src/kernel/offsets.rs` does.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use wattrace_common::scan::{CHUNK, CHUNKS, Scan};

/// One element.
#[map]
pub static SCAN: Array<Scan> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Copies from [`Scan::from`], or from the current task's `task_struct` if that is 0.
#[inline(always)]
pub fn copy() -> Option<()> {
    // SAFETY: the map outlives the program; one user at a time.
    let scan = unsafe { &mut *SCAN.get_ptr_mut(0)? };
    // SAFETY: the helper has no preconditions.
    scan.task = unsafe { bpf_get_current_task() };
    let from = if scan.from == 0 { scan.task } else { scan.from };
    for chunk in 0..CHUNKS {
        let at = from + (chunk * CHUNK) as u64;
        // SAFETY: the helper checks the address and writes within the element. Behind the object's end there
        // may be nothing.
        unsafe {
            bpf_probe_read_kernel(scan.memory[chunk].as_mut_ptr().cast(), CHUNK as u32, at as *const _)
        };
    }
    Some(())
}
