//! For kernels without type information: finds the members of `task_struct` by what they must hold. A program
//! copies the structure of the thread that runs it; two threads of ours know enough about themselves to tell
//! their ids, start times, leader, exit signal and shared signal state in the copies.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _};
use wattrace_common::scan::Scan;

use super::attach::patiently;
use super::mapped::Mapped;
use super::offsets::Offsets;
use super::{KernelError, OBJECT, refused};
use crate::proc::{start_ticks, tick_nanos};

/// A thread's `task_struct`, with what the thread knows of itself.
struct Seen {
    tid: u32,
    pid: u32,
    start_ticks: u64,
    address: u64,
    memory: Vec<u8>,
}

/// Finds the offsets. The caller must be able to load programs.
///
/// # Errors
/// A member is nowhere to be found, or in several places.
pub(super) fn offsets() -> Result<Offsets, KernelError> {
    let mut scanner = Scanner::load()?;
    let other = std::thread::scope(|scope| {
        let thread = scope.spawn(|| scanner.own_task());
        thread.join().unwrap_or_else(|_| Err(missing("anything: the thread that was to look panicked")))
    })?;
    let leader = match scanner.leader(&other)? {
        Some(leader) => leader,
        None => return Err(missing("the main thread's task_struct")),
    };
    let tids = find(&other, |at| (word(&other, at), word(&other, at + 4)) == (other.tid, other.pid));
    let pid = one("task_struct.pid", tids)?;
    // `start_time` comes right before, and has nearly the same value unless the machine was ever suspended.
    let is_start = |at: usize| at.is_multiple_of(8) && long(&other, at) / tick_nanos() == other.start_ticks;
    let start = find(&other, |at| at > pid && is_start(at)).first().copied();
    let start = start.ok_or_else(|| missing("task_struct.start_boottime"))?;
    let start = if is_start(start + 8) { start + 8 } else { start };
    let group_leader = one("task_struct.group_leader", leader.group_leader)?;
    let mut exit_signal = find(&other, |at| at >= 8 && word(&other, at) == u32::MAX)
        .into_iter()
        .filter(|&at| word(&leader.seen, at) == libc::SIGCHLD as u32 && at < pid)
        .filter(|&at| (word(&leader.seen, at - 4), word(&leader.seen, at - 8)) == (0, 0));
    let exit_signal = exit_signal.next_back().ok_or_else(|| missing("task_struct.exit_code"))?;
    let signal = scanner.signal(&other, &leader.seen)?;
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
        arguments: false,
        cgroups: false,
    })
}

/// Bytes behind the ids in which the pointers to a task's relatives lie.
const FAMILY: usize = 192;

/// `signal_struct` begins with `sigcnt, live, nr_threads`, 32 bits each: all the number of threads, as a
/// rule.
const SIGNAL_LIVE: u32 = 4;

/// The copy of the main thread's structure, and where in another thread's it is pointed to.
struct Leader {
    seen: Seen,
    group_leader: Vec<usize>,
}

struct Scanner {
    ebpf: Ebpf,
    scan: Mapped<Scan>,
}

impl Scanner {
    fn load() -> Result<Self, KernelError> {
        let mut ebpf =
            aya::EbpfLoader::new().btf(None).load(OBJECT).map_err(refused("load the eBPF object"))?;
        let scan = Mapped::take(&mut ebpf, "SCAN", 1)?;
        let mut scanner = Self { ebpf, scan };
        let program = scanner.program()?;
        patiently(|| program.load()).map_err(refused("load program scan"))?;
        Ok(scanner)
    }

    fn program(&mut self) -> Result<&mut RawTracePoint, KernelError> {
        let program =
            self.ebpf.program_mut("scan").ok_or_else(|| refused("find program scan")("it is missing"))?;
        program.try_into().map_err(refused("use program scan"))
    }

    /// Copies the memory at `from`, or the calling thread's `task_struct` if that is 0, whose address it
    /// returns.
    fn copy(&mut self, from: u64) -> Result<(u64, Vec<u8>), KernelError> {
        let scan = self.scan.at(0);
        // SAFETY: within the mapping; nobody else uses this element, and the kernel only during the call
        // below.
        unsafe { (&raw mut (*scan).from).write_volatile(from) };
        self.program()?.test_run(RawTracePointRunOptions::new()).map_err(refused("run program scan"))?;
        // SAFETY: as above.
        let scan = unsafe { scan.read_volatile() };
        Ok((scan.task, scan.memory.concat()))
    }

    fn own_task(&mut self) -> Result<Seen, KernelError> {
        let (address, memory) = self.copy(0)?;
        // SAFETY: it has no preconditions.
        let tid = unsafe { libc::gettid() } as u32;
        let start_ticks = start_ticks(tid).ok_or_else(|| missing("our own thread in /proc"))?;
        Ok(Seen { tid, pid: std::process::id(), start_ticks, address, memory })
    }

    /// The main thread's: what one of our pointers points to, where the process's id stands as the thread's
    /// too.
    fn leader(&mut self, other: &Seen) -> Result<Option<Leader>, KernelError> {
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
            let seen = Seen { tid: other.pid, pid: other.pid, start_ticks: 0, address, memory };
            if (word(&seen, pid_at), word(&seen, pid_at + 4)) == (other.pid, other.pid) {
                // The leader points to itself there, too. It is not far behind the ids, with a parent's
                // pointers between; the copy reaches into other threads' structures, which have such a
                // pointer as well.
                let near = pid_at..pid_at + FAMILY;
                let same = |&&at: &&usize| {
                    near.contains(&at) && long(other, at) == address && long(&seen, at) == address
                };
                let group_leader = pointers.iter().filter(same).copied().collect();
                return Ok(Some(Leader { seen, group_leader }));
            }
        }
        Ok(None)
    }

    /// What both threads point to and begins with three times the number of our threads.
    fn signal(&mut self, other: &Seen, leader: &Seen) -> Result<usize, KernelError> {
        // The copy reaches into other threads' structures, which have the same pointer further on: the first
        // is ours.
        let mut pointers = HashSet::new();
        let mut shared = find(other, |at| {
            at.is_multiple_of(8) && is_pointer(long(other, at)) && long(other, at) == long(leader, at)
        });
        shared.retain(|&at| pointers.insert(long(other, at)));
        // While threads come and go the counts are not all the same.
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

/// How often the threads are counted before it is given up.
const TRIES: usize = 500;

/// Whether this may be an address of the kernel's: in the upper half of 57 bits, but none of the last page,
/// which are errors.
fn is_pointer(value: u64) -> bool {
    (0xff00_0000_0000_0000..u64::MAX - 4095).contains(&value) && value.is_multiple_of(8)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn word(seen: &Seen, at: usize) -> u32 {
    u32_at(&seen.memory, at)
}

fn long(seen: &Seen, at: usize) -> u64 {
    seen.memory.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// Every fourth byte at which `is_it`.
fn find(seen: &Seen, is_it: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..seen.memory.len() - 8).step_by(4).filter(|&at| is_it(at)).collect()
}

fn one(what: &str, found: Vec<usize>) -> Result<usize, KernelError> {
    match found[..] {
        [at] => Ok(at),
        [] => Err(missing(what)),
        _ => Err(missing(&format!("{what} for certain: it may be at any of {found:?}"))),
    }
}

fn missing(what: &str) -> KernelError {
    refused("find the kernel's structures without type information")(format!("cannot find {what}"))
}
