//! The accounts: one reading takes in what happened to processes and what every CPU charged since the last;
//! one emission says it. `reader.rs` reads a CPU's ledger, `processes.rs` keeps who it was charged to.

use std::path::Path;
use std::sync::Arc;

use aya_log::EbpfLogger;
use tracing::{debug, error, warn};
use wattrace_api::events::ResourceAppeared;
use wattrace_api::{
    Attribute, Batch, Clock, Consumer, ConsumerKind, Domain, Error, Follows, Received, Metric, MetricId,
    Registry, Resource, ResultExt, SeriesId, SeriesSpec, Subscription, Timestamp, Unit, Value, Window,
    metric,
};
use wattrace_common::ledger::{Entry, Page};
use wattrace_common::log::EventKind;

use crate::cost::Costs;
use crate::kernel::{Flush, Kernel, KernelError, Options};
use crate::processes::Processes;
use crate::reader::{CpuReader, Quantities, quantity};
use crate::tally::{Metrics, Place};
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

/// What reading a counter may cost at every switch, ns, unless `counters_force` is set. Where it traps into a
/// hypervisor, it costs some thousand; on hardware some ten.
const DEAREST_COUNTER_NS: u64 = 400;

/// What is read from the kernel, between ticks and on them.
pub(crate) struct Accounts {
    pub(crate) kernel: Kernel,
    pub(crate) costs: Costs,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    clock: Clock,
    registry: Arc<Registry>,
    processes: Processes,
    cpus: Vec<CpuAccount>,
    /// Packages, then cores.
    places: Vec<PlaceAccount>,
    packages: usize,
    /// Whether cores are told of: some meter asks for it.
    per_core: bool,
    meters: Subscription<ResourceAppeared>,
    switches: SeriesId,
    lost_events: (SeriesId, u64),
    overflows: (SeriesId, u64),
    /// Where the next window starts, and where the last reading ended.
    window: Window,
}

struct CpuAccount {
    /// Indices of its package and its core.
    places: [usize; 2],
    flush: Flush,
    reader: CpuReader,
}

/// A package's or a core's closing entries: `idle`, `unattributed` and, where it is told apart, `irq`.
struct PlaceAccount {
    resource: Resource,
    metric: MetricId,
    closing: Vec<Closing>,
}

struct Closing {
    kind: ConsumerKind,
    ns: u64,
    series: Option<SeriesId>,
}

impl PlaceAccount {
    fn new(place: &Place, separate_irq: bool) -> Option<Self> {
        let irq = separate_irq.then_some(ConsumerKind::Irq);
        let kinds = [ConsumerKind::Idle, ConsumerKind::Unattributed].into_iter().chain(irq);
        let closing = kinds.map(|kind| Closing { kind, ns: 0, series: None }).collect();
        Some(Self { resource: place.resource.clone(), metric: place.metrics[quantity::TIME]?, closing })
    }

    fn charge(&mut self, page: &Page) {
        for closing in &mut self.closing {
            closing.ns += match closing.kind {
                ConsumerKind::Idle => page.idle_ns,
                ConsumerKind::Irq => page.irq_ns,
                _ => page.overflow_ns,
            };
        }
    }

    fn emit(&mut self, start: Timestamp, registry: &Registry, out: &mut Batch) {
        for closing in &mut self.closing {
            let series = *closing.series.get_or_insert_with(|| {
                registry.open(SeriesSpec {
                    consumer: Some(Arc::new(Consumer::closing(closing.kind))),
                    ..SeriesSpec::new(self.metric, self.resource.clone(), start)
                })
            });
            out.push(series, Value::of_steps(closing.ns));
        }
    }
}

/// Whether a domain's energy follows the use of a single core.
fn follows_a_core(domain: &Domain) -> bool {
    matches!(domain.follows, Follows::Core(_))
}

impl Accounts {
    pub(crate) fn open(config: &SchedConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let topology = Topology::read(Path::new("/sys")).or_fatal()?;
        let (packages, cores) = (topology.packages(), topology.cores());
        let options = Options {
            siblings: topology.sibling_of.clone(),
            memory_mib: config.ledger_mib,
            separate_irq: config.irq == Interrupts::Separate,
            counters: config.counters.clone(),
            simulated_counters: false,
            command_lines: config.command_lines,
            thread_exits: config.threads,
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
        let index = |numbers: &[u32], number| numbers.iter().position(|n| *n == number).unwrap_or(0);
        let account = |(&package, &core)| CpuAccount {
            places: [index(&packages, package), packages.len() + index(&cores, core)],
            flush: Flush::Offline,
            reader: CpuReader::default(),
        };
        let cpus: Vec<_> = topology.package_of.iter().zip(&topology.core_of).map(account).collect();
        let metrics = metrics(&registry, &options)?;
        let start = begin_accounting(&mut kernel, cpus.len())?;
        let open = |definition: &Metric, resource, attributes| {
            let metric = registry.metric(definition).or_fatal()?;
            let spec = SeriesSpec { attributes, ..SeriesSpec::new(metric, resource, start) };
            Ok::<_, Error>(registry.open(spec))
        };
        let per_package = |&n: &u32| Place { resource: Resource::package(n), metrics };
        let mut core_time = Metrics::default();
        core_time[quantity::TIME] = Some(registry.metric(&metric::CONSUMER_CORE_TIME).or_fatal()?);
        let per_core = |&n: &u32| Place { resource: Resource::core(n), metrics: core_time };
        let places: Vec<Place> = packages.iter().map(per_package).chain(cores.iter().map(per_core)).collect();
        let accounts =
            places.iter().filter_map(|place| PlaceAccount::new(place, options.separate_irq)).collect();
        // Asked before looking, so that none is missed in between.
        let meters = registry.events().subscribe::<ResourceAppeared>();
        let per_core = registry.domains().iter().any(|domain| follows_a_core(domain));
        let anomaly = |kind: &str| {
            Ok((open(&ANOMALIES, Resource::HOST, vec![Attribute::new("wattrace.anomaly", kind)])?, 0))
        };
        let lost_events = anomaly("event_lost")?;
        let overflows = anomaly("ledger_overflow")?;
        let switches = open(&SWITCHES, Resource::HOST, Vec::new())?;
        let costs = Costs::new(registry.clone(), start)?;

        let processes = Processes::new(registry.clone(), clock.clone(), places, config.threads);
        let window = Window::new(start, start);
        Ok(Self {
            kernel,
            costs,
            logger,
            clock,
            registry,
            processes,
            cpus,
            places: accounts,
            packages: packages.len(),
            per_core,
            meters,
            switches,
            lost_events,
            overflows,
            window,
        })
    }

    /// Closes every page, then takes in events and entries. Events come first: they say who the entries are
    /// about.
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
        const THREAD_EXIT: u32 = EventKind::ThreadExit as u32;
        const CGROUP: u32 = EventKind::Cgroup as u32;
        let processes = &mut self.processes;
        self.kernel.drain_log(until.0, |told| match told.event.kind {
            FORK => processes.forked(&told.event),
            EXEC => processes.executed(&told.event, &told.path, &told.arguments),
            EXIT => processes.exited(&told.event),
            THREAD_EXIT => processes.thread_exited(&told.event),
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
        let CpuAccount { ref places, flush, ref mut reader } = self.cpus[cpu];
        let places = if self.per_core { &places[..] } else { &places[..1] };
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
            processes.charge(entry, used, reading.page.start_ns, places);
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
        places.iter().for_each(|&place| self.places[place].charge(&page));
        self.overflows.1 += u64::from(overflow_count);
        self.window.end = self.window.end.max(Timestamp(end_ns));
    }

    pub(crate) fn emit(&mut self, last: bool, out: &mut Batch) {
        out.begin(self.window);
        let told = if self.per_core { self.places.len() } else { self.packages };
        for place in &mut self.places[..told] {
            place.emit(self.window.start, &self.registry, out);
        }
        self.processes.emit(self.window.start, last, out);
        let host = [(self.switches, self.kernel.switches()), self.lost_events, self.overflows];
        for (series, count) in host {
            out.push(series, Value::of_steps(count));
        }
        self.costs.emit(out);
        debug!(processes = self.processes.len(), points = out.len(), "read the ledgers");
        self.window.start = self.window.end;
        // From the next window on, so that each core's first one is whole.
        while let Some(heard) = self.meters.try_next() {
            match heard {
                Received::Event(appeared) => self.per_core |= follows_a_core(&appeared.domain),
                Received::Missed(_) => {
                    self.per_core |= self.registry.domains().iter().any(|d| follows_a_core(d))
                }
            }
        }
    }
}

/// Loads the programs, without counters if those are not to be had or too dear to read. Returns what was
/// loaded.
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
    let mut metrics = Metrics::default();
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
