//! From what a plugin added to a running element: opens it, gives it its task or thread, and enters it in the
//! roster.

use std::future::Future;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use wattrace_api::spec::Open;
use wattrace_api::{Added, ElementKind, Error, Trigger};

use super::autonomous::AutonomousTask;
use super::core::Core;
use super::flow::LiveSet;
use super::health::Health;
use super::opening::Opener;
use super::output::OutputThread;
use super::queue::Queue;
use super::realtime;
use super::roster::{OutputEntry, SourceEntry, TransformEntry};
use super::source::{Orders, Place, Requests, SourceTask};
use super::transforms::Stage;

/// How long a call may take before it is said not to return: into what must not wait, and into what may.
const QUICK: Duration = Duration::from_secs(2);
const SLOW: Duration = Duration::from_secs(10);

/// How long the start waits for an element's opening, and for all of them together; one comes after the
/// other, and none gets less than a moment. What has not opened by then joins when it has.
const OPENING: Duration = Duration::from_secs(2);
const ALL_OPENING: Duration = Duration::from_secs(3);
const MOMENT: Duration = Duration::from_millis(50);

/// Elements that are open, or being opened, and not running yet. Outputs' threads do so already.
pub(crate) struct Opened {
    sources: Vec<(SourceEntry, SourceRun)>,
    transforms: Vec<(TransformEntry, Stage)>,
    outputs: Vec<OutputEntry>,
    deadline: Instant,
}

enum SourceRun {
    Managed(SourceTask, Requests),
    Autonomous(AutonomousTask, Requests),
}

/// Opens elements (pairs of plugin and element): the sources first, since a transform's opening looks at what
/// they have found. One that cannot be opened does not keep the others from running; one whose name is taken
/// is dropped.
pub(crate) fn open(core: &Core, added: Vec<(&'static str, Added)>) -> Opened {
    let deadline = Instant::now() + ALL_OPENING;
    let mut opened = Opened { sources: Vec::new(), transforms: Vec::new(), outputs: Vec::new(), deadline };
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
            Added::Source { trigger, blocking, open, .. } => {
                let (opener, source) = self.begin(&health, open);
                let (requests, received) = mpsc::unbounded_channel();
                let (orders, obeyed) = watch::channel(Orders { trigger, paused: false });
                let place = match blocking {
                    _ if realtime::is_fast(trigger) => Place::Here,
                    true => Place::Pool,
                    false => Place::Lane(core.lane.clone()),
                };
                let entry = SourceEntry { plugin, health: health.clone(), requests, orders, managed: true };
                let orders = obeyed;
                let live = LiveSet::default();
                let task = SourceTask {
                    health,
                    orders,
                    place,
                    opener,
                    source,
                    live,
                    pool,
                    clock,
                    rediscover,
                    downstream,
                };
                self.sources.push((entry, SourceRun::Managed(task, received)));
            }
            Added::Autonomous { open, .. } => {
                // It opens on the thread that it then runs on; to the start it is as good as open.
                health.opened();
                let (requests, received) = mpsc::unbounded_channel();
                let (orders, obeyed) = watch::channel(Orders { trigger: Trigger::MANUAL, paused: false });
                let entry = SourceEntry { plugin, health: health.clone(), requests, orders, managed: false };
                let task = AutonomousTask { health, orders: obeyed, open, pool, rediscover, downstream };
                self.sources.push((entry, SourceRun::Autonomous(task, received)));
            }
            Added::Transform { open, .. } => {
                let (opener, transform) = self.begin(&health, open);
                let entry = TransformEntry { plugin, health: health.clone() };
                let rank = core.settings.rank(plugin);
                self.transforms.push((entry, Stage::new(health, rank, opener, transform)));
            }
            Added::Output { open, .. } => {
                let queue = Queue::new(core.settings.queue_of(&health.name), health.clone());
                let (flushed, seen) = watch::channel(0);
                let (opening, opened) = std::sync::mpsc::channel();
                let thread = OutputThread {
                    health: health.clone(),
                    open,
                    output: None,
                    queue: queue.clone(),
                    opening: Some(opening),
                    flushed,
                    flush_interval: core.settings.flush_interval,
                    unwritten: 0,
                };
                spawn_thread(&health, move || thread.run());
                // It says that it has opened by letting go of its end.
                if opened.recv_timeout(self.patience()) == Err(RecvTimeoutError::Timeout) {
                    still_opening(&health);
                }
                self.outputs.push(OutputEntry { plugin, health, queue, flushed: seen });
            }
        }
    }

    /// How long the next opening may take.
    fn patience(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).clamp(MOMENT, OPENING)
    }

    /// Opens an element, waiting for it as long as there is time. What came of it is kept in its health; an
    /// opening that takes longer is left under way.
    fn begin<E: ?Sized + Send + 'static>(
        &self,
        health: &Arc<Health>,
        open: Open<E>,
    ) -> (Opener<E>, Option<Box<E>>) {
        let mut opener = Opener::new(health.clone(), open);
        opener.begin();
        let element = match opener.result_within(self.patience()) {
            Some(Ok(element)) => {
                health.opened();
                Some(element)
            }
            Some(Err(error)) => {
                health.failed(&error);
                None
            }
            None => {
                still_opening(health);
                None
            }
        };
        (opener, element)
    }

    /// The outputs' queues.
    pub(crate) fn queues(&self) -> Vec<Arc<Queue>> {
        self.outputs.iter().map(|entry| entry.queue.clone()).collect()
    }

    /// The transforms, which go to their thread.
    pub(crate) fn take_stages(&mut self, core: &Core) -> Vec<Stage> {
        let (entries, stages): (Vec<_>, Vec<_>) = self.transforms.drain(..).unzip();
        core.roster.lock().transforms.extend(entries);
        stages
    }

    /// Enters the outputs, which are going already.
    pub(crate) fn enter_outputs(&mut self, core: &Core) {
        core.roster.lock().outputs.append(&mut self.outputs);
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
                SourceRun::Managed(task, requests) => {
                    let realtime = core.settings.realtime;
                    let alone = move |task: SourceTask, requests| {
                        spawn_thread(&health.clone(), move || {
                            run_alone(&health, realtime, task.run(requests))
                        });
                    };
                    if matches!(task.place, Place::Here) {
                        alone(task, requests);
                    } else {
                        core.runtime.spawn(async move {
                            if let Some((task, requests)) = task.run(requests).await {
                                alone(task, requests);
                            }
                        });
                    }
                }
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

fn still_opening(health: &Health) {
    warn!("{} is still being opened; the others start without it", health.name);
}

fn spawn_thread(health: &Health, run: impl FnOnce() + Send + 'static) {
    if let Err(e) = std::thread::Builder::new().name(health.name.clone()).spawn(run) {
        health.failed(&Error::fatal(format!("cannot start its thread: {e}")));
    }
}

/// A source's task on this thread, which has a runtime of its own, so that no other has a part in when it
/// ticks.
fn run_alone<T>(health: &Health, realtime: bool, task: impl Future<Output = T>) {
    match realtime.then(realtime::take_priority) {
        None => {}
        Some(Ok(())) => info!("{} runs with real-time priority", health.name),
        Some(Err(e)) => warn!(
            "{} runs without real-time priority: {e}; agent.realtime needs root or CAP_SYS_NICE: \
             sudo setcap cap_sys_nice+ep $(command -v wattrace), together with the capabilities it has",
            health.name
        ),
    }
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => drop(runtime.block_on(task)),
        Err(e) => health.failed(&Error::fatal(format!("cannot start its runtime: {e}"))),
    }
}

/// An autonomous source on this thread. When it comes to its own end, nothing of it stays.
fn run_autonomous(
    health: &Arc<Health>,
    task: AutonomousTask,
    requests: Requests,
    core: &Weak<Core>,
    runtime: &Handle,
) {
    let own_end = runtime.block_on(task.run(requests));
    if let Some(core) = core.upgrade().filter(|_| own_end) {
        core.roster.strike(health);
    }
}
