//! Reads kernel structures. A pointer that a tp_btf program gets as an argument may be followed with plain
//! loads, which the verifier checks against the kernel's BTF. Any other pointer needs a helper, which costs
//! some nanoseconds more.

use aya_ebpf::helpers::bpf_probe_read_kernel;

use crate::maps;

/// A kernel object whose fields can be read at offsets that are known at load time.
pub trait Object: Copy {
    /// The field of type `T` at `offset`; zero if it cannot be read.
    fn field<T: Copy + Default>(self, offset: u32) -> T;
    /// The object that the pointer at `offset` points to.
    fn follow(self, offset: u32) -> Self;
}

/// An object whose type the verifier knows.
#[derive(Clone, Copy)]
pub struct Typed(pub *const u8);

impl Object for Typed {
    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: u32) -> T {
        // SAFETY: the verifier refuses the program unless the kernel's BTF has such a field there.
        unsafe { self.0.add(offset as usize).cast::<T>().read_volatile() }
    }
    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        // SAFETY: as for `field`; the verifier gives the loaded pointer the field's type.
        Self(unsafe { self.0.add(offset as usize).cast::<*const u8>().read_volatile() })
    }
}

/// An object that only helpers may read.
#[derive(Clone, Copy)]
pub struct Probed(pub *const u8);

impl Object for Probed {
    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: u32) -> T {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(self.0.add(offset as usize).cast::<T>()) }.unwrap_or_default()
    }
    #[inline(always)]
    fn follow(self, offset: u32) -> Self {
        Self(self.field::<u64>(offset) as *const u8)
    }
}

/// The fields of a task that accounting needs.
pub trait Task: Object {
    /// The thread's id.
    #[inline(always)]
    fn tid(self) -> u32 {
        self.field(maps::TASK_PID.load())
    }
    /// The process's id.
    #[inline(always)]
    fn pid(self) -> u32 {
        self.field(maps::TASK_TGID.load())
    }
    /// When the thread was started (`CLOCK_BOOTTIME`, ns).
    #[inline(always)]
    fn start(self) -> u64 {
        self.field(maps::TASK_START_BOOTTIME.load())
    }
    /// When its process's leader was started (`CLOCK_BOOTTIME`, ns).
    #[inline(always)]
    fn process_start(self) -> u64 {
        self.follow(maps::TASK_GROUP_LEADER.load()).field(maps::TASK_START_BOOTTIME.load())
    }
    /// Threads of the process that have not begun to exit.
    #[inline(always)]
    fn live_threads(self) -> u32 {
        self.follow(maps::TASK_SIGNAL.load()).field(maps::SIGNAL_LIVE.load())
    }
    /// The status with which the thread ends, as `wait` returns it.
    #[inline(always)]
    fn wait_status(self) -> u32 {
        self.field(maps::TASK_EXIT_CODE.load())
    }
    /// The clock of the task's run queue, ns, which the scheduler updates at the beginning of every switch.
    /// Requires that [`maps::TASK_CFS_RQ`] is known.
    #[inline(always)]
    fn run_queue_clock(self) -> u64 {
        let rq = self.follow(maps::TASK_CFS_RQ.load()).follow(maps::CFS_RQ_RQ.load());
        rq.field(maps::RQ_CLOCK.load())
    }
    /// Start and end of the command line in the memory of the process.
    #[inline(always)]
    fn arguments(self) -> (u64, u64) {
        let mm = self.follow(maps::TASK_MM.load());
        (mm.field(maps::MM_ARG_START.load()), mm.field(maps::MM_ARG_END.load()))
    }
}

impl<T: Object> Task for T {}
