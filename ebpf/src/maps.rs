//! The maps and globals, which user space sizes and sets before loading. `common/` describes the elements.
//!
//! The globals are constants to the verifier, which removes the code that they disable: a feature that is off
//! costs nothing.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerfEventArray};
use wattrace_common::counters::Counts;
use wattrace_common::ledger::{Cpu, Entry, Slot};
use wattrace_common::log::{Arguments, Event, Logged, Path};
use wattrace_common::process_stats::ProcessStats;

/// One ledger per possible CPU.
#[map]
pub static CPUS: Array<Cpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Two pages of entries per possible CPU.
#[map]
pub static ENTRIES: Array<Entry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One index per possible CPU.
#[map]
pub static INDEX: Array<Slot> = Array::with_max_entries(1, 0);

/// As many elements as `ENTRIES` if counters are read, else one.
#[map]
pub static COUNTS: Array<Counts> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The cycle counters, by CPU.
#[map]
pub static CYCLES: PerfEventArray<u64> = PerfEventArray::new(0);
/// The counters of instructions, by CPU.
#[map]
pub static INSTRUCTIONS: PerfEventArray<u64> = PerfEventArray::new(0);
/// The counters of cache misses, by CPU.
#[map]
pub static CACHE_MISSES: PerfEventArray<u64> = PerfEventArray::new(0);

/// One element: the cost of reading a counter, ns.
#[map]
pub static COUNTER_COST: Array<u64> = Array::with_max_entries(1, 0);

/// A ring of events per possible CPU.
#[map]
pub static EVENTS: Array<Event> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A ring of paths per possible CPU.
#[map]
pub static PATHS: Array<Path> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// As many elements as `PATHS` if command lines are read, else one.
#[map]
pub static ARGUMENTS: Array<Arguments> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// As many elements as `EVENTS` if what processes used besides CPU time is read, else one.
#[map]
pub static PROCESS_STATS: Array<ProcessStats> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How much each CPU has logged.
#[map]
pub static LOGGED: Array<Logged> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Wakes the reader when a page or a ring fills up; the data that is sent has no meaning. Unlike other
/// buffers, those of perf may be written while the scheduler holds its locks.
#[map]
pub static WAKE: PerfEventArray<u32> = PerfEventArray::new(0);

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident: $value:expr;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub static $name: Global<u32> = Global::new($value);)*
    };
}

globals! {
    /// Entries on a page; a power of two.
    ENTRIES_PER_PAGE: 1;
    /// Events in a CPU's ring; a power of two.
    EVENTS_PER_CPU: 1;
    /// Paths in a CPU's ring; a power of two.
    PATHS_PER_CPU: 1;
    /// Bit set of the counters to read at every switch.
    COUNTERS: 0;
    /// Whether CPUs share cores: if so, an entry also has the time during which the sibling was busy.
    SHARED_CORES: 0;
    /// Whether interrupts are accounted separately.
    SEPARATE_IRQ: 0;
    /// Whether helpers may read the kernel's memory, which `lockdown=confidentiality` forbids. Members of the
    /// objects whose types the verifier knows can be read anyway; text can't.
    KERNEL_READS: 1;
    /// Whether command lines are read.
    COMMAND_LINES: 0;
    /// Whether exits are logged of threads that are not the last of their process.
    THREAD_EXITS: 0;
    /// Whether what a thread used besides CPU time is read when it exits.
    PROCESS_STATS_ON: 0;
    /// Whether programs may write log messages (`aya-log`), which go through the kernel's ring buffer.
    MESSAGES: 0;
    // Byte offsets in the running kernel's structures: Rust emits no CO-RE relocations.
    /// `task_struct.pid`, the thread's id.
    TASK_PID: 0;
    /// `task_struct.tgid`, the process's id.
    TASK_TGID: 0;
    /// `task_struct.start_boottime`.
    TASK_START_BOOTTIME: 0;
    /// `task_struct.group_leader`.
    TASK_GROUP_LEADER: 0;
    /// `task_struct.signal`.
    TASK_SIGNAL: 0;
    /// `task_struct.exit_code`.
    TASK_EXIT_CODE: 0;
    /// `task_struct.se.cfs_rq`. 0: this kernel has none, and the scheduler's clock cannot be read.
    TASK_CFS_RQ: 0;
    /// `task_struct.mm`.
    TASK_MM: 0;
    /// `cfs_rq.rq`.
    CFS_RQ_RQ: 0;
    /// `rq.clock`.
    RQ_CLOCK: 0;
    /// `mm_struct.arg_start`.
    MM_ARG_START: 0;
    /// `mm_struct.arg_end`.
    MM_ARG_END: 0;
    /// `signal_struct.live`.
    SIGNAL_LIVE: 0;
    /// `signal_struct.maxrss`.
    SIGNAL_MAXRSS: 0;
    /// `task_struct.nvcsw`.
    TASK_NVCSW: 0;
    /// `task_struct.nivcsw`.
    TASK_NIVCSW: 0;
    /// `task_struct.min_flt`.
    TASK_MIN_FLT: 0;
    /// `task_struct.maj_flt`.
    TASK_MAJ_FLT: 0;
    /// `task_struct.ioac.rchar`.
    TASK_RCHAR: 0;
    /// `task_struct.ioac.wchar`.
    TASK_WCHAR: 0;
    /// `task_struct.ioac.read_bytes`.
    TASK_READ_BYTES: 0;
    /// `task_struct.ioac.write_bytes`.
    TASK_WRITE_BYTES: 0;
    /// `task_struct.ioac.cancelled_write_bytes`.
    TASK_CANCELLED_BYTES: 0;
    /// `task_struct.sched_info.run_delay`.
    TASK_RUN_DELAY: 0;
    /// `task_struct.flags`.
    TASK_FLAGS: 0;
    /// `linux_binprm.filename`.
    BINPRM_FILENAME: 0;
    /// `cgroup.kn`.
    CGROUP_KN: 0;
    /// `cgroup.root`.
    CGROUP_ROOT: 0;
    /// `kernfs_node.id`.
    KN_ID: 0;
    /// `cgroup_root.hierarchy_id`: 0 for cgroup v2.
    CGROUP_ROOT_HIERARCHY: 0;
}
