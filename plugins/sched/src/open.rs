//! Sets up the accounts: loads the kernel programs, reads the topology, opens the series and begins
//! accounting.

use std::path::Path;
use std::sync::Arc;

use aya_log::EbpfLogger;
use tracing::{debug, warn};
use wattrace_api::events::ResourceAppeared;
use wattrace_api::{Clock, Error, Metric, Registry, Resource, ResultExt, Timestamp, Window, metric};
use wattrace_topology::Topology;

use crate::accounts::{Accounts, CpuAccount, follows_a_core};
use crate::closing::ClosingEntries;
use crate::counted::{self, Counted};
use crate::kernel::{Counter, Flush, Kernel, KernelError, Options};
use crate::own_metrics::OwnMetrics;
use crate::process_stats::ProcessStatsEmitter;
use crate::processes::{Details, Processes};
use crate::reader::{CpuReader, quantity};
use crate::usage::{CpuGroup, Metrics};
use crate::{Interrupts, SchedConfig};

/// What reading a counter may cost at every switch, ns, unless `counters_force` is set. On hardware it costs
/// some ten, where it traps into a hypervisor some thousand.
const MAX_COUNTER_COST_NS: u64 = 400;

impl Accounts {
    /// Loads the programs and begins accounting.
    ///
    /// # Errors
    /// Fatal: the kernel lacks something. Denied: there is no permission.
    pub(crate) fn open(config: &SchedConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let topology = Topology::read(Path::new("/sys")).or_fatal()?;
        let counted = counted::all(config, Path::new("/sys"));
        let (mut kernel, options) = load(options(config, &counted, &topology), config.counters_force)
            .map_err(KernelError::into_error)?;
        if let Some(error) = kernel.wakeup_error() {
            warn!(
                "the kernel programs are read at ticks only and may overflow, because the kernel cannot wake \
                 the agent when their memory fills up: {}. Remedy: sudo sysctl \
                 kernel.perf_event_paranoid=2, or run as root, or set a short plugins.sched.interval",
                error.with_causes()
            );
        }
        let logger = EbpfLogger::init(kernel.ebpf());
        let logger = logger.map_err(|e| debug!("no log messages from the kernel programs: {e}")).ok();
        let cpus = cpu_accounts(&topology);
        let groups = cpu_groups(&topology, &registry, &counted, &options)?;
        let start = begin_accounting(&mut kernel, cpus.len())?;
        let closing = groups.iter().filter_map(|group| ClosingEntries::new(group, options.separate_irq));
        let closing = closing.collect();
        // Subscribed before the domains are read, so that none is missed in between.
        let domains = registry.events().subscribe::<ResourceAppeared>();
        let per_core = registry.domains().iter().any(|domain| follows_a_core(domain));
        let stats = config.process_stats.then(|| {
            let every = kernel.lists_threads().then_some(config.process_stats_interval);
            ProcessStatsEmitter::new(registry.clone(), every)
        });
        let mut accounts = Self {
            kernel,
            logger,
            processes: Processes::new(
                registry.clone(),
                clock.clone(),
                cpus.len(),
                groups,
                Details { threads: config.threads, stats: stats.transpose()? },
            ),
            clock,
            cpus,
            groups: closing,
            packages: topology.packages().len(),
            per_core,
            domains,
            own_metrics: OwnMetrics::open(&registry, start)?,
            registry,
            window: Window::new(start, start),
            first_end_ns: u64::MAX,
        };
        // What those that are there have used by now does not count.
        accounts.list_threads(false);
        Ok(accounts)
    }
}

fn options(config: &SchedConfig, counted: &[Counted], topology: &Topology) -> Options {
    Options {
        siblings: topology.sibling_of.clone(),
        memory_mib: config.ledger_mib,
        separate_irq: config.irq == Interrupts::Separate,
        counters: counted.iter().map(|counted| (counted.place, counted.event)).collect(),
        command_lines: config.command_lines,
        process_stats: config.process_stats,
        thread_exits: config.threads || config.process_stats,
        typed: true,
    }
}

/// Loads the programs, without counters if there are none or they cost too much. Returns the options that
/// apply.
fn load(options: Options, force_counters: bool) -> Result<(Kernel, Options), KernelError> {
    let without = Options { counters: Vec::new(), ..options.clone() };
    if options.counters.is_empty() {
        return Ok((Kernel::load(&options)?, options));
    }
    let mut kernel = match Kernel::load(&options) {
        Ok(kernel) => kernel,
        Err(e @ KernelError::Requirement { .. }) => {
            warn!("plugins.sched.counters, .events: {e}. Continuing with CPU time only");
            return Ok((Kernel::load(&without)?, without));
        }
        Err(e) => return Err(e),
    };
    let ns = kernel.counter_cost()?;
    if ns > MAX_COUNTER_COST_NS && !force_counters {
        warn!(
            "plugins.sched.counters: reading one costs {ns} ns at every context switch here, perhaps because \
             a hypervisor intercepts it. Continuing with CPU time only. Set \
             plugins.sched.counters_force = true to read them anyway"
        );
        drop(kernel);
        return Ok((Kernel::load(&without)?, without));
    }
    debug!("reading a counter costs {ns} ns");
    Ok((kernel, options))
}

fn cpu_accounts(topology: &Topology) -> Vec<CpuAccount> {
    let (packages, cores) = (topology.packages(), topology.cores());
    let index = |numbers: &[u32], number| numbers.iter().position(|n| *n == number).unwrap_or(0);
    let account = |(&package, &core)| CpuAccount {
        groups: [index(&packages, package), packages.len() + index(&cores, core)],
        flush: Flush::Offline,
        reader: CpuReader::default(),
    };
    topology.package_of.iter().zip(&topology.core_of).map(account).collect()
}

/// The packages, then the cores.
fn cpu_groups(
    topology: &Topology,
    registry: &Registry,
    counted: &[Counted],
    options: &Options,
) -> Result<Vec<CpuGroup>, Error> {
    let declare = |metric: &Metric| registry.metric(metric).or_fatal();
    let mut of_package = Metrics::default();
    of_package[quantity::TIME] = Some(declare(&metric::CONSUMER_CPU_TIME)?);
    if options.siblings.iter().any(Option::is_some) {
        of_package[quantity::SHARED] = Some(declare(&metric::CONSUMER_SHARED_TIME)?);
    }
    for Counted { place, metric, .. } in counted.iter().filter(|_| !options.counters.is_empty()) {
        of_package[quantity::COUNTERS + place.position()] = Some(declare(metric)?);
        if *metric == metric::CONSUMER_COUNTS[Counter::Cycles.position()] {
            of_package[quantity::WEIGHTED_CYCLES] = Some(declare(&metric::CONSUMER_WEIGHTED_CYCLES)?);
        }
    }
    let mut of_core = Metrics::default();
    of_core[quantity::TIME] = Some(declare(&metric::CONSUMER_CORE_TIME)?);
    let packages = topology.packages().into_iter().map(|n| (Resource::package(n), of_package));
    let cores = topology.cores().into_iter().map(|n| (Resource::core(n), of_core));
    Ok(packages.chain(cores).map(|(resource, metrics)| CpuGroup { resource, metrics }).collect())
}

/// Flushes every CPU for the first time, which begins its accounting. Returns when the last one began.
fn begin_accounting(kernel: &mut Kernel, cpus: usize) -> Result<Timestamp, Error> {
    let mut begun = 0;
    for cpu in 0..cpus {
        if kernel.flush(cpu).or_fatal()? == Flush::Closed {
            begun = begun.max(kernel.closed_page(cpu).page.end_ns);
        }
    }
    Ok(Timestamp(begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_weighted_where_they_are_counted() {
        let topology = Topology::read(Path::new("/sys")).unwrap();
        let is_weighted = |counters: &[Counter], events: &[&str]| {
            let events = events.iter().map(|name| (*name).to_owned()).collect();
            let config = SchedConfig { counters: counters.into(), events, ..SchedConfig::default() };
            let counted = counted::all(&config, Path::new("/nonexistent"));
            let options = options(&config, &counted, &topology);
            let groups = cpu_groups(&topology, &Registry::new(), &counted, &options).unwrap();
            groups[0].metrics[quantity::WEIGHTED_CYCLES].is_some()
        };
        assert!(is_weighted(&[Counter::Instructions, Counter::Cycles], &[]));
        assert!(!is_weighted(&[Counter::Instructions], &[]));
        assert!(!is_weighted(&[], &["page-faults"]), "it takes the place of cycles");
    }
}
