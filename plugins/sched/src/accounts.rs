//! The accounts of all CPUs. A pass takes in what happened to processes and what each CPU charged since
//! the last one; an emission pushes it. `open.rs` sets them up, `reader.rs` reads a CPU's ledger, and
//! `processes.rs` knows the processes that are charged.

use std::sync::Arc;

use aya_log::EbpfLogger;
use tracing::{debug, error, warn};
use wattrace_api::events::ResourceAppeared;
use wattrace_api::{
    Batch, Clock, Domain, Error, Follows, Received, Registry, ResultExt, Subscription, Timestamp, Window,
};
use wattrace_common::ledger::{Entry, Page};
use wattrace_common::log::EventKind;

use crate::closing::ClosingEntries;
use crate::kernel::{Flush, Kernel, LogRecord};
use crate::own_metrics::OwnMetrics;
use crate::processes::Processes;
use crate::reader::{CpuReader, Quantities, quantity};

/// How far apart the readings of the CPUs are if nothing comes in between, ns. A reading takes a few
/// microseconds per CPU.
const USUAL_SKEW_NS: u64 = 100_000;
const USUAL_SKEW_PER_CPU_NS: u64 = 10_000;

/// What is read from the kernel.
pub(crate) struct Accounts {
    pub(crate) kernel: Kernel,
    pub(crate) logger: Option<EbpfLogger<&'static dyn log::Log>>,
    pub(crate) clock: Clock,
    pub(crate) registry: Arc<Registry>,
    pub(crate) processes: Processes,
    pub(crate) cpus: Vec<CpuAccount>,
    /// The closing entries of packages, then of cores.
    pub(crate) groups: Vec<ClosingEntries>,
    pub(crate) packages: usize,
    /// Whether time is emitted per core too: the energy of some domain follows the use of a core.
    pub(crate) per_core: bool,
    pub(crate) domains: Subscription<ResourceAppeared>,
    pub(crate) own_metrics: OwnMetrics,
    /// From the end of the last emission to the end of the last pass.
    pub(crate) window: Window,
    /// The earliest moment at which the last pass closed a page, ns.
    pub(crate) first_end_ns: u64,
}

pub(crate) struct CpuAccount {
    /// Indices of its package and its core.
    pub(crate) groups: [usize; 2],
    pub(crate) flush: Flush,
    pub(crate) reader: CpuReader,
}

/// Whether a domain's energy follows the use of a single core.
pub(crate) fn follows_a_core(domain: &Domain) -> bool {
    matches!(domain.follows, Follows::Core(_))
}

impl Accounts {
    /// Reads all CPUs at one moment, as far as possible: again if the first pass was interrupted for so long
    /// that the charges of one CPU end noticeably before those of another.
    pub(crate) fn read_together(&mut self) -> Result<(), Error> {
        self.read()?;
        let skew = self.window.end.0.saturating_sub(self.first_end_ns);
        let usual = USUAL_SKEW_NS + USUAL_SKEW_PER_CPU_NS * self.cpus.len() as u64;
        if skew > usual { self.read() } else { Ok(()) }
    }

    /// Closes every page, then takes in events and entries. Events come first: they say which processes the
    /// entries belong to.
    pub(crate) fn read(&mut self) -> Result<(), Error> {
        for (number, cpu) in self.cpus.iter_mut().enumerate() {
            cpu.flush = self.kernel.flush(number).or_retry()?;
        }
        let now = self.clock.now();
        self.processes.begin_pass(now);
        self.take_events(now);
        self.first_end_ns = u64::MAX;
        for cpu in 0..self.cpus.len() {
            self.take_page(cpu, now);
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        Ok(())
    }

    fn take_events(&mut self, until: Timestamp) {
        let processes = &mut self.processes;
        self.kernel.drain_log(until.0, |record| take_event(processes, record));
        let lost = self.kernel.events_lost();
        let newly_lost = lost - self.own_metrics.lost_events;
        if newly_lost > 0 {
            warn!(
                "{newly_lost} process events were overwritten before they were read; names and ends are \
                 from /proc"
            );
            self.own_metrics.lost_events = lost;
            self.processes.repair();
        }
    }

    fn take_page(&mut self, cpu: usize, now: Timestamp) {
        let CpuAccount { ref groups, flush, ref mut reader } = self.cpus[cpu];
        let groups = if self.per_core { &groups[..] } else { &groups[..1] };
        let processes = &mut self.processes;
        let (mut charged, mut unfollowed_ns, mut unfollowed) = (0, 0, 0);
        let (view, idle_since) = match flush {
            Flush::Closed => (self.kernel.closed_page(cpu), None),
            Flush::Offline => match self.kernel.open_page(cpu) {
                Some((view, slice_start_ns)) => (view, Some(slice_start_ns)),
                None => return,
            },
        };
        let charge = |entry: &Entry, used: &Quantities| {
            charged += used[quantity::TIME];
            if !processes.charge(entry, used, view.page.start_ns, groups) {
                unfollowed_ns += used[quantity::TIME];
                unfollowed += 1;
            }
        };
        let mut page = match idle_since {
            None => reader.closed(&view, charge),
            Some(slice_start_ns) => reader.offline(&view, slice_start_ns, now.0, charge),
        };
        let Page { start_ns, end_ns, idle_ns, irq_ns, overflow_ns, overflow_count, .. } = page;
        charged += idle_ns + irq_ns + overflow_ns;
        let passed = end_ns.saturating_sub(start_ns).wrapping_add(reader.take_excess_change());
        if charged != passed {
            error!(
                "the ledger of CPU {cpu} does not balance: {charged} ns charged in {passed} ns; please \
                 report this bug"
            );
        }
        page.overflow_ns += unfollowed_ns;
        groups.iter().for_each(|&group| self.groups[group].charge(&page));
        self.own_metrics.overflows += u64::from(overflow_count);
        self.own_metrics.unfollowed += unfollowed;
        self.window.end = self.window.end.max(Timestamp(end_ns));
        self.first_end_ns = self.first_end_ns.min(end_ns);
    }

    /// Lists living threads, if it is time to. Returns whether it did.
    pub(crate) fn list_threads(&mut self, last: bool) -> bool {
        let (now, processes) = (self.window.end, &mut self.processes);
        let Some(stats) = processes.stats().filter(|stats| stats.is_due(now, last)) else { return false };
        stats.begin_listing(self.clock.now());
        let listed = self.kernel.living_threads(|thread| processes.living(thread));
        if let Err(e) = listed.map_err(|e| e.with_causes()) {
            warn!("plugins.sched.process_stats: {e}; trying again after the next interval");
        }
        processes.listed();
        true
    }

    /// Pushes what was read since the last emission, as one window.
    pub(crate) fn emit(&mut self, last: bool, out: &mut Batch) {
        let listed = self.list_threads(last);
        out.begin(self.window);
        let emitted = if self.per_core { self.groups.len() } else { self.packages };
        for group in &mut self.groups[..emitted] {
            group.emit(self.window.start, &self.registry, out);
        }
        self.processes.emit(self.window.start, last, out);
        if let Some(stats) = self.processes.stats() {
            stats.emit(self.window.end, listed, out);
        }
        self.own_metrics.emit(self.kernel.switches(), out);
        debug!(processes = self.processes.len(), points = out.len(), "read the ledgers");
        self.window.start = self.window.end;
        // Takes effect with the next window, so that the first one of each core is complete.
        while let Some(received) = self.domains.try_next() {
            self.per_core |= match received {
                Received::Event(appeared) => follows_a_core(&appeared.domain),
                Received::Missed(_) => self.registry.domains().iter().any(|d| follows_a_core(d)),
            };
        }
    }
}

fn take_event(processes: &mut Processes, record: &LogRecord) {
    const FORK: u32 = EventKind::Fork as u32;
    const EXEC: u32 = EventKind::Exec as u32;
    const EXIT: u32 = EventKind::Exit as u32;
    const THREAD_EXIT: u32 = EventKind::ThreadExit as u32;
    const CGROUP: u32 = EventKind::Cgroup as u32;
    match record.event.kind {
        FORK => processes.forked(&record.event),
        EXEC => processes.executed(&record.event, &record.path, &record.arguments),
        EXIT => processes.exited(&record.event, record.stats),
        THREAD_EXIT => processes.thread_exited(&record.event, record.stats),
        CGROUP => processes.cgroup_created(&record.event, &record.path),
        _ => {}
    }
}
