//! What a thread used besides CPU time, from the counters that the kernel keeps in its task: read when it
//! exits, so that a living one costs nothing. `common/` describes the figures.
//!
//! User space adds them up per process. `signal_struct` has such sums too, but not of threads that are
//! exiting beside the last one, nor of the time in which they waited for a CPU.

use wattrace_common::process_stats::ProcessStats;

use crate::maps::{self, PROCESS_STATS};
use crate::task::Task;

/// Writes what `task`, which exits, has used to the element `at`, and the peak of its process's memory.
#[inline(always)]
pub fn write(task: impl Task, at: u32) {
    if maps::PROCESS_STATS_ON.load() == 0 {
        return;
    }
    let Some(to) = PROCESS_STATS.get_ptr_mut(at) else { return };
    // SAFETY: the map outlives the program, and nothing else refers to the element.
    unsafe {
        to.write(ProcessStats {
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
            peak_rss_pages: task.follow(maps::TASK_SIGNAL.load()).field(maps::SIGNAL_MAXRSS.load()),
        });
    }
}
