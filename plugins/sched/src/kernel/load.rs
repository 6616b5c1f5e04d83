//! Loads the eBPF object: decides what it is to do on this kernel, sizes its maps, and takes them over.

use aya::{Btf, Ebpf, EbpfLoader};
use tracing::{debug, warn};
use wattrace_api::{Finding, Verdict};
use wattrace_bpf::lift_memlock_limit;
use wattrace_common::ledger::{Cpu, NO_SIBLING};

use super::attach::{self, Hook};
use super::blob::Blob;
use super::error::{KernelError, failed};
use super::log::Log;
use super::mapped::Mapped;
use super::offsets::Offsets;
use super::sizes::Sizes;
use super::wakeup::Wakeup;
use super::{Kernel, OBJECT, Options, btf, counters, living, loader, scan};
use crate::requirements::{self, BTF_PATH, Facts};

/// What the loaded object does on this kernel.
struct Plan {
    facts: Facts,
    sizes: Sizes,
    offsets: Offsets,
    /// The kernel's type information, if it is used.
    btf: Option<Btf>,
    /// Whether command lines are read.
    arguments: bool,
    /// Whether what a process used besides CPU time is read.
    process_stats: bool,
}

impl Kernel {
    /// Loads the programs and attaches them. Accounting begins on each CPU with its first flush or context
    /// switch.
    ///
    /// # Errors
    /// [`KernelError`]: what is missing, or the step that failed.
    pub fn load(options: &Options) -> Result<Self, KernelError> {
        let plan = Plan::new(options)?;
        let ebpf = plan.load_object(loader::new(), options)?;
        let mut kernel = plan.take_maps(ebpf, options)?;
        attach::load_raw(&mut kernel.ebpf, "flush")?;
        attach::load(&mut kernel.ebpf, &kernel.hooks, plan.btf.as_ref())?;
        if plan.process_stats
            && let Some(btf) = &plan.btf
        {
            kernel.lists_threads = living::load(&mut kernel.ebpf, btf);
        }
        kernel.attach()?;
        drop(plan);
        trim_heap();
        Ok(kernel)
    }
}

impl Plan {
    fn new(options: &Options) -> Result<Self, KernelError> {
        let facts = Facts::gather();
        let missing = requirements::check(&facts).into_iter().find(|f| f.verdict == Verdict::Missing);
        if let Some(missing) = missing {
            let is_denied = missing == requirements::permission(&facts);
            let Finding { what, found, remedy, .. } = missing;
            return Err(match is_denied {
                true => KernelError::Denied { what, found, remedy },
                false => KernelError::Requirement { what, found, remedy },
            });
        }
        lift_memlock_limit();
        let (offsets, btf) = if options.typed && facts.btf {
            let (offsets, outline) = read_types(options.process_stats)?;
            let btf = Btf::parse(&outline, aya::Endianness::default());
            (offsets, Some(btf.map_err(failed("parse the kernel's BTF"))?))
        } else {
            (scan::offsets()?, None)
        };
        let sizes = Sizes::within(options, facts.most_threads);
        // The loader replaces the helper that reads them by an older one if it may not use the other helpers.
        let arguments = options.command_lines && offsets.arguments && facts.reads_kernel_memory();
        let process_stats = options.process_stats && offsets.process_stats;
        if options.process_stats && !process_stats {
            warn!(
                "plugins.sched.process_stats: this kernel has no type information, or does not count what \
                 tasks read and write, or how long they wait (CONFIG_TASK_IO_ACCOUNTING, CONFIG_SCHED_INFO). \
                 Continuing without"
            );
        }
        Ok(Self { facts, sizes, offsets, btf, arguments, process_stats })
    }

    fn load_object(&self, loader: EbpfLoader<'_>, options: &Options) -> Result<Ebpf, KernelError> {
        let counter_bits = options.counter_bits();
        let flags = [
            ("COUNTERS", counter_bits),
            ("SHARED_CORES", options.siblings.iter().any(Option::is_some).into()),
            ("SEPARATE_IRQ", options.separate_irq.into()),
            ("COMMAND_LINES", self.arguments.into()),
            ("KERNEL_READS", self.facts.reads_kernel_memory().into()),
            ("THREAD_EXITS", options.thread_exits.into()),
            ("PROCESS_STATS_ON", self.process_stats.into()),
            ("MESSAGES", self.facts.ring_buffer_is_safe().into()),
        ];
        let globals = self.sizes.globals().into_iter().chain(flags);
        let globals: Vec<(&str, u32)> = globals.chain(self.offsets.globals.iter().copied()).collect();
        let mut loader = loader;
        loader.btf(self.btf.as_ref());
        for (global, value) in &globals {
            loader.override_global(global, value, true);
        }
        for (map, elements) in self.sizes.maps(counter_bits != 0, self.arguments, self.process_stats) {
            loader.map_max_entries(map, elements as u32);
        }
        let ebpf = loader.load(OBJECT).map_err(failed("load the eBPF object"))?;
        debug!(sizes = ?self.sizes, typed = self.btf.is_some(), "loaded the eBPF object");
        Ok(ebpf)
    }

    /// Whether new cgroups are logged: where their paths can't be read, they are looked up.
    fn logs_cgroups(&self) -> bool {
        self.offsets.cgroups && self.facts.reads_kernel_memory()
    }

    fn take_maps(&self, mut ebpf: Ebpf, options: &Options) -> Result<Kernel, KernelError> {
        let Sizes { cpus, entries_per_page, .. } = self.sizes;
        let ledgers = Mapped::<Cpu>::take(&mut ebpf, "CPUS", cpus)?;
        for (cpu, sibling) in options.siblings.iter().enumerate() {
            // SAFETY: within the mapping, and no program is attached yet that would use it.
            let ledger = unsafe { &*ledgers.at(cpu) };
            ledger.first_entry.set((2 * cpu * entries_per_page) as u32);
            ledger.first_slot.set((cpu * self.sizes.slots_per_cpu()) as u32);
            ledger.sibling.set(sibling.map_or(NO_SIBLING, |sibling| sibling as u32));
        }
        let entries = 2 * cpus * entries_per_page;
        let has_counters = !options.counters.is_empty();
        let mut hooks = Hook::accounting(self.btf.is_some(), self.logs_cgroups());
        if options.separate_irq {
            hooks.extend(Hook::interrupts(self.facts.realtime));
        }
        Ok(Kernel {
            links: Vec::new(),
            lists_threads: false,
            hooks,
            ledgers,
            entries: Mapped::take(&mut ebpf, "ENTRIES", entries)?,
            counts: has_counters.then(|| Mapped::take(&mut ebpf, "COUNTS", entries)).transpose()?,
            entries_per_page,
            log: Log::take(&mut ebpf, &self.sizes, self.arguments, self.process_stats)?,
            wakeup: Wakeup::take(&mut ebpf, cpus)?,
            _counters: counters::install(&mut ebpf, &options.counters, cpus)?,
            ebpf,
        })
    }
}

/// Reads the kernel's type information: the offsets, and the outline in which aya finds tracepoints and, for
/// `process_stats`, the iterator: an outline with functions is larger.
fn read_types(process_stats: bool) -> Result<(Offsets, Vec<u8>), KernelError> {
    let blob = Blob::of(BTF_PATH).map_err(failed(format!("read {BTF_PATH}")))?;
    let types = btf::Btf::parse(&blob).map_err(failed("parse the kernel's BTF"))?;
    let offsets = Offsets::from_btf(&types).map_err(failed("find the kernel's structures"))?;
    let looked_up = ["btf_trace_", living::TARGET];
    let outline = types.outline(if process_stats { &looked_up } else { &looked_up[..1] });
    Ok((offsets, outline))
}

/// Returns freed memory to the system: parsed type information is tens of megabytes of small allocations,
/// which glibc would keep.
fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no preconditions.
    unsafe {
        libc::malloc_trim(0)
    };
}
