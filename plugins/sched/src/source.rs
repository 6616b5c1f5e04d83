//! A tick: closes every CPU's page, reads what happened to processes and what they were charged, and emits it.
//!
//! A page that fills between two ticks, or a ring buffer that does, wakes a task that reads at once; the next tick
//! emits what both found.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};
use wattrace_api::{
    Attribute, Batch, Clock, Consumer, ConsumerKind, Error, Metric, Registry, Resource, ResultExt, SeriesId,
    SeriesSpec, Source, Tick, Timestamp, Unit, Value, Window, metric,
};
use wattrace_common::{Event, EventKind, ExecEvent};

use crate::SchedConfig;
use crate::kernel::{Flush, Kernel};
use crate::processes::Processes;
use crate::topology::Topology;

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
    "Events lost to a full ring buffer, and charges that went to the overflow entry of a full ledger page",
);

/// The source of `wattrace.consumer.cpu.time`.
pub struct SchedSource {
    accounts: Arc<Mutex<Accounts>>,
    pressure: JoinHandle<()>,
}

/// What is read from the kernel, between ticks and on them.
struct Accounts {
    kernel: Kernel,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
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
    closed: bool,
}

/// A package's closing entries.
struct PackageAccount {
    idle: (SeriesId, u64),
    unattributed: (SeriesId, u64),
}

impl SchedSource {
    /// Loads the kernel programs and begins accounting.
    ///
    /// # Errors
    /// Fatal, with the remedy, when the kernel or our permissions lack something.
    pub fn open(
        config: &SchedConfig,
        registry: Arc<Registry>,
        clock: Clock,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, Error> {
        let accounts = Accounts::open(config, registry, clock)?;
        let ring = accounts.kernel.events.as_fd().try_clone_to_owned().or_fatal()?;
        let accounts = Arc::new(Mutex::new(accounts));
        let pressure = runtime.spawn(read_under_pressure(ring, accounts.clone()));
        Ok(Self { accounts, pressure })
    }
}

impl Source for SchedSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let mut accounts = lock(&self.accounts);
        accounts.read()?;
        accounts.emit(tick.last, out);
        Ok(())
    }
}

impl Drop for SchedSource {
    fn drop(&mut self) {
        self.pressure.abort();
    }
}

fn lock(accounts: &Mutex<Accounts>) -> MutexGuard<'_, Accounts> {
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads whenever the kernel says that a buffer is filling.
async fn read_under_pressure(ring: OwnedFd, accounts: Arc<Mutex<Accounts>>) {
    // SAFETY: the descriptor is owned by the value that is registered, and so stays open as long as it.
    let ring = match unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) } {
        Ok(ring) => ring,
        Err(e) => {
            return warn!("cannot watch the ring buffer ({e}): it is read at ticks only, and may overflow");
        }
    };
    while let Ok(mut ready) = ring.readable().await {
        ready.clear_ready();
        if let Err(e) = lock(&accounts).read() {
            warn!("cannot read the ledgers early: {e}");
        }
    }
}

impl Accounts {
    fn open(config: &SchedConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let topology = Topology::read(Path::new("/sys")).or_fatal()?;
        let numbers = topology.packages();
        let mut kernel = Kernel::load(topology.package_of.len(), config.ledger_mib).or_fatal()?;
        let logger =
            EbpfLogger::init(kernel.ebpf()).map_err(|e| debug!("no messages from kernel programs: {e}")).ok();
        let index = |package| numbers.iter().position(|n| *n == package).unwrap_or(0);
        let cpus: Vec<_> =
            topology.package_of.iter().map(|&p| CpuAccount { package: index(p), closed: false }).collect();

        let metric = registry.metric(&metric::CONSUMER_CPU_TIME).or_fatal()?;
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
                unattributed: closing(ConsumerKind::Unattributed)?,
            });
        }
        let anomaly = |kind: &str| {
            Ok((open(&ANOMALIES, Resource::HOST, None, vec![Attribute::new("wattrace.anomaly", kind)])?, 0))
        };
        let lost_events = anomaly("event_lost")?;
        let overflows = anomaly("ledger_overflow")?;
        let switches = open(&SWITCHES, Resource::HOST, None, Vec::new())?;

        let resources = numbers.iter().map(|&n| Resource::package(n)).collect();
        let processes = Processes::new(registry.clone(), clock, metric, resources);
        let window = Window::new(start, start);
        Ok(Self { kernel, logger, processes, cpus, packages, switches, lost_events, overflows, window })
    }

    /// Closes every page, then takes in events and entries. Events come first: they say who the entries are about.
    fn read(&mut self) -> Result<(), Error> {
        for cpu in 0..self.cpus.len() {
            self.cpus[cpu].closed = self.kernel.flush(cpu).or_retry()? == Flush::Closed;
        }
        self.processes.begin_reading();
        self.take_events();
        for cpu in 0..self.cpus.len() {
            if self.cpus[cpu].closed {
                self.take_page(cpu);
            }
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        Ok(())
    }

    fn take_events(&mut self) {
        while let Some(record) = self.kernel.events.next() {
            // SAFETY: both are plain data for which any bytes are a value; the length is checked.
            let event: Event = match unsafe { read_record(&record) } {
                Some(event) => event,
                None => continue,
            };
            const FORK: u32 = EventKind::Fork as u32;
            const EXEC: u32 = EventKind::Exec as u32;
            const EXIT: u32 = EventKind::Exit as u32;
            match event.kind {
                FORK => self.processes.forked(&event),
                // SAFETY: as above.
                EXEC => match unsafe { read_record::<ExecEvent>(&record) } {
                    Some(exec) => self.processes.executed(&event, &exec.exe),
                    None => continue,
                },
                EXIT => self.processes.exited(&event),
                // Pressure: reading is all it asked for.
                _ => {}
            }
        }
        let lost = self.kernel.events_lost();
        if lost > self.lost_events.1 {
            warn!(
                "{} process events found no room in the ring buffer; names and ends are repaired from /proc",
                lost - self.lost_events.1
            );
            self.lost_events.1 = lost;
            self.processes.repair();
        }
    }

    fn take_page(&mut self, cpu: usize) {
        let package = self.cpus[cpu].package;
        let (page, entries) = self.kernel.closed_page(cpu);
        let mut charged = page.idle_ns + page.overflow_ns;
        for entry in entries {
            charged += entry.ns;
            self.processes.charge(entry, page.start_ns, package);
        }
        let passed = page.end_ns - page.start_ns;
        if charged != passed {
            error!(
                "the books of CPU {cpu} do not close: {charged} ns charged over {passed} ns; please report this"
            );
        }
        let account = &mut self.packages[package];
        account.idle.1 += page.idle_ns;
        account.unattributed.1 += page.overflow_ns;
        self.overflows.1 += u64::from(page.overflow_count);
        self.window.end = self.window.end.max(Timestamp(page.end_ns));
    }

    fn emit(&mut self, last: bool, out: &mut Batch) {
        out.begin(self.window);
        for package in &self.packages {
            for (series, ns) in [package.idle, package.unattributed] {
                out.push(series, Value::of_steps(ns));
            }
        }
        self.processes.emit(self.window.start, last, out);
        let host = [(self.switches, self.kernel.switches()), self.lost_events, self.overflows];
        for (series, count) in host {
            out.push(series, Value::of_steps(count));
        }
        debug!(processes = self.processes.len(), points = out.len(), "read the ledgers");
        self.window.start = self.window.end;
    }
}

/// Flushes every CPU for the first time, from when on it is accounted for. Returns when the last one was.
fn begin_accounting(kernel: &mut Kernel, cpus: usize) -> Result<Timestamp, Error> {
    let mut begun = 0;
    for cpu in 0..cpus {
        if kernel.flush(cpu).or_fatal()? == Flush::Closed {
            begun = begun.max(kernel.closed_page(cpu).0.end_ns);
        }
    }
    Ok(Timestamp(begun))
}

/// Reads a `T` from the front of a record, whatever its alignment.
///
/// # Safety
/// Any bytes must be a valid `T`.
unsafe fn read_record<T>(record: &[u8]) -> Option<T> {
    // SAFETY: in bounds as checked; validity is the caller's promise.
    (record.len() >= size_of::<T>()).then(|| unsafe { record.as_ptr().cast::<T>().read_unaligned() })
}
