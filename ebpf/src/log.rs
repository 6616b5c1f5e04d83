//! What happens to processes and cgroups, written to this CPU's rings of events and paths. The reader looks
//! at every tick anyway, so it is woken only when half a ring is new to it. `common/` tells how it knows what
//! it missed.
//!
//! These programs run in a task's context with preemption off and do not nest: nobody else writes to this
//! CPU's rings.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid};
use wattrace_common::log::{ARGUMENTS_LEN, Event, EventKind, Logged, PATH_LEN};

use crate::clock;
use crate::ledger::this_cpu;
use crate::maps::{self, ARGUMENTS, EVENTS, EVENTS_PER_CPU, LOGGED, PATHS, PATHS_PER_CPU, WAKE};
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
        ..about(EventKind::Fork, pid, child.start())
    };
    Ring::of_this_cpu()?.write(ctx, event)
}

/// A process executed the program of `bprm`.
#[inline(always)]
pub fn exec<T: Task>(ctx: &impl EbpfContext, task: T, bprm: T) -> Option<()> {
    let ring = Ring::of_this_cpu()?;
    let name = bprm.field::<u64>(maps::BINPRM_FILENAME.load());
    let path = ring.write_path(name, arguments(&ring, task));
    ring.write(ctx, Event { path, ..about(EventKind::Exec, task.pid(), task.process_start()) })
}

/// A thread is exiting; if it is the last of its process, so is the process.
#[inline(always)]
pub fn exit(ctx: &impl EbpfContext, task: impl Task) -> Option<()> {
    if task.live_threads() != 0 {
        if maps::THREAD_EXITS.load() == 0 {
            return None;
        }
        let about = about(EventKind::ThreadExit, task.pid(), task.process_start());
        let event = Event { parent_pid: task.tid(), parent_start: task.start(), ..about };
        return Ring::of_this_cpu()?.write(ctx, event);
    }
    let wait_status = task.wait_status();
    let event = Event { wait_status, ..about(EventKind::Exit, task.pid(), task.process_start()) };
    Ring::of_this_cpu()?.write(ctx, event)
}

/// A cgroup was made, whose `path` below its root is given.
#[inline(always)]
pub fn cgroup_made(ctx: &impl EbpfContext, cgroup: impl Object, path: u64) -> Option<()> {
    let hierarchy: u32 = cgroup.follow(maps::CGROUP_ROOT.load()).field(maps::CGROUP_ROOT_HIERARCHY.load());
    if hierarchy != 0 {
        return None;
    }
    let id = cgroup.follow(maps::CGROUP_KN.load()).field(maps::KN_ID.load());
    let ring = Ring::of_this_cpu()?;
    let path = ring.write_path(path, 0);
    ring.write(ctx, Event { path, cgroup: id, ..about(EventKind::Cgroup, 0, 0) })
}

#[inline(always)]
fn about(kind: EventKind, pid: u32, start: u64) -> Event {
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

/// Copies the beginning of `task`'s command line beside the next path. Returns its length.
#[inline(always)]
fn arguments(ring: &Ring, task: impl Task) -> u32 {
    if maps::COMMAND_LINES.load() == 0 {
        return 0;
    }
    let Some(place) = ARGUMENTS.get_ptr_mut(ring.path_place()) else { return 0 };
    let (start, end) = task.arguments();
    let len = end.saturating_sub(start).min(ARGUMENTS_LEN as u64) as u32;
    // SAFETY: the helper checks the address and writes `len` bytes, no more than an element has.
    let failed = unsafe { bpf_probe_read_user(place.cast(), len, start as *const _) };
    if failed == 0 { len } else { 0 }
}

/// This CPU's rings.
struct Ring {
    cpu: u32,
    /// Events that the reader knows of.
    read: u64,
    logged: &'static mut Logged,
}

impl Ring {
    #[inline(always)]
    fn of_this_cpu() -> Option<Self> {
        let (cpu, ledger) = this_cpu()?;
        // SAFETY: the map outlives the program, and no other CPU writes this element.
        Some(Self { cpu, read: ledger.events_read, logged: unsafe { &mut *LOGGED.get_ptr_mut(cpu)? } })
    }

    /// Where the next path goes.
    #[inline(always)]
    fn path_place(&self) -> u32 {
        let per_cpu = PATHS_PER_CPU.load();
        self.cpu * per_cpu + (self.logged.paths as u32 & (per_cpu - 1))
    }

    /// Writes the path at `from`, whose arguments were written before. Returns its number.
    #[inline(always)]
    fn write_path(&self, from: u64, arguments_len: u32) -> u64 {
        if let Some(place) = PATHS.get_ptr_mut(self.path_place()) {
            // SAFETY: the map outlives the program, and nobody else writes this element; the helper checks
            // the address.
            unsafe {
                let path = &mut *place;
                path.bytes[0] = 0;
                path.arguments_len = arguments_len;
                bpf_probe_read_kernel_str(path.bytes.as_mut_ptr().cast(), PATH_LEN as u32, from as *const _);
            }
        }
        self.logged.paths
    }

    /// Writes an event, and with it the path it names.
    #[inline(always)]
    fn write(self, ctx: &impl EbpfContext, event: Event) -> Option<()> {
        let per_cpu = EVENTS_PER_CPU.load();
        let number = self.logged.events;
        let place = self.cpu * per_cpu + (number as u32 & (per_cpu - 1));
        // SAFETY: the map outlives the program, and nobody else writes this element.
        unsafe { EVENTS.get_ptr_mut(place)?.write(event) };
        let named = event.kind == EventKind::Exec as u32 || event.kind == EventKind::Cgroup as u32;
        // Counted only now: what is counted is whole, wherever a flush interrupts this.
        // SAFETY: a word of the element that is borrowed.
        unsafe {
            (&raw mut self.logged.paths).write_volatile(self.logged.paths + u64::from(named));
            (&raw mut self.logged.events).write_volatile(number + 1);
        }
        if number + 1 - self.read == u64::from(per_cpu / 2) {
            WAKE.output(ctx, 0u32, 0);
        }
        Some(())
    }
}
