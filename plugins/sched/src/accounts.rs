//! The accounts: one reading takes in what happened to processes and what every CPU charged since the last; one emission
//! says it. `reader.rs` reads a CPU's ledger, `processes.rs` keeps who it was charged to.

use std::path::Path;
use std::sync::Arc;

use aya_log::EbpfLogger;
use tracing::{debug, error, warn};
use wattrace_api::{
    Attribute, Batch, Clock, Consumer, ConsumerKind, Error, Metric, MetricId, Registry, Resource, ResultExt,
    SeriesId, SeriesSpec, Timestamp, Unit, Value, Window, metric,
};
use wattrace_common::ledger::{Entry, Page};
use wattrace_common::log::EventKind;

use crate::cost::Costs;
use crate::kernel::{Flush, Kernel, KernelError, Options};
use crate::processes::{Metrics, Processes};
use crate::reader::{CpuReader, Quantities, quantity};
use crate::topology::Topology;
use crate::{Interrupts, SchedConfig};

/// Context switches accounted for.
const SWITCHES: Metric = Metric::counter(
    "wattrace.sched.switches",
    Unit::Count("{switch}"),
    1.0,
    "Context switches accounted for",
);
/// What accounting had to repair.
const ANOMALIES: Metric = Metric::counter(
    "wattrace.sched.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "Events that were overwritten before they were read, and charges that went to the overflow entry of a full ledger page",
);

/// What reading a counter may cost at every switch, ns, unless `counters_force` is set. Where it traps into a hypervisor, it
/// costs some thousand; on hardware some ten.
const DEAREST_COUNTER_NS: u64 = 400;

/// What is read from the kernel, between ticks and on them.
pub(crate) struct Accounts {
    pub(crate) kernel: Kernel,
    pub(crate) costs: Costs,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    clock: Clock,
    processes: Processes,
    cpus: Vec<CpuAccount>,
    packages: Vec<PackageAccount>,
    switches: SeriesId,
    lost_events: (SeriesId, u64),
    overflows: (SeriesId, u64),
    /// Where the next window starts, and where the last reading ended.
    window: Window,
}

struct CpuAccount {
    package: usize,
    flush: Flush,
    reader: CpuReader,
}

/// A package's closing entries.
struct PackageAccount {
    idle: (SeriesId, u64),
    irq: Option<(SeriesId, u64)>,
    unattributed: (SeriesId, u64),
}

impl Accounts {
    pub(crate) fn open(config: &SchedConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let topology = Topology::read(Path::new("/sys")).or_fatal()?;
        let numbers = topology.packages();
        let options = Options {
            siblings: topology.sibling_of.clone(),
            memory_mib: config.ledger_mib,
            separate_irq: config.irq == Interrupts::Separate,
            counters: config.counters.clone(),
            simulated_counters: false,
            command_lines: config.command_lines,
            typed: true,
        };
        let (mut kernel, options) = load(options, config.counters_force).or_fatal()?;
        if let Some(why) = kernel.cannot_wake() {
            warn!(
                "the kernel programs cannot say when their memory fills up, and are read at ticks only ({why}). Remedy: \
                 sudo sysctl kernel.perf_event_paranoid=2, or run as root, or a short plugins.sched.interval"
            );
        }
        let logger =
            EbpfLogger::init(kernel.ebpf()).map_err(|e| debug!("no messages from kernel programs: {e}")).ok();
        let index = |package| numbers.iter().position(|n| *n == package).unwrap_or(0);
        let account = |&package| CpuAccount {
            package: index(package),
            flush: Flush::Offline,
            reader: CpuReader::default(),
        };
        let cpus: Vec<_> = topology.package_of.iter().map(account).collect();
        let metrics = metrics(&registry, &options)?;
        let start = begin_accounting(&mut kernel, cpus.len())?;
        let open = |definition: &Metric, resource, kind: Option<ConsumerKind>, attributes| {
            let consumer = kind.map(|k| Arc::new(Consumer::closing(k)));
            let metric = registry.metric(definition).or_fatal()?;
            Ok::<_, Error>(registry.open(SeriesSpec {
                consumer,
                attributes,
                ..SeriesSpec::new(metric, resource, start)
            }))
        };
        let mut packages = Vec::new();
        for &n in &numbers {
            let closing = |kind| {
                Ok((open(&metric::CONSUMER_CPU_TIME, Resource::package(n), Some(kind), Vec::new())?, 0))
            };
            packages.push(PackageAccount {
                idle: closing(ConsumerKind::Idle)?,
                irq: options.separate_irq.then(|| closing(ConsumerKind::Irq)).transpose()?,
                unattributed: closing(ConsumerKind::Unattributed)?,
            });
        }
        let anomaly = |kind: &str| {
            Ok((open(&ANOMALIES, Resource::HOST, None, vec![Attribute::new("wattrace.anomaly", kind)])?, 0))
        };
        let lost_events = anomaly("event_lost")?;
        let overflows = anomaly("ledger_overflow")?;
        let switches = open(&SWITCHES, Resource::HOST, None, Vec::new())?;
        let costs = Costs::new(registry.clone(), start)?;

        let resources = numbers.iter().map(|&n| Resource::package(n)).collect();
        let processes = Processes::new(registry, clock.clone(), metrics, resources);
        let window = Window::new(start, start);
        Ok(Self {
            kernel,
            costs,
            logger,
            clock,
            processes,
            cpus,
            packages,
            switches,
            lost_events,
            overflows,
            window,
        })
    }

    /// Closes every page, then takes in events and entries. Events come first: they say who the entries are about.
    pub(crate) fn read(&mut self) -> Result<(), Error> {
        for (number, cpu) in self.cpus.iter_mut().enumerate() {
            cpu.flush = self.kernel.flush(number).or_retry()?;
        }
        let now = self.clock.now();
        self.processes.begin_reading();
        self.take_events(now);
        for cpu in 0..self.cpus.len() {
            self.take_page(cpu, now);
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        Ok(())
    }

    fn take_events(&mut self, until: Timestamp) {
        const FORK: u32 = EventKind::Fork as u32;
        const EXEC: u32 = EventKind::Exec as u32;
        const EXIT: u32 = EventKind::Exit as u32;
        const CGROUP: u32 = EventKind::Cgroup as u32;
        let processes = &mut self.processes;
        self.kernel.drain_log(until.0, |told| match told.event.kind {
            FORK => processes.forked(&told.event),
            EXEC => processes.executed(&told.event, &told.path, &told.arguments),
            EXIT => processes.exited(&told.event),
            CGROUP => processes.cgroup_made(&told.event, &told.path),
            _ => {}
        });
        let lost = self.kernel.events_lost();
        if lost > self.lost_events.1 {
            warn!(
                "{} process events were overwritten before they were read; names and ends are repaired from /proc",
                lost - self.lost_events.1
            );
            self.lost_events.1 = lost;
            self.processes.repair();
        }
    }

    fn take_page(&mut self, cpu: usize, now: Timestamp) {
        let CpuAccount { package, flush, ref mut reader } = self.cpus[cpu];
        let processes = &mut self.processes;
        let mut charged = 0;
        let (reading, idle_since) = match flush {
            Flush::Closed => (self.kernel.closed_page(cpu), None),
            Flush::Offline => match self.kernel.open_page(cpu) {
                Some((reading, slice_start_ns)) => (reading, Some(slice_start_ns)),
                None => return,
            },
        };
        let charge = |entry: &Entry, used: &Quantities| {
            charged += used[quantity::TIME];
            processes.charge(entry, used, reading.page.start_ns, package);
        };
        let page = match idle_since {
            None => reader.closed(&reading, charge),
            Some(slice_start_ns) => reader.offline(&reading, slice_start_ns, now.0, charge),
        };
        let Page { start_ns, end_ns, idle_ns, irq_ns, overflow_ns, overflow_count, .. } = page;
        charged += idle_ns + irq_ns + overflow_ns;
        let passed = end_ns.saturating_sub(start_ns).wrapping_add(reader.take_settled());
        if charged != passed {
            error!(
                "the books of CPU {cpu} do not close: {charged} ns charged over {passed} ns; please report this"
            );
        }
        let account = &mut self.packages[package];
        account.idle.1 += idle_ns;
        account.unattributed.1 += overflow_ns;
        if let Some((_, ns)) = &mut account.irq {
            *ns += irq_ns;
        }
        self.overflows.1 += u64::from(overflow_count);
        self.window.end = self.window.end.max(Timestamp(end_ns));
    }

    pub(crate) fn emit(&mut self, last: bool, out: &mut Batch) {
        out.begin(self.window);
        for package in &self.packages {
            for (series, ns) in
                [Some(package.idle), package.irq, Some(package.unattributed)].into_iter().flatten()
            {
                out.push(series, Value::of_steps(ns));
            }
        }
        self.processes.emit(self.window.start, last, out);
        let host = [(self.switches, self.kernel.switches()), self.lost_events, self.overflows];
        for (series, count) in host {
            out.push(series, Value::of_steps(count));
        }
        self.costs.emit(out);
        debug!(processes = self.processes.len(), points = out.len(), "read the ledgers");
        self.window.start = self.window.end;
    }
}

/// Loads the programs, without counters if those are not to be had or too dear to read. Returns what was loaded.
fn load(options: Options, force: bool) -> Result<(Kernel, Options), KernelError> {
    let without = Options { counters: Vec::new(), ..options.clone() };
    if options.counters.is_empty() {
        return Ok((Kernel::load(&options)?, options));
    }
    let mut kernel = match Kernel::load(&options) {
        Ok(kernel) => kernel,
        Err(e @ KernelError::Requirement { .. }) => {
            warn!("plugins.sched.counters: {e}. Going on with CPU time alone");
            return Ok((Kernel::load(&without)?, without));
        }
        Err(e) => return Err(e),
    };
    let ns = kernel.counter_cost()?;
    if ns > DEAREST_COUNTER_NS && !force {
        warn!(
            "plugins.sched.counters: reading one costs {ns} ns here, at every context switch (a hypervisor may be in between); \
             going on with CPU time alone. Set plugins.sched.counters_force = true to read them all the same"
        );
        drop(kernel);
        return Ok((Kernel::load(&without)?, without));
    }
    debug!("reading a counter costs {ns} ns");
    Ok((kernel, options))
}

/// The metrics of what is accounted for.
fn metrics(registry: &Registry, options: &Options) -> Result<Metrics, Error> {
    let declare = |metric: &Metric| registry.metric(metric).or_fatal();
    let mut metrics: [Option<MetricId>; quantity::COUNT] = [None; quantity::COUNT];
    metrics[quantity::TIME] = Some(declare(&metric::CONSUMER_CPU_TIME)?);
    if options.siblings.iter().any(Option::is_some) {
        metrics[quantity::SHARED] = Some(declare(&metric::CONSUMER_SHARED_TIME)?);
    }
    for counter in &options.counters {
        let position = counter.position();
        metrics[quantity::COUNTERS + position] = Some(declare(&metric::CONSUMER_COUNTS[position])?);
    }
    Ok(metrics)
}

/// Flushes every CPU for the first time, from when on it is accounted for. Returns when the last one was.
fn begin_accounting(kernel: &mut Kernel, cpus: usize) -> Result<Timestamp, Error> {
    let mut begun = 0;
    for cpu in 0..cpus {
        if kernel.flush(cpu).or_fatal()? == Flush::Closed {
            begun = begun.max(kernel.closed_page(cpu).page.end_ns);
        }
    }
    Ok(Timestamp(begun))
}
