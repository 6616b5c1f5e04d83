//! The kernel programs, loaded: attaching them, closing the ledgers' pages, and the memory they are read from.
//! What lies there is described in `common/`; what becomes of it in `processes.rs`.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};

use aya::maps::{Map, MapData, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun as _};
use aya::{Btf, Ebpf, EbpfLoader};
use tracing::debug;
use wattrace_api::{Finding, Verdict};
use wattrace_common::{Cpu, Entry, INDEX_SLOTS_PER_ENTRY, Page};

use crate::btf;
use crate::requirements::{self, BTF_PATH, Facts};

/// Why the kernel programs could not be set going.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Something is missing, and what to do about it is known.
    #[error("{what} is required, but found: {found}. Remedy: {remedy}")]
    Requirement {
        /// What is required.
        what: String,
        /// What was found.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// The kernel said no to something that should have worked.
    #[error("cannot {doing}: {cause}. `wattrace doctor` checks what is needed")]
    Refused {
        /// The step.
        doing: String,
        /// The library's chain of causes.
        cause: String,
    },
}

/// The program object that `cargo xtask build-ebpf` made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WATTRACE_EBPF_OBJECT"));

/// (structure, member) whose offset is set as a global before loading.
const OFFSETS: [(&str, &str, &str); 8] = [
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_START_BOOTTIME", "task_struct", "start_boottime"),
    ("TASK_GROUP_LEADER", "task_struct", "group_leader"),
    ("TASK_SIGNAL", "task_struct", "signal"),
    ("TASK_EXIT_CODE", "task_struct", "exit_code"),
    ("SIGNAL_LIVE", "signal_struct", "live"),
    ("BINPRM_FILENAME", "linux_binprm", "filename"),
];

/// The loaded and attached programs and their maps. Dropping it detaches them.
pub struct Kernel {
    ebpf: Ebpf,
    cpus: Mapped<Cpu>,
    entries: Mapped<Entry>,
    entries_per_page: usize,
    /// What happened to processes.
    pub events: RingBuf<MapData>,
}

/// What closing a CPU's page came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// It is closed and can be read.
    Closed,
    /// The CPU is offline: its page stays open.
    Offline,
}

impl Kernel {
    /// Loads the programs for `possible_cpus`, attaches them and begins accounting on every CPU that is online.
    ///
    /// # Errors
    /// [`KernelError`]: what is missing, or which step the kernel refused.
    pub fn load(possible_cpus: usize, ledger_mib: u32) -> Result<Self, KernelError> {
        let missing =
            requirements::check(&Facts::gather()).into_iter().find(|f| f.verdict == Verdict::Missing);
        if let Some(Finding { what, found, remedy, .. }) = missing {
            return Err(KernelError::Requirement { what, found, remedy });
        }
        lift_memlock_limit();
        let entries_per_page = entries_per_page(possible_cpus, ledger_mib);
        let kernel_btf = std::fs::read(BTF_PATH).map_err(refused(format!("read {BTF_PATH}")))?;
        let offsets = btf::Btf::parse(&kernel_btf)
            .and_then(|b| b.offsets(&OFFSETS.map(|(_, of, member)| (of, member))))
            .map_err(refused("find the kernel's structures"))?;
        let aya_btf =
            Btf::parse(&kernel_btf, aya::Endianness::default()).map_err(refused("parse the kernel's BTF"))?;
        drop(kernel_btf);

        let cpus = possible_cpus as u32;
        let entries = entries_per_page as u32;
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(&aya_btf))
            .override_global("ENTRIES_PER_PAGE", &entries, true)
            .map_max_entries("CPUS", cpus)
            .map_max_entries("ENTRIES", 2 * cpus * entries)
            .map_max_entries("INDEX", cpus * entries * INDEX_SLOTS_PER_ENTRY);
        for ((global, ..), offset) in OFFSETS.iter().zip(&offsets) {
            loader.override_global(global, offset, true);
        }
        let mut ebpf = loader.load(OBJECT).map_err(refused("load the eBPF object"))?;
        debug!(entries_per_page, possible_cpus, "loaded the eBPF object");

        let cpus = Mapped::new(&mut ebpf, "CPUS", possible_cpus)?;
        let entries = Mapped::new(&mut ebpf, "ENTRIES", 2 * possible_cpus * entries_per_page)?;
        let events = match ebpf.take_map("EVENTS").map(RingBuf::try_from) {
            Some(Ok(events)) => events,
            Some(Err(e)) => return Err(refused("map the ring buffer")(e)),
            None => return Err(refused("find the map EVENTS in the eBPF object")("it is missing")),
        };
        let mut kernel = Self { ebpf, cpus, entries, entries_per_page, events };
        kernel.load_flush()?;
        // Accounting starts on a CPU with its first flush, so the switch program has to be there before.
        for program in ["sched_process_fork", "sched_process_exec", "sched_process_exit", "sched_switch"] {
            kernel.attach(program, program, &aya_btf)?;
        }
        // BTF parsed into objects is tens of megabytes of small allocations; the heap would keep the pages.
        drop(aya_btf);
        // SAFETY: it has no preconditions.
        unsafe { libc::malloc_trim(0) };
        Ok(kernel)
    }

    fn load_flush(&mut self) -> Result<(), KernelError> {
        let program: &mut RawTracePoint = self.program_mut("flush")?;
        program.load().map_err(refused("load program flush"))
    }

    fn attach(&mut self, name: &str, tracepoint: &str, btf: &Btf) -> Result<(), KernelError> {
        let program: &mut BtfTracePoint = self.program_mut(name)?;
        program.load(tracepoint, btf).map_err(refused(format!("load program {name}")))?;
        program.attach().map_err(refused(format!("attach program {name}")))?;
        Ok(())
    }

    fn program_mut<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, KernelError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        let program = self.ebpf.program_mut(name);
        let program =
            program.ok_or_else(|| refused(format!("find program {name}"))("it is not in the eBPF object"))?;
        program.try_into().map_err(refused(format!("use program {name}")))
    }

    /// The loaded object, for diagnostics (`aya-log`).
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Charges the running slice on `cpu` and closes its page: the first time, begins its accounting.
    ///
    /// # Errors
    /// [`KernelError::Refused`] if the kernel can't run the program there.
    pub fn flush(&self, cpu: usize) -> Result<Flush, KernelError> {
        let doing = || format!("close the ledger of CPU {cpu}");
        let program =
            self.ebpf.program("flush").ok_or_else(|| refused(doing())("program flush is missing"))?;
        let program: &RawTracePoint = program.try_into().map_err(refused(doing()))?;
        let options = RawTracePointRunOptions { cpu: Some(cpu as u32), ..Default::default() };
        match program.test_run(options) {
            Ok(_) => {
                // The program ran before the call returned; its writes are read through a mapping next.
                fence(Ordering::Acquire);
                Ok(Flush::Closed)
            }
            Err(ProgramError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENXIO) => {
                Ok(Flush::Offline)
            }
            Err(e) => Err(refused(doing())(e)),
        }
    }

    /// The page of `cpu` that was closed last, and its entries. They stay as they are until the next [`Kernel::flush`] of
    /// that CPU, which the exclusive borrow keeps away.
    pub fn closed_page(&mut self, cpu: usize) -> (Page, &[Entry]) {
        let ledger = self.cpus.at(cpu);
        // SAFETY: `ledger` points into the mapping. The kernel writes these two fields in `flush` only.
        let (page, closed_half) = unsafe {
            let page = (&raw const (*ledger).closed).read_volatile();
            (page, 1 - ((&raw const (*ledger).page).read_volatile() & 1) as usize)
        };
        let first = (2 * cpu + closed_half) * self.entries_per_page;
        let count = (page.count as usize).min(self.entries_per_page);
        // SAFETY: within the mapping, since cpu and half are; initialised by the kernel (zeroed at least), and not
        // written while this half is the closed one.
        (page, unsafe { std::slice::from_raw_parts(self.entries.at(first), count) })
    }

    /// Events that found no room in the ring buffer, over all CPUs, since loading.
    pub fn events_lost(&self) -> u64 {
        // SAFETY: within the mapping; one aligned word, which the kernel may be writing.
        self.sum(|cpu| unsafe { (&raw const (*cpu).events_lost).read_volatile() }.into())
    }

    /// Context switches seen, over all CPUs, since loading.
    pub fn switches(&self) -> u64 {
        // SAFETY: as for `events_lost`.
        self.sum(|cpu| unsafe { (&raw const (*cpu).switches).read_volatile() })
    }

    fn sum(&self, field: impl Fn(*const Cpu) -> u64) -> u64 {
        (0..self.cpus.len).map(|cpu| field(self.cpus.at(cpu))).sum()
    }
}

/// Attaches a program that does nothing to the context switch, for as long as the result is kept: what the benchmark
/// compares accounting with.
///
/// # Errors
/// As for [`Kernel::load`].
pub fn attach_empty() -> Result<Ebpf, KernelError> {
    lift_memlock_limit();
    let btf = Btf::from_sys_fs().map_err(refused(format!("read {BTF_PATH}")))?;
    let mut ebpf = EbpfLoader::new().btf(Some(&btf)).load(OBJECT).map_err(refused("load the eBPF object"))?;
    let program = ebpf.program_mut("empty").ok_or_else(|| refused("find program empty")("it is missing"))?;
    let program: &mut BtfTracePoint = program.try_into().map_err(refused("use program empty"))?;
    program.load("sched_switch", &btf).map_err(refused("load program empty"))?;
    program.attach().map_err(refused("attach program empty"))?;
    Ok(ebpf)
}

fn refused<E: std::fmt::Display>(doing: impl Into<String>) -> impl FnOnce(E) -> KernelError {
    let doing = doing.into();
    move |cause| KernelError::Refused { doing, cause: format!("{cause:#}") }
}

/// The largest power of two that keeps all ledgers within `mib`, and no less than lets a busy CPU run for a while.
fn entries_per_page(possible_cpus: usize, mib: u32) -> usize {
    let per_entry = 2 * size_of::<Entry>() + INDEX_SLOTS_PER_ENTRY as usize * 8;
    let fitting = (mib as usize * 1024 * 1024) / (possible_cpus.max(1) * per_entry);
    1 << fitting.clamp(256, 8192).ilog2()
}

/// Before 5.11 the kernel counts maps against RLIMIT_MEMLOCK. Later ones don't care.
fn lift_memlock_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is valid for the call. If it fails, loading will say what is wrong.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
}

/// An array map's memory, mapped for reading.
struct Mapped<T> {
    start: *const u8,
    bytes: usize,
    len: usize,
    _elements: PhantomData<T>,
    // Keeps the map's descriptor, as other holders of the map expect.
    _map: MapData,
}

// SAFETY: the mapping is shared memory that any thread may read; what may be written meanwhile is read volatile.
unsafe impl<T> Send for Mapped<T> {}

impl<T> Mapped<T> {
    fn new(ebpf: &mut Ebpf, name: &str, len: usize) -> Result<Self, KernelError> {
        let Some(Map::Array(map)) = ebpf.take_map(name) else {
            return Err(refused(format!("find the map {name} in the eBPF object"))(
                "it is missing or no array",
            ));
        };
        let bytes = len * size_of::<T>();
        let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(map.fd());
        // SAFETY: a fresh read-only mapping of a descriptor that is open; the result is checked.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(refused(format!("map the memory of {name}"))(std::io::Error::last_os_error()));
        }
        Ok(Self { start: start.cast(), bytes, len, _elements: PhantomData, _map: map })
    }

    /// Element `index`, which must be less than the length.
    fn at(&self, index: usize) -> *const T {
        assert!(index < self.len, "element {index} of a map of {}", self.len);
        // SAFETY: within the mapping, as just checked.
        unsafe { self.start.add(index * size_of::<T>()).cast() }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and nobody holds a pointer into it beyond a borrow of `self`.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_stay_within_their_memory_bound() {
        assert_eq!(entries_per_page(2, 32), 8192);
        assert_eq!(entries_per_page(128, 32), 1024);
        assert_eq!(entries_per_page(100_000, 32), 256);
        assert_eq!(entries_per_page(2, 0), 256);
    }
}
