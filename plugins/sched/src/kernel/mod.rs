//! The kernel programs, loaded: attaching them, closing the ledgers' pages, and the memory they are read
//! from. What lies there is described in `common/`; what becomes of it in `processes.rs`.
//!
//! | file | holds |
//! | --- | --- |
//! | `offsets.rs`, `btf.rs`, `scan.rs` | where members lie in the kernel's structures |
//! | `sizes.rs`, `mapped.rs` | how large the maps are; a map's memory |
//! | `attach.rs` | loading programs and attaching them |
//! | `log.rs` | reading the rings of events |
//! | `wake.rs` | the kernel's word that something fills |
//! | `counters.rs`, `irq.rs` | hardware counters; the tracepoints of interrupts |
//! | `cost.rs` | what the programs cost |
//! | `fuzzing.rs` | for fuzzers |

mod attach;
mod btf;
mod cost;
mod counters;
pub(crate) mod fuzzing;
mod irq;
mod log;
mod mapped;
mod offsets;
mod scan;
mod sizes;
mod wake;

use std::os::fd::OwnedFd;
use std::sync::atomic::{Ordering, fence};

use aya::maps::Array;
use aya::programs::{ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun as _};
use aya::{Btf, Ebpf, EbpfLoader};
use tracing::debug;
use wattrace_api::{Finding, Verdict};
use wattrace_common::counters::Counts;
use wattrace_common::ledger::{Cpu, Entry, NO_SIBLING, Page};

use self::log::Log;
use self::mapped::Mapped;
use self::offsets::Offsets;
use self::sizes::Sizes;
use self::wake::Wake;
use crate::requirements::{self, BTF_PATH, Facts};

pub use self::attach::Baseline;
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
    /// Whether each of them is to be perf's clock, which counts nanoseconds: for tests where there is no such
    /// hardware.
    pub simulated_counters: bool,
    /// Whether command lines are read.
    pub command_lines: bool,
    /// Whether exits of threads are told that are not the last of their processes.
    pub thread_exits: bool,
    /// Whether to use the kernel's type information, if there is any. Without, programs are attached as raw
    /// tracepoints.
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
            thread_exits: false,
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
    /// Loads the programs, attaches them and begins accounting. It begins on a CPU with its first flush or
    /// context switch.
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
            ("THREAD_EXITS", options.thread_exits.into()),
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

    /// The page of `cpu` that was closed last. It stays as it is until the next [`Kernel::flush`] of that
    /// CPU, which the exclusive borrow keeps away.
    pub fn closed_page(&mut self, cpu: usize) -> Reading<'_> {
        let ledger = self.cpus.at(cpu);
        // SAFETY: `ledger` points into the mapping. The kernel writes these two fields in `flush` only.
        let (page, open) = unsafe {
            ((&raw const (*ledger).closed).read_volatile(), (&raw const (*ledger).page).read_volatile())
        };
        self.reading(cpu, open.wrapping_sub(1), page)
    }

    /// The open page of `cpu`, which is offline, and when its running slice began; `None` if accounting has
    /// not begun there. Should the CPU be back in this moment, what is read may be older than what the page
    /// holds, never more.
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
        // SAFETY: initialised by the kernel (zeroed at least), and not written while the page is closed or
        // its CPU offline.
        let (entries, counts) = unsafe {
            (
                self.entries.slice(first, count),
                self.counts.as_ref().map_or(&[][..], |c| c.slice(first, count)),
            )
        };
        Reading { number, page, entries, counts }
    }

    /// Hands what happened to processes and cgroups until `until` (`CLOCK_MONOTONIC`, ns; not in the future)
    /// to `tell`, in order.
    pub fn drain_log(&mut self, until: u64, tell: impl FnMut(&Told)) {
        self.log.drain(until, tell);
    }

    /// Events that were overwritten before they were read, over all CPUs, since loading.
    pub fn events_lost(&self) -> u64 {
        self.log.lost()
    }

    /// Why the kernel cannot say that something fills, so that pages and rings are read at ticks only;
    /// `None`: it can. Some distributions forbid perf to all but root (`kernel.perf_event_paranoid` above 2).
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

fn refused<E: std::fmt::Display>(doing: impl Into<String>) -> impl FnOnce(E) -> KernelError {
    let doing = doing.into();
    move |cause| KernelError::Refused { doing, cause: format!("{cause:#}") }
}

/// Before 5.11 the kernel counts maps against RLIMIT_MEMLOCK. Later ones don't care.
fn lift_memlock_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is valid for the call. If it fails, loading will say what is wrong.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
}
