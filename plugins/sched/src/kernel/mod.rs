//! The kernel programs in use: closes the pages of the ledgers and reads the memory that the programs write.
//! `common/` describes that memory. `reader.rs` and `processes.rs` interpret what is read.
//!
//! | file | holds |
//! | --- | --- |
//! | `options.rs`, `error.rs` | what to account for; what can go wrong |
//! | `load.rs`, `loader.rs`, `attach.rs` | loading the object, by aya's loader; attaching programs |
//! | `probe.rs` | whether this kernel can run programs as closing a ledger needs |
//! | `offsets.rs`, `btf.rs`, `blob.rs`, `scan.rs` | the offsets of members in the kernel's structures |
//! | `sizes.rs`, `mapped.rs` | the sizes of maps; the memory of a map |
//! | `log.rs` | the log of events |
//! | `living.rs` | what living threads used besides CPU time |
//! | `wakeup.rs` | the descriptor that is readable when a page or ring fills up |
//! | `counters.rs`, `event_names.rs` | counters; the perf events that names stand for |
//! | `irq.rs` | the tracepoints of interrupts |
//! | `cost.rs` | what the programs cost |
//! | `fuzzing.rs` | for fuzzers |

mod attach;
mod blob;
mod btf;
mod cost;
mod counters;
mod error;
mod event_names;
pub(crate) mod fuzzing;
mod irq;
mod living;
mod load;
mod loader;
mod log;
mod mapped;
mod offsets;
mod options;
mod probe;
mod scan;
mod sizes;
mod wakeup;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};

use aya::Ebpf;
use aya::maps::Array;
use aya::programs::{ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun as _};
use wattrace_common::counters::Counts;
use wattrace_common::ledger::{Cpu, Entry, Page};

use self::attach::{Hook, Link};
use self::error::{failed, not_found};
use self::log::Log;
use self::mapped::Mapped;
use self::wakeup::Wakeup;

pub use self::cost::{Burst, ProgramRuns};
pub use self::counters::{Counter, Installed, PerfEvent, install as install_counters};
pub use self::error::{Cause, KernelError};
pub(crate) use self::event_names::find as find_event;
pub use self::log::LogRecord;
pub use self::options::Options;
pub use self::probe::KernelMemory;
pub(crate) use self::probe::{readable_kernel_memory, runs_programs_on_a_cpu};

/// The program object: `ebpf/wattrace-ebpf.o` of the repository.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WATTRACE_EBPF_OBJECT"));

/// The loaded programs and their maps. Dropping it detaches the programs.
pub struct Kernel {
    /// While these are kept, the programs are attached.
    links: Vec<Link>,
    hooks: Vec<Hook>,
    ledgers: Mapped<Cpu>,
    entries: Mapped<Entry>,
    counts: Option<Mapped<Counts>>,
    entries_per_page: usize,
    log: Log,
    wakeup: Wakeup,
    /// Whether the iterator over living threads is loaded.
    lists_threads: bool,
    _counters: Installed,
    ebpf: Ebpf,
}

/// The result of flushing a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Its page is closed and can be read.
    Closed,
    /// The CPU is offline. Its page stays open.
    Offline,
}

/// A page of a CPU's ledger.
#[derive(Clone, Copy, Debug)]
pub struct PageView<'a> {
    /// Its number.
    pub number: u32,
    /// Its head.
    pub page: Page,
    /// Its entries.
    pub entries: &'a [Entry],
    /// The counts of each entry. Empty if no counters are read.
    pub counts: &'a [Counts],
}

impl Kernel {
    /// The loaded object, for diagnostics (`aya-log`).
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// What reading one hardware counter costs on this CPU, ns.
    ///
    /// # Errors
    /// The kernel cannot run the program that measures it.
    pub fn counter_cost(&mut self) -> Result<u64, KernelError> {
        let step = "measure what reading a counter costs";
        attach::load_raw(&mut self.ebpf, "counter_cost")?;
        self.run("counter_cost", RawTracePointRunOptions::new()).map_err(failed(step))?;
        let cost = self.ebpf.map("COUNTER_COST");
        let cost = cost.ok_or_else(|| not_found(step, "the eBPF object has no map COUNTER_COST"))?;
        let cost: Array<_, u64> = cost.try_into().map_err(failed(step))?;
        cost.get(&0, 0).map_err(failed(step))
    }

    /// Charges the running slice on `cpu` and closes its page. The first flush of a CPU begins its
    /// accounting.
    ///
    /// # Errors
    /// The kernel cannot run the program there.
    pub fn flush(&self, cpu: usize) -> Result<Flush, KernelError> {
        let options = RawTracePointRunOptions { cpu: Some(cpu as u32), ..Default::default() };
        match self.run("flush", options) {
            Ok(()) => {
                // The program ran before the call returned. Its writes are read through a mapping next.
                fence(Ordering::Acquire);
                Ok(Flush::Closed)
            }
            Err(ProgramError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENXIO) => {
                Ok(Flush::Offline)
            }
            Err(e) => Err(failed(format!("close the ledger of CPU {cpu}"))(e)),
        }
    }

    fn run(&self, program: &str, options: RawTracePointRunOptions) -> Result<(), ProgramError> {
        let program = self.ebpf.program(program).ok_or(ProgramError::NotLoaded)?;
        let program: &RawTracePoint = program.try_into()?;
        program.test_run(options).map(drop)
    }

    /// The page of `cpu` that was closed last. It does not change until the next [`Kernel::flush`] of that
    /// CPU, which the exclusive borrow rules out.
    pub fn closed_page(&mut self, cpu: usize) -> PageView<'_> {
        let ledger = self.ledger(cpu);
        // SAFETY: plain data within the mapping. The kernel writes these two fields in `flush` only.
        let (page, open) =
            unsafe { (ledger.closed.as_ptr().read_volatile(), ledger.page.as_ptr().read_volatile()) };
        self.page_view(cpu, open.wrapping_sub(1), page)
    }

    /// The open page of `cpu`, which is offline, and the start of its running slice; `None` if accounting has
    /// not begun there. If the CPU comes online at this moment, the result may be older than the page, but
    /// never ahead of it.
    pub fn open_page(&mut self, cpu: usize) -> Option<(PageView<'_>, u64)> {
        let ledger = self.ledger(cpu);
        // SAFETY: plain data within the mapping.
        let (page, open, slice_start_ns) = unsafe {
            (
                ledger.open.as_ptr().read_volatile(),
                ledger.page.as_ptr().read_volatile(),
                ledger.slice_start_ns.as_ptr().read_volatile(),
            )
        };
        (slice_start_ns != 0).then(|| (self.page_view(cpu, open, page), slice_start_ns))
    }

    fn page_view(&mut self, cpu: usize, number: u32, page: Page) -> PageView<'_> {
        let first = (2 * cpu + (number & 1) as usize) * self.entries_per_page;
        let count = (page.count as usize).min(self.entries_per_page);
        // SAFETY: the kernel does not write entries while their page is closed or their CPU is offline.
        let (entries, counts) = unsafe {
            (
                self.entries.slice(first, count),
                self.counts.as_ref().map_or(&[][..], |c| c.slice(first, count)),
            )
        };
        PageView { number, page, entries, counts }
    }

    fn ledger(&self, cpu: usize) -> &Cpu {
        // SAFETY: within the mapping. The fields are cells, so the kernel may write them meanwhile.
        unsafe { &*self.ledgers.at(cpu) }
    }

    /// Calls `handle` with each event of processes and cgroups until `until` (`CLOCK_MONOTONIC`, ns; not in
    /// the future), in order.
    pub fn drain_log(&mut self, until: u64, handle: impl FnMut(&LogRecord)) {
        self.log.drain(until, handle);
    }

    /// Events that were overwritten before they were read, over all CPUs, since loading.
    pub fn events_lost(&self) -> u64 {
        self.log.lost()
    }

    /// Why the kernel cannot wake the reader, so that pages and rings are read at ticks only; `None`: it can.
    /// Some distributions forbid perf to all users but root (`kernel.perf_event_paranoid` above 2).
    pub fn wakeup_error(&self) -> Option<&KernelError> {
        self.wakeup.error()
    }

    /// A descriptor that is readable while a page or a ring fills up ([`Kernel::take_wakeup`]), or while a
    /// descriptor is that was added with [`Kernel::add_wakeup`].
    pub fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.descriptor()
    }

    /// Makes [`Kernel::wakeup`] readable whenever `descriptor` is.
    ///
    /// # Errors
    /// The descriptor cannot be watched.
    pub fn add_wakeup(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.wakeup.add(descriptor)
    }

    /// Whether a page or a ring has begun to fill up since the last call.
    pub fn take_wakeup(&mut self) -> bool {
        self.wakeup.take_pending()
    }

    /// Context switches seen on all CPUs since loading.
    pub fn switches(&self) -> u64 {
        // SAFETY: one aligned word within the mapping, which the kernel may be writing.
        let switches = |cpu| unsafe { self.ledger(cpu).switches.as_ptr().read_volatile() };
        (0..self.ledgers.len()).map(switches).sum()
    }
}
