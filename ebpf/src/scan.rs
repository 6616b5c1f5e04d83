//! For kernels without type information: copies kernel memory of the calling thread, in which user space
//! finds the offsets of structure members (`plugins/sched/src/kernel/scan.rs`).

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
    // SAFETY: the map outlives the program, and user space runs one instance at a time.
    let scan = unsafe { &mut *SCAN.get_ptr_mut(0)? };
    // SAFETY: the helper has no preconditions.
    scan.task = unsafe { bpf_get_current_task() };
    let from = if scan.from == 0 { scan.task } else { scan.from };
    for chunk in 0..CHUNKS {
        let at = from + (chunk * CHUNK) as u64;
        // SAFETY: the helper checks the address, which may be unmapped behind the end of the object, and
        // writes within the element.
        unsafe {
            bpf_probe_read_kernel(scan.memory[chunk].as_mut_ptr().cast(), CHUNK as u32, at as *const _)
        };
    }
    Some(())
}
