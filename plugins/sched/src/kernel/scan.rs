//! For kernels without type information: finds the members of `task_struct` by their values. A program copies
//! the structure of the thread that runs it. Two of our threads know enough about themselves to recognise
//! their ids, start times, leader, exit signal and shared signal state in the copies.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _};
use wattrace_common::scan::Scan;
use wattrace_procfs::{Procfs, TICK_NANOS};

use super::attach::{load_raw, program_mut};
use super::error::{KernelError, failed, not_found};
use super::mapped::Mapped;
use super::offsets::Offsets;
use super::{OBJECT, loader};

/// A copy of a thread's `task_struct`, with what the thread knows about itself.
struct TaskCopy {
    tid: u32,
    pid: u32,
    start_ticks: u64,
    address: u64,
    memory: Vec<u8>,
}

/// Finds the offsets. Requires the permission to load programs.
///
/// # Errors
/// A member is not found, or found at several offsets.
pub(super) fn offsets() -> Result<Offsets, KernelError> {
    let mut scanner = Scanner::load()?;
    let other = std::thread::scope(|scope| {
        let thread = scope.spawn(|| scanner.own_task());
        thread
            .join()
            .unwrap_or_else(|_| Err(missing("anything: the thread that reads its own structure panicked")))
    })?;
    let leader = match scanner.leader(&other)? {
        Some(leader) => leader,
        None => return Err(missing("the main thread's task_struct")),
    };
    let tids = find(&other, |at| (word(&other, at), word(&other, at + 4)) == (other.tid, other.pid));
    let pid = one("task_struct.pid", tids)?;
    // `start_time` is the member before it, and has nearly the same value unless the machine has been
    // suspended.
    let is_start = |at: usize| at.is_multiple_of(8) && long(&other, at) / TICK_NANOS == other.start_ticks;
    let start = find(&other, |at| at > pid && is_start(at)).first().copied();
    let start = start.ok_or_else(|| missing("task_struct.start_boottime"))?;
    let start = if is_start(start + 8) { start + 8 } else { start };
    let group_leader = one("task_struct.group_leader", leader.group_leader)?;
    let mut exit_signal = find(&other, |at| at >= 8 && word(&other, at) == u32::MAX)
        .into_iter()
        .filter(|&at| word(&leader.task, at) == libc::SIGCHLD as u32 && at < pid)
        .filter(|&at| (word(&leader.task, at - 4), word(&leader.task, at - 8)) == (0, 0));
    let exit_signal = exit_signal.next_back().ok_or_else(|| missing("task_struct.exit_code"))?;
    let signal = scanner.signal(&other, &leader.task)?;
    Ok(Offsets {
        globals: vec![
            ("TASK_PID", pid as u32),
            ("TASK_TGID", pid as u32 + 4),
            ("TASK_START_BOOTTIME", start as u32),
            ("TASK_GROUP_LEADER", group_leader as u32),
            ("TASK_SIGNAL", signal as u32),
            ("TASK_EXIT_CODE", exit_signal as u32 - 4),
            ("SIGNAL_LIVE", SIGNAL_LIVE),
        ],
        ..Offsets::default()
    })
}

/// The pointers to a task's relatives lie within this many bytes after its ids.
const RELATIVES: usize = 192;

/// `signal_struct` begins with `sigcnt, live, nr_threads`, 32 bits each. While no thread comes or goes, all
/// of them are the number of threads.
const SIGNAL_LIVE: u32 = 4;

/// The main thread's structure, and the offsets in another thread's structure of pointers to it.
struct Leader {
    task: TaskCopy,
    group_leader: Vec<usize>,
}

struct Scanner {
    ebpf: Ebpf,
    scan: Mapped<Scan>,
}

impl Scanner {
    fn load() -> Result<Self, KernelError> {
        let loaded = loader::new().load(OBJECT);
        let mut ebpf = loaded.map_err(failed("load the eBPF object"))?;
        let scan = Mapped::take(&mut ebpf, "SCAN", 1)?;
        load_raw(&mut ebpf, "scan")?;
        Ok(Self { ebpf, scan })
    }

    /// Copies the memory at `from`, or the calling thread's `task_struct` if that is 0. Also returns the
    /// address of the latter.
    fn copy(&mut self, from: u64) -> Result<(u64, Vec<u8>), KernelError> {
        let scan = self.scan.at(0);
        // SAFETY: within the mapping. The kernel uses this element during the call below, nothing else does.
        unsafe { (&raw mut (*scan).from).write_volatile(from) };
        let step = "run program scan";
        let program: &mut RawTracePoint =
            program_mut(&mut self.ebpf, "scan")?.try_into().map_err(failed(step))?;
        program.test_run(RawTracePointRunOptions::new()).map_err(failed(step))?;
        // Not a volatile copy of the whole, which is half a megabyte of instructions.
        // SAFETY: within the mapping; the call has ended, so the kernel no longer writes there.
        let scan = unsafe { &*self.scan.at(0) };
        Ok((scan.task, scan.memory.concat()))
    }

    fn own_task(&mut self) -> Result<TaskCopy, KernelError> {
        let (address, memory) = self.copy(0)?;
        // SAFETY: it has no preconditions.
        let tid = unsafe { libc::gettid() } as u32;
        let stat = Procfs::default().stat(tid).ok_or_else(|| missing("our own thread in /proc"))?;
        let start_ticks = stat.start_ticks;
        Ok(TaskCopy { tid, pid: std::process::id(), start_ticks, address, memory })
    }

    /// The main thread's structure: the one that a pointer in `other` points to and whose thread id is the
    /// process id.
    fn leader(&mut self, other: &TaskCopy) -> Result<Option<Leader>, KernelError> {
        let Some(&pid_at) =
            find(other, |at| (word(other, at), word(other, at + 4)) == (other.tid, other.pid)).first()
        else {
            return Ok(None);
        };
        let pointers = find(other, |at| at.is_multiple_of(8) && is_pointer(long(other, at)));
        for &at in &pointers {
            let address = long(other, at);
            if address == other.address {
                continue;
            }
            let (_, memory) = self.copy(address)?;
            let task = TaskCopy { tid: other.pid, pid: other.pid, start_ticks: 0, address, memory };
            if (word(&task, pid_at), word(&task, pid_at + 4)) == (other.pid, other.pid) {
                // `group_leader` of the leader points to itself. The member is near the ids, after the
                // pointers to the parents. The copy reaches into the structures of other threads, which have
                // such pointers too.
                let near = pid_at..pid_at + RELATIVES;
                let same = |&&at: &&usize| {
                    near.contains(&at) && long(other, at) == address && long(&task, at) == address
                };
                let group_leader = pointers.iter().filter(same).copied().collect();
                return Ok(Some(Leader { task, group_leader }));
            }
        }
        Ok(None)
    }

    /// The offset of the pointer that both threads share, to a structure that begins with three times the
    /// number of our threads.
    fn signal(&mut self, other: &TaskCopy, leader: &TaskCopy) -> Result<usize, KernelError> {
        // The copy reaches into the structures of other threads, which have the same pointer: the first one
        // is ours.
        let mut pointers = HashSet::new();
        let mut shared = find(other, |at| {
            at.is_multiple_of(8) && is_pointer(long(other, at)) && long(other, at) == long(leader, at)
        });
        shared.retain(|&at| pointers.insert(long(other, at)));
        // The counts differ while threads come and go.
        let mut found = Vec::new();
        for _ in 0..TRIES {
            found.clear();
            for &at in &shared {
                let (_, memory) = self.copy(long(other, at))?;
                let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count) as u32;
                if [0, 4, 8].iter().all(|&at| u32_at(&memory, at) == threads) {
                    found.push(at);
                }
            }
            if found.len() == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        one("task_struct.signal", found)
    }
}

/// How often the threads are counted before the search fails.
const TRIES: usize = 500;

/// Whether this may be an address of the kernel: in the upper half of 57 bits, but not in the last page,
/// where the error numbers are.
fn is_pointer(value: u64) -> bool {
    (0xff00_0000_0000_0000..u64::MAX - 4095).contains(&value) && value.is_multiple_of(8)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn word(task: &TaskCopy, at: usize) -> u32 {
    u32_at(&task.memory, at)
}

fn long(task: &TaskCopy, at: usize) -> u64 {
    task.memory.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// The offsets, multiples of 4, for which `is_it`.
fn find(task: &TaskCopy, is_it: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..task.memory.len() - 8).step_by(4).filter(|&at| is_it(at)).collect()
}

fn one(what: &str, found: Vec<usize>) -> Result<usize, KernelError> {
    match found[..] {
        [at] => Ok(at),
        [] => Err(missing(what)),
        _ => Err(missing(&format!("{what}: it may be at any of the offsets {found:?}"))),
    }
}

fn missing(what: &str) -> KernelError {
    not_found("find the kernel's structures without type information", format!("cannot find {what}"))
}
