//! What happens to processes, told through the ring buffer. The reader looks at every tick anyway, so it is woken only
//! when the buffer fills or a ledger's page does. What finds no room is counted; `plugins/sched` then repairs from /proc.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE};
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_smp_processor_id, bpf_ktime_get_ns,
    bpf_probe_read_kernel_str_bytes,
};
use aya_log_ebpf::warn;
use wattrace_common::{EXE_LEN, Event, EventKind, ExecEvent};

use crate::maps::{self, CPUS, EVENTS, PRESSURE, pressure};
use crate::task::{Task, TypedTask};

/// A process was forked.
#[inline(always)]
pub fn fork(parent: TypedTask, child: TypedTask) {
    let pid = child.pid();
    if child.tid() != pid {
        return;
    }
    let event = Event {
        parent_pid: parent.pid(),
        parent_start: parent.process_start(),
        ..about(EventKind::Fork, pid, child.start())
    };
    send(event);
}

/// A process executed the program of `bprm`.
#[inline(always)]
pub fn exec(task: TypedTask, bprm: *const u8) {
    let Some(mut record) = EVENTS.reserve::<ExecEvent>(0) else { return lost() };
    let event = about(EventKind::Exec, task.pid(), task.process_start());
    record.write(ExecEvent { event, exe: [0; EXE_LEN] });
    // SAFETY: the verifier knows `bprm`'s type and checks the load.
    let name = unsafe { bprm.add(maps::BINPRM_FILENAME.load() as usize).cast::<*const u8>().read_volatile() };
    // SAFETY: the record was written above; the helper checks `name` and writes within `exe`.
    unsafe {
        let exe = &mut (*record.as_mut_ptr()).exe;
        let _ = bpf_probe_read_kernel_str_bytes(name, exe);
    }
    record.submit(wakeup());
}

/// A thread is exiting; if it is the last of its process, so is the process.
#[inline(always)]
pub fn exit(task: TypedTask) {
    if task.live_threads() != 0 {
        return;
    }
    let wait_status = task.wait_status();
    send(Event { wait_status, ..about(EventKind::Exit, task.pid(), task.process_start()) });
}

/// If a page is filling, says so, which wakes the reader. Called wherever threads come and go: that is what fills pages.
#[inline(always)]
pub fn tell_pressure<C: EbpfContext>(ctx: &C) {
    let Some(level) = PRESSURE.get_ptr_mut(0) else { return };
    // SAFETY: the map outlives the program; one aligned word.
    let raised = unsafe { level.read_volatile() };
    if raised == pressure::NONE {
        return;
    }
    // SAFETY: as above.
    unsafe { level.write_volatile(pressure::NONE) };
    if raised == pressure::FULL {
        warn!(ctx, "a ledger's page is full: time goes to its overflow entry until it is read");
    }
    match EVENTS.reserve::<Event>(0) {
        Some(mut record) => {
            record.write(about(EventKind::Pressure, 0, 0));
            record.submit(BPF_RB_FORCE_WAKEUP.into());
        }
        None => lost(),
    }
}

#[inline(always)]
fn about(kind: EventKind, pid: u32, start: u64) -> Event {
    Event {
        kind: kind as u32,
        pid,
        start,
        // SAFETY: these helpers have no preconditions.
        at_ns: unsafe { bpf_ktime_get_ns() },
        parent_pid: 0,
        wait_status: 0,
        parent_start: 0,
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

#[inline(always)]
fn send(event: Event) {
    match EVENTS.reserve::<Event>(0) {
        Some(mut record) => {
            record.write(event);
            record.submit(wakeup());
        }
        None => lost(),
    }
}

#[inline(always)]
fn wakeup() -> u64 {
    let half_full = EVENTS.query(BPF_RB_AVAIL_DATA.into()) > EVENTS.query(BPF_RB_RING_SIZE.into()) / 2;
    (if half_full { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }).into()
}

#[inline(always)]
fn lost() {
    // SAFETY: the helper has no preconditions; the element is written by this CPU only.
    unsafe {
        if let Some(cpu) = CPUS.get_ptr_mut(bpf_get_smp_processor_id()) {
            (*cpu).events_lost += 1;
        }
    }
}
