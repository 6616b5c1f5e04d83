//! What the processes of a script use, as a source: the points that `plugins/sched` gives of real ones, with
//! the same closing entries and the same ends.

use std::borrow::Cow;
use std::sync::Arc;

use wattrace_api::directory::Keeper;
use wattrace_api::events::ConsumerStarted;
use wattrace_api::{
    Attribute, Batch, Clock, Consumer, ConsumerKind, Error, Identity, Metric, MetricId, Registry, Resource,
    ResultExt, SeriesId, SeriesSpec, Source, Tick, Timestamp, Value, Window, metric,
};

use crate::live::Live;
use crate::machine::Part;
use crate::simulation::{Life, Process, Simulation};
use crate::truth::{Place, Use};

/// Time, shared time, cycles, instructions, misses.
const QUANTITIES: usize = 5;

/// The source of a script's `wattrace.consumer.cpu.time` and its companions.
pub struct UsageSource {
    live: Live,
    registry: Arc<Registry>,
    clock: Clock,
    directory: Keeper,
    /// Where use is told apart, with the CPUs of each.
    places: Vec<PlaceAccount>,
    processes: Vec<ProcessAccount>,
    /// Processes of the schedule that have not begun, by their index in it.
    to_come: Vec<usize>,
    /// When the simulation began.
    began: Timestamp,
    window: Window,
}

/// A package; or a core, where cores have meters.
struct PlaceAccount {
    place: Place,
    resource: Resource,
    /// The metric of each quantity that is told of.
    metrics: [Option<MetricId>; QUANTITIES],
    cpus: u64,
    idle: Option<SeriesId>,
    /// Nobody unknown uses a simulated machine.
    unattributed: Option<SeriesId>,
    busy: u64,
}

struct ProcessAccount {
    process: usize,
    consumer: Arc<Consumer>,
    pid: u32,
    /// By place: each quantity's series and what it last told.
    emitted: Vec<[Option<(SeriesId, u64)>; QUANTITIES]>,
}

impl UsageSource {
    /// Begins to account, with hardware counters or without.
    ///
    /// # Errors
    /// Fatal if another plugin declares one of its metrics differently.
    pub fn open(live: Live, registry: Arc<Registry>, clock: Clock, counters: bool) -> Result<Self, Error> {
        let start = clock.now();
        let declare = |metric: &Metric| registry.metric(metric).or_fatal();
        let [cycles, instructions, misses] = &metric::CONSUMER_COUNTS;
        let simulation = live.at(start);
        let machine = simulation.machine();
        let mut metrics = [Some(declare(&metric::CONSUMER_CPU_TIME)?), None, None, None, None];
        if machine.threads > 1 {
            metrics[1] = Some(declare(&metric::CONSUMER_SHARED_TIME)?);
        }
        if counters {
            for (at, metric) in [(2, cycles), (3, instructions), (4, misses)] {
                metrics[at] = Some(declare(metric)?);
            }
        }
        let mut places = Vec::new();
        let open = |place, resource: Resource, metrics: [Option<MetricId>; QUANTITIES], cpus| {
            let closing = |kind| {
                let consumer = Some(Arc::new(Consumer::closing(kind)));
                let spec = SeriesSpec::new(metrics[0]?, resource.clone(), start);
                Some(registry.open(SeriesSpec { consumer, ..spec }))
            };
            let idle = closing(ConsumerKind::Idle);
            let unattributed = closing(ConsumerKind::Unattributed);
            PlaceAccount { place, idle, unattributed, metrics, cpus, busy: 0, resource }
        };
        for package in 0..machine.packages as usize {
            let cpus = u64::from(machine.cores * machine.threads);
            places.push(open(Place::Package(package), Resource::package(package as u32), metrics, cpus));
        }
        if machine.meters.contains(&Part::Core) {
            let metrics = [Some(declare(&metric::CONSUMER_CORE_TIME)?), None, None, None, None];
            for core in 0..machine.all_cores() {
                let cpus = u64::from(machine.threads);
                places.push(open(Place::Core(core), Resource::core(core as u32), metrics, cpus));
            }
        }
        for place in &mut places {
            place.busy = busy(&simulation, place.place);
        }
        // What comes first is taken last.
        let to_come = (0..simulation.processes().len()).rev().collect();
        drop(simulation);
        Ok(Self {
            directory: registry.directory().keep(),
            began: live.began(start),
            window: Window::new(start, start),
            processes: Vec::new(),
            live,
            registry,
            clock,
            places,
            to_come,
        })
    }
}

fn busy(simulation: &Simulation, place: Place) -> u64 {
    let times = simulation.processes().iter().map(|p| simulation.of_process(p, place).used.time);
    times.sum()
}

impl Source for UsageSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let now = self.clock.now();
        let live = self.live.clone();
        let simulation = live.at(now);
        self.window.end = now;
        self.welcome(&simulation);
        out.begin(self.window);
        self.emit(&simulation, out);
        self.farewell(&simulation, tick.last, out);
        self.window.start = now;
        Ok(())
    }
}

impl UsageSource {
    /// Takes in the processes that have begun.
    fn welcome(&mut self, simulation: &Simulation) {
        let all = simulation.processes();
        let (come, to_come) = self
            .to_come
            .drain(..)
            .partition::<Vec<_>, _>(|&process| simulation.life(&all[process]).is_some());
        self.to_come = to_come;
        for process in come.into_iter().rev() {
            let Some(life) = simulation.life(&all[process]) else { continue };
            let consumer = Arc::new(consumer(&all[process], &life, self.began, &self.clock));
            if self.registry.events().wanted::<ConsumerStarted>() {
                self.registry.events().publish(ConsumerStarted(consumer.clone()));
            }
            let pid = all[process].pid;
            self.directory.announce(pid, consumer.clone());
            let emitted = vec![[None; QUANTITIES]; self.places.len()];
            self.processes.push(ProcessAccount { process, consumer, pid, emitted });
        }
    }

    /// Tells what changed, and what was idle in the window.
    fn emit(&mut self, simulation: &Simulation, out: &mut Batch) {
        for account in &mut self.processes {
            let process = &simulation.processes()[account.process];
            for (place, emitted) in self.places.iter_mut().zip(&mut account.emitted) {
                let used = simulation.of_process(process, place.place).used;
                for (which, total) in quantities(used).into_iter().enumerate() {
                    let Some(metric) = place.metrics[which] else { continue };
                    let before = emitted[which].map_or(0, |(_, last)| last);
                    if total == before {
                        continue;
                    }
                    let series = emitted[which].map(|(series, _)| series).unwrap_or_else(|| {
                        let consumer = Some(account.consumer.clone());
                        let start = self.window.start;
                        let resource = place.resource.clone();
                        self.registry
                            .open(SeriesSpec { consumer, ..SeriesSpec::new(metric, resource, start) })
                    });
                    emitted[which] = Some((series, total));
                    out.push(series, Value::of_steps(total));
                    if which == 0 {
                        place.busy += total - before;
                    }
                }
            }
        }
        let passed = self.window.end.since(self.began).as_nanos() as u64;
        for place in &self.places {
            let idle = (passed * place.cpus).saturating_sub(place.busy);
            for (series, ns) in [(place.idle, idle), (place.unattributed, 0)] {
                if let Some(series) = series {
                    out.push(series, Value::of_steps(ns));
                }
            }
        }
    }

    /// Ends the processes that had ended before this window, or all that have if there is no other reading.
    fn farewell(&mut self, simulation: &Simulation, last: bool, out: &mut Batch) {
        let before = self.window.start.since(self.began).as_nanos() as u64;
        let directory = &self.directory;
        self.processes.retain(|account| {
            let life = simulation.life(&simulation.processes()[account.process]);
            let Some(end) = life.and_then(|life| life.end) else { return true };
            if end > before && !last {
                return true;
            }
            let ended = self.began + std::time::Duration::from_nanos(end);
            account.consumer.ended_at(self.clock.unix_nanos(ended));
            directory.withdraw(account.pid, &account.consumer);
            account.emitted.iter().flatten().flatten().for_each(|(series, _)| out.end(*series));
            false
        });
    }
}

fn quantities(used: Use) -> [u64; QUANTITIES] {
    [used.time, used.shared, used.cycles, used.instructions, used.misses]
}

fn consumer(process: &Process, life: &Life, began: Timestamp, clock: &Clock) -> Consumer {
    let start = began + std::time::Duration::from_nanos(life.start);
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
