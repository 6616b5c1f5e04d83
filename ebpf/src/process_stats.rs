//! What a thread used besides CPU time, from the counters that the kernel keeps in its task: read when it
//! exits, and of all living threads when user space asks for it. `common/` describes the figures.
//!
//! User space adds them up per process. `signal_struct` has such sums too, but not of threads that are
//! exiting beside the last one, nor of the time in which they waited for a CPU.

use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::generated::bpf_seq_write;
use wattrace_common::process_stats::{LivingThread, ProcessStats};

use crate::maps::{self, PROCESS_STATS};
use crate::task::{Object as _, Task, Typed};

/// Writes what `task`, which exits, has used to the element `at`, and the peak of its process's memory.
#[inline(always)]
pub fn write(task: impl Task, at: u32) {
    if maps::PROCESS_STATS_ON.load() == 0 {
        return;
    }
    let Some(to) = PROCESS_STATS.get_ptr_mut(at) else { return };
    let peak_rss_pages = task.follow(maps::TASK_SIGNAL.load()).field(maps::SIGNAL_MAXRSS.load());
    // SAFETY: the map outlives the program, and nothing else refers to the element.
    unsafe { to.write(ProcessStats { peak_rss_pages, ..counters(task) }) };
}

/// Without the peak of memory, which the kernel keeps when a process exits.
#[inline(always)]
fn counters(task: impl Task) -> ProcessStats {
    ProcessStats {
        voluntary_switches: task.field(maps::TASK_NVCSW.load()),
        involuntary_switches: task.field(maps::TASK_NIVCSW.load()),
        minor_faults: task.field(maps::TASK_MIN_FLT.load()),
        major_faults: task.field(maps::TASK_MAJ_FLT.load()),
        io_read: task.field(maps::TASK_RCHAR.load()),
        io_written: task.field(maps::TASK_WCHAR.load()),
        disk_read: task.field(maps::TASK_READ_BYTES.load()),
        disk_written: task.field(maps::TASK_WRITE_BYTES.load()),
        disk_cancelled: task.field(maps::TASK_CANCELLED_BYTES.load()),
        run_delay_ns: task.field(maps::TASK_RUN_DELAY.load()),
        peak_rss_pages: 0,
    }
}

/// The kernel's `struct bpf_iter__task`: the context of an iterator over threads.
#[repr(C)]
pub struct Iteration {
    meta: *const Meta,
    /// Null at the end.
    task: *const u8,
}

/// The beginning of the kernel's `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// Writes the thread to the file that user space reads, unless it has begun to exit: then [`write()`] has
/// reported it, or will.
#[inline(always)]
pub fn iterate(iteration: &Iteration) {
    /// The kernel's `PF_EXITING`.
    const EXITING: u32 = 4;
    if iteration.task.is_null() {
        return;
    }
    let task = Typed(iteration.task);
    if task.field::<u32>(maps::TASK_FLAGS.load()) & EXITING != 0 {
        return;
    }
    let thread = LivingThread {
        pid: task.pid(),
        reserved: 0,
        process_start: task.process_start(),
        stats: counters(task),
    };
    // SAFETY: the kernel passes a file that is open for this iteration, and the helper copies `thread`.
    unsafe {
        let seq = (*iteration.meta).seq;
        bpf_seq_write(seq, (&raw const thread).cast(), size_of::<LivingThread>() as u32);
    }
}
