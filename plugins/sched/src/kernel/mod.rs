//! The kernel programs, loaded: attaching them, closing the ledgers' pages, and the memory they are read from.
//! What lies there is described in `common/`; what becomes of it in `processes.rs`.
//!
//! | file | holds |
//! | --- | --- |
//! | `offsets.rs`, `btf.rs`, `scan.rs` | where members lie in the kernel's structures |
//! | `mapped.rs` | a map's memory |
//! | `log.rs` | reading the rings of events |
//! | `wake.rs` | the kernel's word that something fills |
//! | `counters.rs`, `irq.rs` | hardware counters; the tracepoints of interrupts |
//! | `cost.rs` | what the programs cost |

mod btf;
mod cost;
mod counters;
mod irq;
mod log;
mod mapped;
mod offsets;
mod scan;
mod wake;

use std::os::fd::OwnedFd;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use aya::maps::Array;
use aya::programs::{BtfTracePoint, ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun as _};
use aya::{Btf, Ebpf, EbpfLoader};
use tracing::debug;
use wattrace_api::{Finding, Verdict};
use wattrace_common::counters::Counts;
use wattrace_common::ledger::{Cpu, Entry, INDEX_SLOTS_PER_ENTRY, NO_SIBLING, Page};
use wattrace_common::log::{ARGUMENTS_LEN, Event, Path};

use self::log::Log;
use self::mapped::Mapped;
use self::offsets::Offsets;
use self::wake::Wake;
use crate::requirements::{self, BTF_PATH, Facts};

pub use self::cost::{Burst, Run};
pub use self::counters::Counter;
pub use self::log::Told;

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

/// What is to be accounted for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CPU that shares the core of each possible CPU, if one does.
    pub siblings: Vec<Option<usize>>,
    /// Bound on the kernel memory of all CPUs' ledgers and logs, in MiB.
    pub memory_mib: u32,
    /// Whether interrupts are told apart from the task they interrupt.
    pub separate_irq: bool,
    /// Hardware counters to read at every switch.
    pub counters: Vec<Counter>,
    /// Whether each of them is to be perf's clock, which counts nanoseconds: for tests where there is no such hardware.
    pub simulated_counters: bool,
    /// Whether command lines are read.
    pub command_lines: bool,
    /// Whether to use the kernel's type information, if there is any. Without, programs are attached as raw tracepoints.
    pub typed: bool,
}

impl Options {
    /// The least: CPU time on `cpus` CPUs, none of which shares a core.
    pub fn of_cpus(cpus: usize) -> Self {
        Self {
            siblings: vec![None; cpus],
            memory_mib: 32,
            separate_irq: false,
            counters: Vec::new(),
            simulated_counters: false,
            command_lines: false,
            typed: true,
        }
    }
}

/// The loaded and attached programs and their maps. Dropping it detaches them.
pub struct Kernel {
    ebpf: Ebpf,
    /// The names of the attached programs.
    attached: Vec<&'static str>,
    cpus: Mapped<Cpu>,
    entries: Mapped<Entry>,
    counts: Option<Mapped<Counts>>,
    entries_per_page: usize,
    log: Log,
    wake: Wake,
    _counters: counters::Installed,
}

/// What closing a CPU's page came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// It is closed and can be read.
    Closed,
    /// The CPU is offline: its page stays open.
    Offline,
}

/// A page of a CPU's ledger.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Its number.
    pub number: u32,
    /// Its head.
    pub page: Page,
    /// Its entries.
    pub entries: &'a [Entry],
    /// What was counted for each entry; empty if nothing is counted.
    pub counts: &'a [Counts],
}

impl Kernel {
    /// Loads the programs, attaches them and begins accounting. It begins on a CPU with its first flush or context switch.
    ///
    /// # Errors
    /// [`KernelError`]: what is missing, or which step the kernel refused.
    pub fn load(options: &Options) -> Result<Self, KernelError> {
        let facts = Facts::gather();
        let missing = requirements::check(&facts).into_iter().find(|f| f.verdict == Verdict::Missing);
        if let Some(Finding { what, found, remedy, .. }) = missing {
            return Err(KernelError::Requirement { what, found, remedy });
        }
        lift_memlock_limit();
        let sizes = Sizes::within(options, facts.most_threads);
        let typed = options.typed && facts.btf;
        let (offsets, aya_btf) = if typed {
            let blob = std::fs::read(BTF_PATH).map_err(refused(format!("read {BTF_PATH}")))?;
            let offsets = Offsets::from_btf(&blob).map_err(refused("find the kernel's structures"))?;
            let parsed = Btf::parse(&blob, aya::Endianness::default());
            (offsets, Some(parsed.map_err(refused("parse the kernel's BTF"))?))
        } else {
            (scan::offsets()?, None)
        };
        let counter_bits: u32 = options.counters.iter().map(|c| 1 << c.position()).sum();
        let arguments = options.command_lines && offsets.arguments;
        let flags = [
            ("COUNTERS", counter_bits),
            ("SHARED_CORES", options.siblings.iter().any(Option::is_some).into()),
            ("SEPARATE_IRQ", options.separate_irq.into()),
            ("COMMAND_LINES", arguments.into()),
            ("MESSAGES", facts.ring_buffer_is_safe().into()),
        ];
        let globals = sizes.globals().into_iter().chain(flags).chain(offsets.globals.iter().copied());
        let globals: Vec<(&str, u32)> = globals.collect();
        let mut loader = EbpfLoader::new();
        loader.btf(aya_btf.as_ref());
        for (global, value) in &globals {
            loader.override_global(global, value, true);
        }
        for (map, elements) in sizes.maps(counter_bits != 0, arguments) {
            loader.map_max_entries(map, elements as u32);
        }
        let mut ebpf = loader.load(OBJECT).map_err(refused("load the eBPF object"))?;
        debug!(?sizes, typed, "loaded the eBPF object");

        let cpus = Mapped::<Cpu>::take(&mut ebpf, "CPUS", sizes.cpus)?;
        for (cpu, sibling) in options.siblings.iter().enumerate() {
            // SAFETY: within the mapping; no program is attached yet that would use it.
            let ledger = unsafe { &mut *cpus.at(cpu) };
            ledger.first_entry = (2 * cpu * sizes.entries_per_page) as u32;
            ledger.first_slot = (cpu * sizes.slots_per_cpu()) as u32;
            ledger.sibling = sibling.map_or(NO_SIBLING, |sibling| sibling as u32);
        }
        let places = 2 * sizes.cpus * sizes.entries_per_page;
        let entries = Mapped::take(&mut ebpf, "ENTRIES", places)?;
        let counts = (counter_bits != 0).then(|| Mapped::take(&mut ebpf, "COUNTS", places)).transpose()?;
        let log = Log::take(&mut ebpf, &sizes, arguments)?;
        let wake = Wake::take(&mut ebpf, sizes.cpus)?;
        let _counters =
            counters::install(&mut ebpf, &options.counters, options.simulated_counters, sizes.cpus)?;
        let entries_per_page = sizes.entries_per_page;
        let attached = Vec::new();
        let mut kernel =
            Self { ebpf, attached, cpus, entries, counts, entries_per_page, log, wake, _counters };
        kernel.load_raw("flush")?;
        match &aya_btf {
            Some(btf) => {
                for name in ["sched_process_fork", "sched_process_exec", "sched_process_exit"] {
                    kernel.attach_typed(name, btf)?;
                }
                if offsets.cgroups {
                    kernel.attach_typed("cgroup_mkdir", btf)?;
                }
                kernel.attach_typed("sched_switch", btf)?;
            }
            None => {
                for name in ["raw_sched_process_fork", "raw_sched_process_exec", "raw_sched_process_exit"] {
                    kernel.attach_raw(name)?;
                }
                kernel.attach_raw("raw_sched_switch")?;
            }
        }
        if options.separate_irq {
            kernel.attach_irq(facts.realtime)?;
        }
        // BTF parsed into objects is tens of megabytes of small allocations; the heap would keep the pages.
        drop(aya_btf);
        // SAFETY: it has no preconditions.
        unsafe { libc::malloc_trim(0) };
        Ok(kernel)
    }

    fn attach_typed(&mut self, name: &'static str, btf: &Btf) -> Result<(), KernelError> {
        let program: &mut BtfTracePoint = self.program_mut(name)?;
        patiently(|| program.load(name, btf)).map_err(refused(format!("load program {name}")))?;
        program.attach().map_err(refused(format!("attach program {name}")))?;
        self.attached.push(name);
        Ok(())
    }

    /// Loads a program that is run on request.
    fn load_raw(&mut self, name: &str) -> Result<(), KernelError> {
        let program: &mut RawTracePoint = self.program_mut(name)?;
        patiently(|| program.load()).map_err(refused(format!("load program {name}")))
    }

    fn attach_raw(&mut self, name: &'static str) -> Result<(), KernelError> {
        self.load_raw(name)?;
        let tracepoint = name.trim_start_matches("raw_");
        let program: &mut RawTracePoint = self.program_mut(name)?;
        program.attach(tracepoint).map_err(refused(format!("attach program {name}")))?;
        self.attached.push(name);
        Ok(())
    }

    /// Ends come first: the end of an interrupt whose beginning was not seen is known for what it is, the converse not.
    fn attach_irq(&mut self, realtime: bool) -> Result<(), KernelError> {
        for (name, end) in [("irq_exit", "exit"), ("irq_enter", "entry")] {
            self.load_raw(name)?;
            for (tracepoint, needed) in irq::pairs(realtime) {
                let tracepoint = format!("{tracepoint}_{end}");
                let program: &mut RawTracePoint = self.program_mut(name)?;
                match program.attach(&tracepoint) {
                    Err(e) if needed => {
                        return Err(refused(format!("attach program {name} to {tracepoint}"))(e));
                    }
                    // Of another architecture, or left out of this kernel.
                    Err(_) | Ok(_) => {}
                }
            }
            self.attached.push(name);
        }
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

    /// What reading one hardware counter costs on this CPU, ns.
    ///
    /// # Errors
    /// [`KernelError`] if the kernel can't run the program that measures it.
    pub fn counter_cost(&mut self) -> Result<u64, KernelError> {
        let doing = "measure what reading a counter costs";
        self.load_raw("counter_cost")?;
        let program: &mut RawTracePoint = self.program_mut("counter_cost")?;
        program.test_run(RawTracePointRunOptions::new()).map_err(refused(doing))?;
        let cost = self.ebpf.map("COUNTER_COST").ok_or_else(|| refused(doing)("its map is missing"))?;
        let cost: Array<_, u64> = cost.try_into().map_err(refused(doing))?;
        cost.get(&0, 0).map_err(refused(doing))
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

    /// The page of `cpu` that was closed last. It stays as it is until the next [`Kernel::flush`] of that CPU, which the
    /// exclusive borrow keeps away.
    pub fn closed_page(&mut self, cpu: usize) -> Reading<'_> {
        let ledger = self.cpus.at(cpu);
        // SAFETY: `ledger` points into the mapping. The kernel writes these two fields in `flush` only.
        let (page, open) = unsafe {
            ((&raw const (*ledger).closed).read_volatile(), (&raw const (*ledger).page).read_volatile())
        };
        self.reading(cpu, open.wrapping_sub(1), page)
    }

    /// The open page of `cpu`, which is offline, and when its running slice began; `None` if accounting has not begun there.
    /// Should the CPU be back in this moment, what is read may be older than what the page holds, never more.
    pub fn open_page(&mut self, cpu: usize) -> Option<(Reading<'_>, u64)> {
        let ledger = self.cpus.at(cpu);
        // SAFETY: `ledger` points into the mapping; the fields are plain data.
        let (page, open, slice_start_ns) = unsafe {
            (
                (&raw const (*ledger).open).read_volatile(),
                (&raw const (*ledger).page).read_volatile(),
                (&raw const (*ledger).slice_start_ns).read_volatile(),
            )
        };
        (slice_start_ns != 0).then(|| (self.reading(cpu, open, page), slice_start_ns))
    }

    fn reading(&mut self, cpu: usize, number: u32, page: Page) -> Reading<'_> {
        let first = (2 * cpu + (number & 1) as usize) * self.entries_per_page;
        let count = (page.count as usize).min(self.entries_per_page);
        // SAFETY: initialised by the kernel (zeroed at least), and not written while the page is closed or its CPU offline.
        let (entries, counts) = unsafe {
            (
                self.entries.slice(first, count),
                self.counts.as_ref().map_or(&[][..], |c| c.slice(first, count)),
            )
        };
        Reading { number, page, entries, counts }
    }

    /// Hands what happened to processes and cgroups until `until` (`CLOCK_MONOTONIC`, ns; not in the future) to `tell`, in
    /// order.
    pub fn drain_log(&mut self, until: u64, tell: impl FnMut(&Told)) {
        self.log.drain(until, tell);
    }

    /// Events that were overwritten before they were read, over all CPUs, since loading.
    pub fn events_lost(&self) -> u64 {
        self.log.lost()
    }

    /// Why the kernel cannot say that something fills, so that pages and rings are read at ticks only; `None`: it can. Some
    /// distributions forbid perf to all but root (`kernel.perf_event_paranoid` above 2).
    pub fn cannot_wake(&self) -> Option<&str> {
        self.wake.refusal()
    }

    /// A descriptor that is readable when a page or a ring is filling.
    ///
    /// # Errors
    /// We have too many descriptors.
    pub fn wake_descriptor(&self) -> std::io::Result<OwnedFd> {
        self.wake.descriptor()
    }

    /// Takes the kernel's word that something fills. Returns whether there was any.
    pub fn take_wake(&mut self) -> bool {
        self.wake.take_word()
    }

    /// Context switches seen, over all CPUs, since loading.
    pub fn switches(&self) -> u64 {
        // SAFETY: within the mapping; one aligned word, which the kernel may be writing.
        let switches = |cpu| unsafe { (&raw const (*self.cpus.at(cpu)).switches).read_volatile() };
        (0..self.cpus.len()).map(switches).sum()
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

/// Tries again what was interrupted: the kernel gives up checking a program (EAGAIN) when a signal is pending for the thread,
/// and where processes come and go in storms, one may be for a while.
fn patiently(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let begun = Instant::now();
    loop {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) && begun.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// How large the maps are; powers of two per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    cpus: usize,
    entries_per_page: usize,
    events_per_cpu: usize,
    paths_per_cpu: usize,
}

impl Sizes {
    /// The largest that keep within the bound and are of use: no page needs more entries than there can be threads. The
    /// least lets a busy CPU run for a while.
    fn within(options: &Options, most_threads: usize) -> Self {
        let cpus = options.siblings.len().max(1);
        let counted = if options.counters.is_empty() { 0 } else { size_of::<Counts>() };
        let per_entry = 2 * (size_of::<Entry>() + counted) + INDEX_SLOTS_PER_ENTRY as usize * 8;
        let arguments = if options.command_lines { ARGUMENTS_LEN } else { 0 };
        let per_event = size_of::<Event>() + (size_of::<Path>() + arguments) / 2;
        let bytes = options.memory_mib as usize * 1024 * 1024 / cpus;
        let entries = (bytes / 4 * 3 / per_entry).min(most_threads).clamp(256, 16384);
        let events = (bytes / 4 / per_event).clamp(256, 4096);
        let events_per_cpu = 1 << events.ilog2();
        Self {
            cpus,
            entries_per_page: 1 << entries.ilog2(),
            events_per_cpu,
            paths_per_cpu: events_per_cpu / 2,
        }
    }

    fn slots_per_cpu(&self) -> usize {
        self.entries_per_page * INDEX_SLOTS_PER_ENTRY as usize
    }

    fn globals(&self) -> [(&'static str, u32); 3] {
        [
            ("ENTRIES_PER_PAGE", self.entries_per_page as u32),
            ("EVENTS_PER_CPU", self.events_per_cpu as u32),
            ("PATHS_PER_CPU", self.paths_per_cpu as u32),
        ]
    }

    /// Elements of each map.
    fn maps(&self, counters: bool, arguments: bool) -> [(&'static str, usize); 9] {
        let entries = 2 * self.cpus * self.entries_per_page;
        let paths = self.cpus * self.paths_per_cpu;
        [
            ("CPUS", self.cpus),
            ("ENTRIES", entries),
            ("INDEX", self.cpus * self.slots_per_cpu()),
            ("COUNTS", if counters { entries } else { 1 }),
            ("COUNTER_STARTS", if counters { self.cpus } else { 1 }),
            ("EVENTS", self.cpus * self.events_per_cpu),
            ("PATHS", paths),
            ("ARGUMENTS", if arguments { paths } else { 1 }),
            ("LOGGED", self.cpus),
        ]
    }
}

/// Before 5.11 the kernel counts maps against RLIMIT_MEMLOCK. Later ones don't care.
fn lift_memlock_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is valid for the call. If it fails, loading will say what is wrong.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_stay_within_their_memory_bound() {
        let sizes = |cpus, memory_mib, threads| {
            Sizes::within(&Options { memory_mib, ..Options::of_cpus(cpus) }, threads)
        };
        let bytes = |s: &Sizes| {
            s.cpus * (s.entries_per_page * (2 * 64 + 16) + s.events_per_cpu * 72 + s.paths_per_cpu * 248)
        };
        assert_eq!(
            (sizes(2, 32, 1 << 22).entries_per_page, sizes(2, 32, 1 << 22).events_per_cpu),
            (16384, 4096)
        );
        for cpus in [1, 2, 16, 128] {
            let sizes = sizes(cpus, 32, 1 << 22);
            assert!(bytes(&sizes) <= 32 << 20, "{sizes:?}");
        }
        // No more than there can be threads, and never less than the least.
        assert_eq!(sizes(2, 32, 1000).entries_per_page, 512);
        assert_eq!(sizes(100_000, 32, 1 << 22).entries_per_page, 256);
        assert_eq!(sizes(2, 0, 10).entries_per_page, 256);
    }
}
