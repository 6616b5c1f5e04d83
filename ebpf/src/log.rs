//! Writes events of processes and cgroups to this CPU's rings of events and paths. The reader drains the
//! rings at every tick, so it is woken only when half a ring is unread. `common/` describes how it detects
//! lost events.
//!
//! These programs run in the context of a task with preemption disabled and do not nest, so nothing else
//! writes to this CPU's rings.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid};
use wattrace_common::log::{ARGUMENTS_LEN, Event, EventKind, Logged, PATH_LEN};

use crate::clock;
use crate::cpu::this_cpu;
use crate::maps::{self, ARGUMENTS, EVENTS, EVENTS_PER_CPU, LOGGED, PATHS, PATHS_PER_CPU, WAKE};
use crate::process_stats;
use crate::task::{Object, Task};

/// A process was forked.
#[inline(always)]
pub fn fork<T: Task>(ctx: &impl EbpfContext, parent: T, child: T) -> Option<()> {
    let pid = child.pid();
    if child.tid() != pid {
        return None;
    }
    let event = Event {
        parent_pid: parent.pid(),
        parent_start: parent.process_start(),
        ..new_event(EventKind::Fork, pid, child.start())
    };
    Ring::of_this_cpu()?.write(ctx, event)
}

/// A process executed the program of `bprm`.
#[inline(always)]
pub fn exec<T: Task>(ctx: &impl EbpfContext, task: T, bprm: T) -> Option<()> {
    let ring = Ring::of_this_cpu()?;
    let name = bprm.field::<u64>(maps::BINPRM_FILENAME.load());
    let path = ring.write_path(name, write_arguments(&ring, task));
    ring.write(ctx, Event { path, ..new_event(EventKind::Exec, task.pid(), task.process_start()) })
}

/// A thread is exiting, and with the last thread its process.
#[inline(always)]
pub fn exit(ctx: &impl EbpfContext, task: impl Task) -> Option<()> {
    if task.live_threads() != 0 {
        if maps::THREAD_EXITS.load() == 0 {
            return None;
        }
        let event = Event {
            parent_pid: task.tid(),
            parent_start: task.start(),
            ..new_event(EventKind::ThreadExit, task.pid(), task.process_start())
        };
        return write_exit(ctx, task, event);
    }
    let event = Event {
        wait_status: task.wait_status(),
        ..new_event(EventKind::Exit, task.pid(), task.process_start())
    };
    write_exit(ctx, task, event)
}

#[inline(always)]
fn write_exit(ctx: &impl EbpfContext, task: impl Task, event: Event) -> Option<()> {
    let ring = Ring::of_this_cpu()?;
    process_stats::write(task, ring.next_event());
    ring.write(ctx, event)
}

/// A cgroup was created. `path` is its path below the root of its hierarchy.
#[inline(always)]
pub fn cgroup_created(ctx: &impl EbpfContext, cgroup: impl Object, path: u64) -> Option<()> {
    let hierarchy: u32 = cgroup.follow(maps::CGROUP_ROOT.load()).field(maps::CGROUP_ROOT_HIERARCHY.load());
    if hierarchy != 0 {
        return None;
    }
    let id = cgroup.follow(maps::CGROUP_KN.load()).field(maps::KN_ID.load());
    let ring = Ring::of_this_cpu()?;
    let path = ring.write_path(path, 0);
    ring.write(ctx, Event { path, cgroup: id, ..new_event(EventKind::Cgroup, 0, 0) })
}

#[inline(always)]
fn new_event(kind: EventKind, pid: u32, start: u64) -> Event {
    Event {
        kind: kind as u32,
        pid,
        start,
        at_ns: clock::now(),
        parent_pid: 0,
        wait_status: 0,
        parent_start: 0,
        // SAFETY: the helper has no preconditions.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        path: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
        uid: bpf_get_current_uid_gid() as u32,
        reserved: 0,
    }
}

/// Copies the beginning of `task`'s command line to the place that belongs to the next path. Returns its
/// length.
#[inline(always)]
fn write_arguments(ring: &Ring, task: impl Task) -> u32 {
    if maps::COMMAND_LINES.load() == 0 {
        return 0;
    }
    let Some(at) = ARGUMENTS.get_ptr_mut(ring.next_path()) else { return 0 };
    let (start, end) = task.arguments();
    let len = end.saturating_sub(start).min(ARGUMENTS_LEN as u64) as u32;
    // SAFETY: the helper checks the address and writes `len` bytes, at most the size of an element.
    let failed = unsafe { bpf_probe_read_user(at.cast(), len, start as *const _) };
    if failed == 0 { len } else { 0 }
}

/// This CPU's rings.
struct Ring {
    cpu: u32,
    /// Events that the reader has seen.
    read: u64,
    logged: *mut Logged,
    /// What `logged` holds: nothing else on this CPU changes it while the program runs.
    written: Logged,
}

impl Ring {
    #[inline(always)]
    fn of_this_cpu() -> Option<Self> {
        let (cpu, ledger) = this_cpu()?;
        let logged = LOGGED.get_ptr_mut(cpu)?;
        // SAFETY: the map outlives the program, and only this CPU writes the element.
        Some(Self { cpu, read: ledger.events_read.get(), logged, written: unsafe { logged.read() } })
    }

    /// The index of the next path.
    #[inline(always)]
    fn next_path(&self) -> u32 {
        let per_cpu = PATHS_PER_CPU.load();
        self.cpu * per_cpu + (self.written.paths as u32 & (per_cpu - 1))
    }

    /// The index of the next event.
    #[inline(always)]
    fn next_event(&self) -> u32 {
        let per_cpu = EVENTS_PER_CPU.load();
        self.cpu * per_cpu + (self.written.events as u32 & (per_cpu - 1))
    }

    /// Writes the path at address `from`, whose arguments are written already; an empty one where it may not
    /// be read. Returns its number.
    #[inline(always)]
    fn write_path(&self, from: u64, arguments_len: u32) -> u64 {
        if let Some(at) = PATHS.get_ptr_mut(self.next_path()) {
            // SAFETY: the map outlives the program, and nothing else refers to the element. The helper checks
            // the address.
            unsafe {
                let path = &mut *at;
                path.bytes[0] = 0;
                path.arguments_len = arguments_len;
                if maps::KERNEL_READS.load() != 0 {
                    let bytes = path.bytes.as_mut_ptr().cast();
                    bpf_probe_read_kernel_str(bytes, PATH_LEN as u32, from as *const _);
                }
            }
        }
        self.written.paths
    }

    /// Writes an event, and counts it and its path.
    #[inline(always)]
    fn write(self, ctx: &impl EbpfContext, event: Event) -> Option<()> {
        let per_cpu = EVENTS_PER_CPU.load();
        let number = self.written.events;
        // SAFETY: the map outlives the program, and nothing else refers to the element.
        unsafe { EVENTS.get_ptr_mut(self.next_event())?.write(event) };
        let has_path = event.kind == EventKind::Exec as u32 || event.kind == EventKind::Cgroup as u32;
        // Counted after they are written: a record that is counted is complete, also if a flush interrupts
        // this. SAFETY: as in `of_this_cpu`.
        unsafe {
            (&raw mut (*self.logged).paths).write_volatile(self.written.paths + u64::from(has_path));
            (&raw mut (*self.logged).events).write_volatile(number + 1);
        }
        if number + 1 - self.read == u64::from(per_cpu / 2) {
            WAKE.output(ctx, 0u32, 0);
        }
        Some(())
    }
}
