//! From what a plugin declared to a running element: opens it, gives it its thread or its place in the chain,
//! and adds it to the elements.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::warn;
use wattrace_api::spec::Open;
use wattrace_api::{
    ElementKind, ElementSpec, Error, Output, PluginElement, Source, Timestamp, Transform, Trigger,
};
use wattrace_backoff::Backoff;

use super::commands;
use super::context::Context;
use super::elements::{OutputEntry, SourceEntry, TransformEntry};
use super::flow::LiveSet;
use super::guard::MAX_RETRY;
use super::health::Health;
use super::output::OutputThread;
use super::output_transforms::share;
use super::queue::Queue;
use super::source::SourceThread;
use super::stage::Stage;

/// How long a call may take before the watchdog reports it: a poll or a transform, and a write.
const QUICK: Duration = Duration::from_secs(2);
const SLOW: Duration = Duration::from_secs(10);

/// How long the start waits for one element to open, and for all of them together; they open one after the
/// other, and none gets less than `MIN_OPENING`. An element that has not opened by then joins when it has.
const OPENING: Duration = Duration::from_secs(2);
const ALL_OPENING: Duration = Duration::from_secs(3);
const MIN_OPENING: Duration = Duration::from_millis(50);

/// The shortest wait before a failed source is tried again.
const MIN_RETRY: Duration = Duration::from_millis(100);

/// Elements that are open, or being opened, and not running yet. Outputs' threads run already.
pub(crate) struct Opened {
    /// Each with the sender that starts its thread.
    sources: Vec<(SourceEntry, mpsc::Sender<()>)>,
    transforms: Vec<(TransformEntry, Stage)>,
    outputs: Vec<OutputEntry>,
    deadline: Instant,
}

/// Opens elements: the sources first, since a transform's opening looks at what they have found. An element
/// that cannot be opened does not keep the others from running; one whose name is taken is dropped.
pub(crate) fn open(context: &Context, elements: Vec<PluginElement>) -> Opened {
    let deadline = Instant::now() + ALL_OPENING;
    let mut opened = Opened { sources: Vec::new(), transforms: Vec::new(), outputs: Vec::new(), deadline };
    let (sources, rest): (Vec<_>, Vec<_>) =
        elements.into_iter().partition(|element| element.spec.kind() == ElementKind::Source);
    let rest = take_output_transforms(context, rest);
    let mut names = Vec::new();
    for PluginElement { plugin, spec } in sources.into_iter().chain(rest) {
        let patience = if spec.kind() == ElementKind::Output { SLOW } else { QUICK };
        let health = Health::new(spec.kind(), plugin, spec.name(), patience, context.clock.clone());
        if context.elements.has(&health.name) || names.contains(&health.name) {
            warn!("there is an element {} already: the second one is not added", health.name);
            continue;
        }
        names.push(health.name.clone());
        match spec {
            ElementSpec::Source { trigger, open, .. } => {
                opened.add_source(context, plugin, health, trigger, open);
            }
            ElementSpec::Transform { open, .. } => opened.add_transform(context, plugin, health, open),
            ElementSpec::Output { transforms, open, .. } => {
                opened.add_output(context, plugin, health, transforms, open);
            }
        }
    }
    opened
}

/// Takes out the transforms that outputs have for themselves, and keeps how to open them.
fn take_output_transforms(context: &Context, elements: Vec<PluginElement>) -> Vec<PluginElement> {
    let mut rest = Vec::new();
    for PluginElement { plugin, spec } in elements {
        match spec {
            ElementSpec::Transform { open, .. } if context.settings.is_for_outputs(plugin) => {
                context.output_transforms.add(plugin, open);
            }
            spec => rest.push(PluginElement { plugin, spec }),
        }
    }
    rest
}

impl Opened {
    fn add_source(
        &mut self,
        context: &Context,
        plugin: &'static str,
        health: Arc<Health>,
        trigger: Trigger,
        open: Open<dyn Source>,
    ) {
        let (sender, receiver) = commands::channel();
        let (start, started) = mpsc::channel();
        let entry = SourceEntry { plugin, health: health.clone(), commands: sender, trigger };
        self.sources.push((entry, start));
        let commands = match receiver {
            Ok(receiver) => receiver,
            Err(e) => return health.failed(&Error::fatal(format!("cannot create an eventfd: {e}"))),
        };
        let thread = SourceThread {
            health: health.clone(),
            open,
            source: None,
            trigger,
            paused: false,
            realtime: context.settings.realtime,
            rediscover: context.settings.rediscover,
            resume: Timestamp(0),
            backoff: Backoff::new(trigger.interval.max(MIN_RETRY), MAX_RETRY),
            live: LiveSet::default(),
            points: 0,
            commands,
            pool: context.pool.clone(),
            clock: context.clock.clone(),
            inbox: context.inbox.clone(),
        };
        let (opening, opened) = mpsc::channel();
        spawn_thread(&health, move || thread.run(opening, &started));
        self.wait_until_open(&health, &opened);
    }

    fn add_transform(
        &mut self,
        context: &Context,
        plugin: &'static str,
        health: Arc<Health>,
        open: Open<dyn Transform>,
    ) {
        let entry = TransformEntry { plugin, health: health.clone() };
        let mut stage = Stage::new(health, context.settings.rank(plugin), open);
        if !stage.open(self.patience(), context.clock.now()) {
            still_opening(&stage.health);
        }
        self.transforms.push((entry, stage));
    }

    fn add_output(
        &mut self,
        context: &Context,
        plugin: &'static str,
        health: Arc<Health>,
        transforms: Vec<Open<dyn Transform>>,
        open: Open<dyn Output>,
    ) {
        let queue = Queue::new(context.settings.queue_of(&health.name), health.clone());
        let (flushed, seen) = watch::channel(0);
        let thread = OutputThread {
            health: health.clone(),
            registry: context.registry.clone(),
            open,
            configured: context.settings.transforms_of(&health.name),
            output_transforms: context.output_transforms.clone(),
            transforms: transforms.into_iter().map(share).collect(),
            output: None,
            queue: queue.clone(),
            flushed,
            flush_interval: context.settings.flush_interval,
            unwritten: 0,
        };
        let (opening, opened) = mpsc::channel();
        spawn_thread(&health, move || thread.run(opening));
        self.wait_until_open(&health, &opened);
        self.outputs.push(OutputEntry { plugin, health, queue, flushed: seen });
    }

    /// Waits until an element's thread has opened it, which it reports by dropping its sender.
    fn wait_until_open(&self, health: &Health, opened: &mpsc::Receiver<()>) {
        if opened.recv_timeout(self.patience()) == Err(RecvTimeoutError::Timeout) {
            still_opening(health);
        }
    }

    /// How long the next opening may take.
    fn patience(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).clamp(MIN_OPENING, OPENING)
    }

    /// Adds the outputs to the elements. Returns their queues.
    pub(crate) fn take_outputs(&mut self, context: &Context) -> Vec<Arc<Queue>> {
        let queues = self.outputs.iter().map(|entry| entry.queue.clone()).collect();
        context.elements.lock().outputs.append(&mut self.outputs);
        queues
    }

    /// Adds the transforms to the elements. Returns them for their thread.
    pub(crate) fn take_stages(&mut self, context: &Context) -> Vec<Stage> {
        let (entries, stages): (Vec<_>, Vec<_>) = self.transforms.drain(..).unzip();
        context.elements.lock().transforms.extend(entries);
        stages
    }

    /// Adds the sources to the elements and starts them.
    pub(crate) fn start_sources(self, context: &Context) {
        for (entry, start) in self.sources {
            context.elements.add_source(entry);
            // An error means that its thread could not be started, which its health shows.
            let _ = start.send(());
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
