//! The usage of a script's processes as a source: the same points as `plugins/sched` gives for real
//! processes, with the same closing entries and the same ends.

use std::borrow::Cow;
use std::sync::Arc;

use wattrace_api::directory::Keeper;
use wattrace_api::events::ConsumerStarted;
use wattrace_api::{
    Attribute, Batch, Clock, Consumer, ConsumerKind, Error, Identity, Metric, MetricId, Registry, Resource,
    ResultExt, SeriesId, SeriesSpec, Source, Tick, Timestamp, Value, Window, metric,
};

use crate::machine::Part;
use crate::shared::SharedSimulation;
use crate::simulation::{Life, Process, Simulation};
use crate::truth::{Counts, Location};

/// Time, shared time, cycles, instructions, misses, weighted cycles.
const QUANTITIES: usize = 6;

/// The source of a script's `wattrace.consumer.cpu.time` and of its hardware counters.
pub struct UsageSource {
    shared: SharedSimulation,
    registry: Arc<Registry>,
    clock: Clock,
    directory: Keeper,
    /// The packages and cores whose usage is reported separately.
    locations: Vec<LocationUsage>,
    processes: Vec<ProcessUsage>,
    /// Indexes of the processes of the schedule that have not started.
    not_started: Vec<usize>,
    /// When the simulation started.
    started: Timestamp,
    window: Window,
}

/// A package, or a core where cores have meters.
struct LocationUsage {
    location: Location,
    resource: Resource,
    /// The metric of each quantity that is reported.
    metrics: [Option<MetricId>; QUANTITIES],
    cpus: u64,
    idle: Option<SeriesId>,
    /// Always zero: a simulated machine has no unknown consumers.
    unattributed: Option<SeriesId>,
    busy: u64,
}

struct ProcessUsage {
    process: usize,
    consumer: Arc<Consumer>,
    pid: u32,
    /// By location: each quantity's series and last value.
    emitted: Vec<[Option<(SeriesId, u64)>; QUANTITIES]>,
}

impl UsageSource {
    /// Starts to report usage, with or without hardware counters.
    ///
    /// # Errors
    /// Fatal if another plugin declares one of its metrics differently.
    pub fn open(
        shared: SharedSimulation,
        registry: Arc<Registry>,
        clock: Clock,
        counters: bool,
    ) -> Result<Self, Error> {
        let start = clock.now();
        let declare = |metric: &Metric| registry.metric(metric).or_fatal();
        let [cycles, instructions, misses] = &metric::CONSUMER_COUNTS;
        let simulation = shared.at(start);
        let machine = simulation.machine();
        let only_time = |time: &Metric| {
            let mut metrics = [None; QUANTITIES];
            metrics[0] = Some(declare(time)?);
            Ok::<_, Error>(metrics)
        };
        let mut metrics = only_time(&metric::CONSUMER_CPU_TIME)?;
        if machine.threads > 1 {
            metrics[1] = Some(declare(&metric::CONSUMER_SHARED_TIME)?);
        }
        if counters {
            let weighted = &metric::CONSUMER_WEIGHTED_CYCLES;
            for (at, metric) in [(2, cycles), (3, instructions), (4, misses), (5, weighted)] {
                metrics[at] = Some(declare(metric)?);
            }
        }
        let mut locations = Vec::new();
        let open = |location, resource: Resource, metrics: [Option<MetricId>; QUANTITIES], cpus| {
            let closing = |kind| {
                let consumer = Some(Arc::new(Consumer::closing(kind)));
                let spec = SeriesSpec::new(metrics[0]?, resource.clone(), start);
                Some(registry.open(SeriesSpec { consumer, ..spec }))
            };
            let idle = closing(ConsumerKind::Idle);
            let unattributed = closing(ConsumerKind::Unattributed);
            LocationUsage { location, idle, unattributed, metrics, cpus, busy: 0, resource }
        };
        for package in 0..machine.packages as usize {
            let cpus = u64::from(machine.cores * machine.threads);
            locations.push(open(
                Location::Package(package),
                Resource::package(package as u32),
                metrics,
                cpus,
            ));
        }
        if machine.meters.contains(&Part::Core) {
            let metrics = only_time(&metric::CONSUMER_CORE_TIME)?;
            for core in 0..machine.all_cores() {
                let cpus = u64::from(machine.threads);
                locations.push(open(Location::Core(core), Resource::core(core as u32), metrics, cpus));
            }
        }
        for usage in &mut locations {
            usage.busy = busy(&simulation, usage.location);
        }
        // Reversed, like what `add_started` leaves.
        let not_started = (0..simulation.processes().len()).rev().collect();
        drop(simulation);
        Ok(Self {
            directory: registry.directory().keep(),
            started: shared.started(start),
            window: Window::new(start, start),
            processes: Vec::new(),
            shared,
            registry,
            clock,
            locations,
            not_started,
        })
    }
}

fn busy(simulation: &Simulation, location: Location) -> u64 {
    let times = simulation.processes().iter().map(|p| simulation.of_process(p, location).used.time);
    times.sum()
}

impl Source for UsageSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let now = self.clock.now();
        let shared = self.shared.clone();
        let simulation = shared.at(now);
        self.window.end = now;
        self.add_started(&simulation);
        out.begin(self.window);
        self.emit(&simulation, out);
        self.remove_ended(&simulation, tick.last, out);
        self.window.start = now;
        Ok(())
    }
}

impl UsageSource {
    /// Adds the processes that have started.
    fn add_started(&mut self, simulation: &Simulation) {
        let all = simulation.processes();
        let (started, not_started) = self
            .not_started
            .drain(..)
            .partition::<Vec<_>, _>(|&process| simulation.life(&all[process]).is_some());
        self.not_started = not_started;
        for process in started.into_iter().rev() {
            let Some(life) = simulation.life(&all[process]) else { continue };
            let consumer = Arc::new(consumer(&all[process], &life, self.started, &self.clock));
            if self.registry.events().wanted::<ConsumerStarted>() {
                self.registry.events().publish(ConsumerStarted(consumer.clone()));
            }
            let pid = all[process].pid;
            self.directory.announce(pid, consumer.clone());
            let emitted = vec![[None; QUANTITIES]; self.locations.len()];
            self.processes.push(ProcessUsage { process, consumer, pid, emitted });
        }
    }

    /// Adds points for the values that changed, and for the closing entries.
    fn emit(&mut self, simulation: &Simulation, out: &mut Batch) {
        for account in &mut self.processes {
            let process = &simulation.processes()[account.process];
            for (at, emitted) in self.locations.iter_mut().zip(&mut account.emitted) {
                let used = simulation.of_process(process, at.location).used;
                for (which, total) in quantities(used).into_iter().enumerate() {
                    let Some(metric) = at.metrics[which] else { continue };
                    let before = emitted[which].map_or(0, |(_, last)| last);
                    if total == before {
                        continue;
                    }
                    let series = emitted[which].map(|(series, _)| series).unwrap_or_else(|| {
                        let consumer = Some(account.consumer.clone());
                        let start = self.window.start;
                        let resource = at.resource.clone();
                        self.registry
                            .open(SeriesSpec { consumer, ..SeriesSpec::new(metric, resource, start) })
                    });
                    emitted[which] = Some((series, total));
                    out.push(series, Value::of_steps(total));
                    if which == 0 {
                        at.busy += total - before;
                    }
                }
            }
        }
        let passed = self.window.end.since(self.started).as_nanos() as u64;
        for at in &self.locations {
            let idle = (passed * at.cpus).saturating_sub(at.busy);
            for (series, ns) in [(at.idle, idle), (at.unattributed, 0)] {
                if let Some(series) = series {
                    out.push(series, Value::of_steps(ns));
                }
            }
        }
    }

    /// Ends the series of processes that ended before this window; with the last tick, of all that have
    /// ended.
    fn remove_ended(&mut self, simulation: &Simulation, last: bool, out: &mut Batch) {
        let before = self.window.start.since(self.started).as_nanos() as u64;
        let directory = &self.directory;
        self.processes.retain(|account| {
            let life = simulation.life(&simulation.processes()[account.process]);
            let Some(end) = life.and_then(|life| life.end) else { return true };
            if end > before && !last {
                return true;
            }
            let ended = self.started + std::time::Duration::from_nanos(end);
            account.consumer.ended_at(self.clock.unix_nanos(ended));
            directory.withdraw(account.pid, &account.consumer);
            account.emitted.iter().flatten().flatten().for_each(|(series, _)| out.end(*series));
            false
        });
    }
}

fn quantities(used: Counts) -> [u64; QUANTITIES] {
    [used.time, used.shared, used.cycles, used.instructions, used.misses, used.weighted_cycles]
}

fn consumer(process: &Process, life: &Life, simulation_start: Timestamp, clock: &Clock) -> Consumer {
    let start = simulation_start + std::time::Duration::from_nanos(life.start);
    let identity = Identity {
        kind: ConsumerKind::Process,
        id: Cow::Owned(process.pid.to_string()),
        start_unix_nano: clock.unix_nanos(start),
    };
    let attributes = vec![
        Attribute::new("process.pid", process.pid),
        Attribute::new("process.executable.name", &*process.name),
        Attribute::new("wattrace.process.comm", &*process.name),
    ];
    Consumer::new(identity, None, attributes)
}
