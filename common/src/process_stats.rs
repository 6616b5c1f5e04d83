//! What a thread used besides CPU time, as the kernel counts it in its task. The figures of a process are the
//! sum of its threads', living or exited.

use crate::Pod;

/// Element of the map `PROCESS_STATS`, at the index of its `Exit` or `ThreadExit` event in `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// Context switches because a thread waited.
    pub voluntary_switches: u64,
    /// Context switches because a thread was preempted.
    pub involuntary_switches: u64,
    /// Page faults that needed no reading.
    pub minor_faults: u64,
    /// Page faults that needed reading.
    pub major_faults: u64,
    /// Bytes that system calls read, from wherever they came.
    pub io_read: u64,
    /// Bytes that system calls wrote, wherever they went.
    pub io_written: u64,
    /// Bytes that were read from storage.
    pub disk_read: u64,
    /// Bytes that are or will be written to storage. May be less than `disk_cancelled`.
    pub disk_written: u64,
    /// Bytes of files that were truncated or removed before they were written.
    pub disk_cancelled: u64,
    /// Time in which threads were ready and waited for a CPU, ns.
    pub run_delay_ns: u64,
    /// The most memory that the process had at once until then, pages.
    pub peak_rss_pages: u64,
}

impl ProcessStats {
    /// Adds those of another thread of the same process.
    pub fn add(&mut self, other: &Self) {
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.io_read += other.io_read;
        self.io_written += other.io_written;
        self.disk_read += other.disk_read;
        self.disk_written += other.disk_written;
        self.disk_cancelled += other.disk_cancelled;
        self.run_delay_ns += other.run_delay_ns;
        self.peak_rss_pages = self.peak_rss_pages.max(other.peak_rss_pages);
    }
}

// SAFETY: integers, in the layout of C.
unsafe impl Pod for ProcessStats {}

/// A living thread: what the iterator over all threads writes of each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LivingThread {
    /// Its process.
    pub pid: u32,
    /// Padding.
    pub reserved: u32,
    /// When its process's leader was started (`CLOCK_BOOTTIME`, ns).
    pub process_start: u64,
    /// What it has used until now. The peak of memory is zero.
    pub stats: ProcessStats,
}

// SAFETY: integers, in the layout of C.
unsafe impl Pod for LivingThread {}

const _: () = assert!(size_of::<ProcessStats>() == 88);
const _: () = assert!(size_of::<LivingThread>() == 104);
