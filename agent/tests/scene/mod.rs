//! A small world for tests of the pipeline: elements made of closures, a log of what reached an output, and
//! the books.

#![allow(dead_code, reason = "each test binary uses its part of it")]

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;
use wattrace::config::Settings;
use wattrace::pattern::Pattern;
use wattrace::pipeline::Pipeline;
use wattrace::pipeline::control::Control;
use wattrace::pipeline::health::Health;
use wattrace::pipeline::status::ElementStatus;
use wattrace_api::{
    Batch, Clock, Error, Host, Output, PluginElement, Registry, Resource, ResourceKind, SeriesId, SeriesSpec,
    Setup, Source, Tick, Timestamp, Transform, Trigger, Value, metric,
};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the sources tick.
pub(crate) const OFTEN: Duration = Duration::from_millis(1);

/// A value that one thread changes and another waits for.
#[derive(Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock().unwrap());
        self.changed.notify_all();
        result
    }

    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&T) -> bool) {
        let value = self.value.lock().unwrap();
        let (_value, waited) = self.changed.wait_timeout_while(value, PATIENCE, |v| !is_so(v)).unwrap();
        assert!(!waited.timed_out(), "in {PATIENCE:?} it did not happen that {what}");
    }
}

impl Watched<bool> {
    /// Stands still until the test lets it go on.
    pub(crate) fn pass(&self) {
        self.until("the test opens the gate", |open| *open);
    }

    pub(crate) fn open(&self) {
        self.change(|open| *open = true);
    }
}

/// An element made of a closure.
pub(crate) struct Does<F>(pub(crate) F);

impl<F: FnMut(&Tick, &mut Batch) -> Result<(), Error> + Send> Source for Does<F> {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        (self.0)(tick, out)
    }
}

impl<F: FnMut(&mut Batch) -> Result<(), Error> + Send> Transform for Does<F> {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        (self.0)(batch)
    }
}

impl<F: FnMut(&Batch) -> Result<(), Error> + Send> Output for Does<F> {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        (self.0)(batch)
    }
}

/// What reached an output: points by their series' label, and labels of series that ended.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) points: Vec<(String, u64)>,
    ended: Vec<String>,
}

impl Log {
    pub(crate) fn of(&self, label: &str) -> Vec<u64> {
        self.points.iter().filter(|(l, _)| l == label).map(|(_, value)| *value).collect()
    }

    pub(crate) fn last(&self, label: &str) -> u64 {
        self.points.iter().rev().find(|(l, _)| l == label).map_or(0, |(_, value)| *value)
    }

    pub(crate) fn ends_of(&self, label: &str) -> usize {
        self.ended.iter().filter(|l| *l == label).count()
    }

    fn take(&mut self, registry: &Registry, batch: &Batch) {
        let label =
            |id| registry.get(id).map_or("already released".to_owned(), |s| s.resource.id.to_string());
        for segment in batch.segments() {
            self.points.extend(segment.points().map(|(id, value)| (label(id), value.steps())));
        }
        self.ended.extend(batch.ended().iter().map(|&id| label(id)));
    }
}

/// A source made of a closure, polled whenever its descriptor is readable.
pub(crate) struct Wakes<F>(pub(crate) Arc<UnixStream>, pub(crate) F);

impl<F: FnMut(&Tick, &mut Batch) -> Result<(), Error> + Send> Source for Wakes<F> {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        (self.1)(tick, out)
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// Elements that a pipeline is made of.
pub(crate) struct Scene {
    runtime: Runtime,
    host: Host,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let host = Host::new(Registry::new(), Clock::system(), runtime.handle().clone());
        Self { runtime, host }
    }

    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.host.registry().clone()
    }

    pub(crate) fn runtime(&self) -> Handle {
        self.host.runtime().clone()
    }

    /// Adds what `start` declares for `plugin`.
    pub(crate) fn plugin(&mut self, plugin: &'static str, start: impl FnOnce(&mut Setup)) {
        declare(&mut self.host, plugin, start);
    }

    /// Adds a source `test/name`.
    pub(crate) fn source<S: Source + 'static>(
        &mut self,
        name: &str,
        trigger: Trigger,
        open: impl FnMut() -> Result<S, Error> + Send + 'static,
    ) {
        self.plugin("test", |setup| setup.source(name, trigger, open));
    }

    /// Adds a transform `test/name`.
    pub(crate) fn transform<T: Transform + 'static>(
        &mut self,
        name: &str,
        open: impl FnMut() -> Result<T, Error> + Send + 'static,
    ) {
        self.plugin("test", |setup| setup.transform(name, open));
    }

    /// Adds an output `test/name`.
    pub(crate) fn add_output<O: Output + 'static>(
        &mut self,
        name: &str,
        open: impl FnMut() -> Result<O, Error> + Send + 'static,
    ) {
        self.plugin("test", |setup| setup.output(name, open));
    }

    /// Adds a source `name` that sends 1, 2, 3, … on a series of its name.
    pub(crate) fn counting(
        &mut self,
        name: &'static str,
        trigger: Trigger,
        open: impl Fn(&str) -> SeriesId + Send + 'static,
    ) {
        self.plugin("test", |setup| counting(setup, name, trigger, open));
    }

    /// Opens series that carry a label.
    pub(crate) fn opener(&self) -> impl Fn(&str) -> SeriesId + Send + Sync + Clone + 'static {
        let registry = self.registry();
        move |label| {
            let metric = registry.metric(&metric::HW_ENERGY).unwrap();
            let resource = Resource { kind: ResourceKind::Package, id: label.to_owned().into() };
            let (domain, consumer, attributes) = (None, None, Vec::new());
            registry.open(SeriesSpec { metric, resource, domain, consumer, attributes, start: Timestamp(0) })
        }
    }

    /// Adds a source `name` that gives out 1, 2, 3, … on a series of its name.
    pub(crate) fn steady(&mut self, name: &'static str) {
        let open = self.opener();
        self.counting(name, Trigger::every(OFTEN), open);
    }

    /// Adds an output `name` that logs all it is given once `before` has let the batch pass.
    pub(crate) fn output(
        &mut self,
        name: &'static str,
        before: impl Fn(u64) -> Result<(), Error> + Send + Sync + 'static,
    ) -> (Arc<Watched<Log>>, Arc<AtomicU64>) {
        let (log, opened) = (Arc::new(Watched::<Log>::default()), Arc::new(AtomicU64::new(0)));
        let (registry, before, calls) = (self.registry(), Arc::new(before), Arc::new(AtomicU64::new(0)));
        let (shared, openings) = (log.clone(), opened.clone());
        self.add_output(name, move || {
            openings.fetch_add(1, Relaxed);
            let (registry, log, before, calls) =
                (registry.clone(), shared.clone(), before.clone(), calls.clone());
            Ok(Does(move |batch: &Batch| {
                before(calls.fetch_add(1, Relaxed) + 1)?;
                log.change(|log| log.take(&registry, batch));
                Ok(())
            }))
        });
        (log, opened)
    }

    /// Adds an output that works.
    pub(crate) fn log(&mut self) -> Arc<Watched<Log>> {
        self.output("log", |_| Ok(())).0
    }

    pub(crate) fn start(self, queue: usize) -> Running {
        self.start_with(Settings { queue: NonZeroUsize::new(queue).unwrap(), ..Settings::default() })
    }

    pub(crate) fn start_with(self, settings: Settings) -> Running {
        Running { pipeline: Pipeline::start(self.host, settings), runtime: self.runtime }
    }
}

pub(crate) struct Running {
    runtime: Runtime,
    pipeline: Pipeline,
}

impl Running {
    pub(crate) fn health(&self, name: &str) -> Arc<Health> {
        find(&self.pipeline.health(), name)
    }

    pub(crate) fn control(&self) -> Control {
        self.pipeline.control()
    }

    pub(crate) fn status(&self, name: &str) -> ElementStatus {
        let pattern = name.parse().unwrap();
        let mut all = self.pipeline.control().status(&pattern);
        assert_eq!(all.len(), 1, "{name}: {all:?}");
        all.remove(0)
    }

    /// Runs what is async.
    pub(crate) fn wait_for<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(PATIENCE, what).await.unwrap() })
    }

    /// Polls a condition that no element reports.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut(&Control) -> bool) {
        let (began, control) = (Instant::now(), self.control());
        while !is_so(&control) {
            assert!(began.elapsed() < PATIENCE, "in {PATIENCE:?} it did not happen that {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops within `limit`, or fails. Like the agent, it leaves behind what does not return.
    pub(crate) fn stop(self, limit: Duration) -> Vec<Arc<Health>> {
        let began = Instant::now();
        let deadline = tokio::time::Instant::from_std(began + limit);
        let health = self.runtime.block_on(self.pipeline.stop(deadline));
        self.runtime.shutdown_timeout(Duration::from_millis(100));
        let took = began.elapsed();
        assert!(took < limit + Duration::from_millis(400), "stopping took {took:?}");
        health
    }
}

pub(crate) fn find(all: &[Arc<Health>], name: &str) -> Arc<Health> {
    all.iter().find(|h| h.name == name).unwrap_or_else(|| panic!("no {name} in {all:?}")).clone()
}

/// Errors, points and lost points of an element.
pub(crate) fn books(all: &[Arc<Health>], name: &str) -> [u64; 3] {
    let h = find(all, name);
    [h.errors.load(Relaxed), h.points_out.load(Relaxed), h.lost.load(Relaxed)]
}

/// Fails unless `values` are 1, 2, 3, … `n`.
pub(crate) fn assert_each_once(what: &str, values: &[u64], n: u64) {
    let wrong = values.iter().zip(1..).find(|&(&value, expected)| value != expected);
    assert_eq!(
        (wrong, values.len() as u64),
        (None, n),
        "{what}: the first wrong value and its place, and their number"
    );
}

/// What the agent gives a pipeline to stop; the rest of five seconds is the process's own end.
pub(crate) const STOPPING: Duration = Duration::from_millis(4500);

pub(crate) fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

/// A deadline that nothing should need.
pub(crate) fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + PATIENCE / 2
}

/// Declares a source that sends 1, 2, 3, … on a series of its name.
pub(crate) fn counting(
    setup: &mut Setup,
    name: &'static str,
    trigger: Trigger,
    open: impl Fn(&str) -> SeriesId + Send + 'static,
) {
    setup.source(name, trigger, move || {
        let (id, mut n) = (open(name), 0);
        Ok(Does(move |_: &Tick, out: &mut Batch| {
            n += 1;
            out.push(id, Value::of_steps(n));
            Ok(())
        }))
    });
}

fn declare(host: &mut Host, plugin: &'static str, start: impl FnOnce(&mut Setup)) {
    let start = |setup: &mut Setup| {
        start(setup);
        Ok(())
    };
    host.start(plugin, start).unwrap();
}

/// What `start` declares for `plugin`, which is to join the pipeline.
pub(crate) fn declared(
    control: &Control,
    plugin: &'static str,
    start: impl FnOnce(&mut Setup),
) -> Vec<PluginElement> {
    let mut host = control.host();
    declare(&mut host, plugin, start);
    host.take_elements()
}
