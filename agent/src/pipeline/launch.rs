//! From what a plugin added to a running element: opens it, gives it its task or thread, and enters it in the roster.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use wattrace_api::added::Open;
use wattrace_api::{Added, ElementKind, Error, Trigger};

use super::autonomous::AutonomousTask;
use super::core::Core;
use super::guard::contained;
use super::health::Health;
use super::output::OutputThread;
use super::queue::Queue;
use super::realtime;
use super::roster::{OutputEntry, SourceEntry, TransformEntry};
use super::source::{Orders, Place, SourceTask};
use super::transforms::Stage;

/// How long a call may take before it is said not to return: into what must not wait, and into what may.
const QUICK: Duration = Duration::from_secs(2);
const SLOW: Duration = Duration::from_secs(10);

/// Elements that are open and not running yet.
#[derive(Default)]
pub(crate) struct Opened {
    sources: Vec<(SourceEntry, SourceRun)>,
    transforms: Vec<(TransformEntry, Stage)>,
    outputs: Vec<(OutputEntry, OutputThread)>,
}

enum SourceRun {
    Managed(SourceTask, mpsc::UnboundedReceiver<super::source::Request>),
    Autonomous(AutonomousTask, mpsc::UnboundedReceiver<super::source::Request>),
}

/// Opens elements (pairs of plugin and element): the sources first, since a transform's opening looks at what they have found.
/// One that cannot be opened does not keep the others from running; one whose name is taken is dropped.
pub(crate) fn open(core: &Core, added: Vec<(&'static str, Added)>) -> Opened {
    let mut opened = Opened::default();
    let (found, rest): (Vec<_>, Vec<_>) =
        added.into_iter().partition(|(_, added)| added.kind() == ElementKind::Source);
    let mut names = Vec::new();
    for (plugin, added) in found.into_iter().chain(rest) {
        let patience = match &added {
            Added::Source { blocking: false, .. } | Added::Autonomous { .. } | Added::Transform { .. } => {
                QUICK
            }
            _ => SLOW,
        };
        let health = Health::new(added.kind(), plugin, added.name(), patience, core.clock.clone());
        if core.roster.has(&health.name) || names.contains(&health.name) {
            warn!("{} is there already: another one of that name is not added", health.name);
            continue;
        }
        names.push(health.name.clone());
        opened.add(core, plugin, added, health);
    }
    opened
}

impl Opened {
    fn add(&mut self, core: &Core, plugin: &'static str, added: Added, health: Arc<Health>) {
        let (pool, clock) = (core.pool.clone(), core.clock.clone());
        let (downstream, rediscover) = (core.to_transforms.clone(), core.settings.rediscover);
        match added {
            Added::Source { trigger, blocking, mut open, .. } => {
                let (source, open) = (opened(&health, &mut open), Some(open));
                let (requests, received) = mpsc::unbounded_channel();
                let (orders, obeyed) = watch::channel(Orders { trigger, paused: false });
                let place = match blocking {
                    _ if core.settings.realtime && is_fast(trigger) => Place::Here,
                    true => Place::Pool,
                    false => Place::Lane(core.lane.clone()),
                };
                let entry = SourceEntry { plugin, health: health.clone(), requests, orders, managed: true };
                let orders = obeyed;
                let task =
                    SourceTask { health, orders, place, open, source, pool, clock, rediscover, downstream };
                self.sources.push((entry, SourceRun::Managed(task, received)));
            }
            Added::Autonomous { open, .. } => {
                let (requests, received) = mpsc::unbounded_channel();
                let (orders, obeyed) = watch::channel(Orders { trigger: Trigger::MANUAL, paused: false });
                let entry = SourceEntry { plugin, health: health.clone(), requests, orders, managed: false };
                let task = AutonomousTask { health, orders: obeyed, open, pool, rediscover, downstream };
                self.sources.push((entry, SourceRun::Autonomous(task, received)));
            }
            Added::Transform { mut open, .. } => {
                let transform = opened(&health, &mut open);
                let entry = TransformEntry { plugin, health: health.clone() };
                let rank = core.settings.rank(plugin);
                self.transforms.push((entry, Stage::new(health, rank, open, transform)));
            }
            Added::Output { mut open, .. } => {
                let output = opened(&health, &mut open);
                let (capacity, policy) = core.settings.queue_of(&health.name);
                let queue = Queue::new(capacity, policy, health.clone());
                let (flushed, seen) = watch::channel(0);
                let entry =
                    OutputEntry { plugin, health: health.clone(), queue: queue.clone(), flushed: seen };
                let flush_interval = core.settings.flush_interval;
                let thread =
                    OutputThread { health, open, output, queue, flushed, flush_interval, unwritten: 0 };
                self.outputs.push((entry, thread));
            }
        }
    }

    /// The outputs' queues.
    pub(crate) fn queues(&self) -> Vec<Arc<Queue>> {
        self.outputs.iter().map(|(entry, _)| entry.queue.clone()).collect()
    }

    /// The transforms, which go to their thread.
    pub(crate) fn take_stages(&mut self, core: &Core) -> Vec<Stage> {
        let (entries, stages): (Vec<_>, Vec<_>) = self.transforms.drain(..).unzip();
        core.roster.lock().transforms.extend(entries);
        stages
    }

    /// Sets the outputs going.
    pub(crate) fn run_outputs(&mut self, core: &Core) {
        for (entry, thread) in self.outputs.drain(..) {
            let health = entry.health.clone();
            core.roster.lock().outputs.push(entry);
            spawn_thread(&health, move || thread.run());
        }
    }

    /// Sets the sources going.
    pub(crate) fn run_sources(self, core: &Arc<Core>) {
        for (entry, run) in self.sources {
            let health = entry.health.clone();
            {
                let mut entries = core.roster.lock();
                entries.sources.push(entry);
                // Requests to all go out in the order in which their ticks fall.
                entries.sources.sort_by_key(|s| s.orders.borrow().trigger.offset);
            }
            match run {
                SourceRun::Managed(task, requests) if matches!(task.place, Place::Here) => {
                    spawn_thread(&health.clone(), move || run_realtime(&health, task.run(requests)));
                }
                SourceRun::Managed(task, requests) => drop(core.runtime.spawn(task.run(requests))),
                SourceRun::Autonomous(task, requests) => {
                    let (core, runtime) = (Arc::downgrade(core), core.runtime.clone());
                    spawn_thread(&health.clone(), move || {
                        run_autonomous(&health, task, requests, &core, &runtime)
                    });
                }
            }
        }
    }
}

/// Whether real time means something to a source.
fn is_fast(trigger: Trigger) -> bool {
    !trigger.interval.is_zero() && trigger.interval < realtime::BELOW
}

/// Opens an element; what came of it is kept in its health.
fn opened<E: ?Sized>(health: &Health, open: &mut Open<E>) -> Option<Box<E>> {
    match contained(open) {
        Ok(element) => Some(element),
        Err(error) => {
            health.failed(&error);
            None
        }
    }
}

fn spawn_thread(health: &Health, run: impl FnOnce() + Send + 'static) {
    if let Err(e) = std::thread::Builder::new().name(health.name.clone()).spawn(run) {
        health.failed(&Error::fatal(format!("cannot start its thread: {e}")));
    }
}

/// A source's task on this thread, with real-time priority and a runtime of its own, so that no other thread has a part in
/// when it ticks.
fn run_realtime(health: &Health, task: impl Future<Output = ()>) {
    match realtime::take_priority() {
        Ok(()) => info!("{} runs with real-time priority", health.name),
        Err(e) => warn!(
            "{} runs without real-time priority: {e}; agent.realtime needs root or CAP_SYS_NICE: \
             sudo setcap cap_sys_nice+ep $(command -v wattrace), together with the capabilities it has",
            health.name
        ),
    }
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(task),
        Err(e) => health.failed(&Error::fatal(format!("cannot start its runtime: {e}"))),
    }
}

/// An autonomous source on this thread. When it comes to its own end, nothing of it stays.
fn run_autonomous(
    health: &Arc<Health>,
    task: AutonomousTask,
    requests: mpsc::UnboundedReceiver<super::source::Request>,
    core: &Weak<Core>,
    runtime: &Handle,
) {
    let own_end = runtime.block_on(task.run(requests));
    if let Some(core) = core.upgrade().filter(|_| own_end) {
        core.roster.strike(health);
    }
}
