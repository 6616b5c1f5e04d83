//! A rig that runs a plugin's elements without an agent, on a clock the test turns: script the ticks, read
//! the points.
//!
//! ```
//! use wattrace_api::testing::Rig;
//! use wattrace_api::{Timestamp, Window, Resource, metric};
//!
//! let mut rig = Rig::new();
//! let energy = rig.series(&metric::HW_ENERGY, Resource::package(0));
//! let batch = rig.batch(Window::new(Timestamp(0), Timestamp(10)), &[(energy, 1_500_000)]);
//! let points = rig.points(&batch);
//! assert_eq!((&*points[0].metric, points[0].value), ("hw.energy", 1.5));
//! ```

mod allocations;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::added::{Added, Change, ElementKind};
use crate::batch::Batch;
use crate::element::{Output, Source, Tick, Transform};
use crate::error::Error;
use crate::feed::Feed;
use crate::metric::{Metric, Value};
use crate::plugin::{Plugin, Setup};
use crate::registry::Registry;
use crate::series::{Series, SeriesId, SeriesSpec};
use crate::subject::Resource;
use crate::time::{Clock, Timestamp, Window};

pub use allocations::Allocations;

/// Longest wait for what an autonomous source is expected to produce.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registry, a clock and the elements of the plugins under test.
///
/// It may be used in a plain `#[test]` only: async outputs and autonomous sources run on a runtime that it
/// brings along.
pub struct Rig {
    /// The registry that the elements share.
    pub registry: Arc<Registry>,
    /// The clock that the elements see.
    pub clock: Clock,
    /// Opened sources by name.
    pub sources: Vec<(String, Box<dyn Source>)>,
    /// Autonomous sources by name, on their way.
    pub autonomous: Vec<(String, Producing)>,
    /// Opened transforms by name, in order.
    pub transforms: Vec<(String, Box<dyn Transform>)>,
    /// Opened outputs by name.
    pub outputs: Vec<(String, Box<dyn Output>)>,
    changes: Vec<mpsc::UnboundedReceiver<Change>>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// An autonomous source on its way.
pub struct Producing {
    batches: mpsc::Receiver<Batch>,
    stopping: watch::Sender<bool>,
    task: JoinHandle<Result<(), Error>>,
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Rig {
    /// A rig whose clock stands at zero.
    pub fn new() -> Self {
        Self {
            registry: Registry::new(),
            clock: Clock::manual(Timestamp(0)),
            sources: Vec::new(),
            autonomous: Vec::new(),
            transforms: Vec::new(),
            outputs: Vec::new(),
            changes: Vec::new(),
            runtime: None,
        }
    }

    /// Starts `P` and opens its elements.
    ///
    /// # Errors
    /// Those of the plugin's start and of its elements' opening.
    pub fn start<P: Plugin>(&mut self, config: P::Config) -> Result<(), Error> {
        let handle = self.runtime()?.handle().clone();
        let mut setup = Setup::new(self.registry.clone(), self.clock.clone(), handle);
        setup.enter(P::NAME);
        P::start(config, &mut setup)?;
        self.changes.extend(setup.take_changes());
        setup.take_added().into_iter().try_for_each(|(_, added)| self.open(added))
    }

    fn runtime(&mut self) -> Result<&tokio::runtime::Runtime, Error> {
        Ok(match self.runtime.take() {
            Some(runtime) => self.runtime.insert(runtime),
            None => self.runtime.insert(tokio::runtime::Runtime::new().map_err(Error::fatal)?),
        })
    }

    fn open(&mut self, added: Added) -> Result<(), Error> {
        match added {
            Added::Source { name, mut open, .. } => self.sources.push((name, open()?)),
            Added::Autonomous { name, mut open } => {
                let (sender, batches) = mpsc::channel(1);
                let (stopping, stop) = watch::channel(false);
                let source = open(Feed::new(sender, Arc::new(Batch::default), stop));
                let task = self.runtime()?.spawn(source);
                self.autonomous.push((name, Producing { batches, stopping, task }));
            }
            Added::Transform { name, mut open } => self.transforms.push((name, open()?)),
            Added::Output { name, mut open } => self.outputs.push((name, open()?)),
        }
        Ok(())
    }

    /// Carries out what elements have asked for through [`crate::Elements`] since the last call.
    ///
    /// # Errors
    /// Those of opening the elements that were added.
    pub fn settle(&mut self) -> Result<(), Error> {
        let mut changes = Vec::new();
        for receiver in &mut self.changes {
            changes.extend(std::iter::from_fn(|| receiver.try_recv().ok()));
        }
        for change in changes {
            match change {
                Change::Add { added, .. } => self.open(added)?,
                Change::Remove { kind: ElementKind::Source, name, .. } => {
                    self.sources.retain(|(n, _)| *n != name);
                    self.autonomous.retain(|(n, _)| *n != name);
                }
                Change::Remove { kind: ElementKind::Transform, name, .. } => {
                    self.transforms.retain(|(n, _)| *n != name);
                }
                Change::Remove { kind: ElementKind::Output, name, .. } => {
                    self.outputs.retain(|(n, _)| *n != name);
                }
            }
        }
        Ok(())
    }

    /// Turns the clock to `now`, polls every source once and passes the batch through the transforms.
    ///
    /// # Errors
    /// The first that an element gives.
    pub fn tick(&mut self, now: Timestamp) -> Result<Batch, Error> {
        self.clock.set(now);
        let mut batch = Batch::default();
        let tick = Tick { scheduled: now, missed: 0, last: false };
        for (_, source) in &mut self.sources {
            source.poll(&tick, &mut batch)?;
        }
        self.pass(batch)
    }

    /// A script of ticks: `count` of them, `interval` apart, each as [`Rig::tick`] does it.
    ///
    /// # Errors
    /// The first that an element gives.
    pub fn ticks(&mut self, interval: Duration, count: u32) -> Result<Vec<Batch>, Error> {
        (0..count).map(|_| self.tick(self.clock.now() + interval)).collect()
    }

    /// Polls the source `name` alone, and passes what it gave to nobody.
    ///
    /// # Errors
    /// The source's; that there is no such source.
    pub fn poll(&mut self, name: &str, tick: &Tick) -> Result<Batch, Error> {
        self.clock.set(tick.scheduled);
        let mut batch = Batch::default();
        named(&mut self.sources, name)?.poll(tick, &mut batch)?;
        Ok(batch)
    }

    /// Applies the transform `name` alone.
    ///
    /// # Errors
    /// The transform's; that there is no such transform.
    pub fn apply(&mut self, name: &str, batch: &mut Batch) -> Result<(), Error> {
        named(&mut self.transforms, name)?.apply(batch)
    }

    /// Writes to the output `name` alone.
    ///
    /// # Errors
    /// The output's; that there is no such output.
    pub fn write(&mut self, name: &str, batch: &Batch) -> Result<(), Error> {
        named(&mut self.outputs, name)?.write(batch)
    }

    /// Waits for what the autonomous source `name` produces next, and passes it on as [`Rig::pass`] does.
    ///
    /// # Errors
    /// The source's, if it ended with one; that it ended, or that nothing came in twenty seconds; those of
    /// the others.
    pub fn receive(&mut self, name: &str) -> Result<Batch, Error> {
        let runtime = self.runtime.as_ref().ok_or_else(|| Error::fatal("nothing was started"))?;
        let at = self.autonomous.iter().position(|(n, _)| n == name);
        let at = at.ok_or_else(|| missing(name))?;
        let source = &mut self.autonomous[at].1;
        let received = runtime.block_on(async { timeout(PATIENCE, source.batches.recv()).await });
        match received {
            Ok(Some(batch)) => self.pass(batch),
            Ok(None) => {
                let (_, source) = self.autonomous.remove(at);
                runtime.block_on(source.task).map_err(Error::fatal)??;
                Err(Error::gone(format!("{name} has ended")))
            }
            Err(_) => Err(Error::fatal(format!("{name} produced nothing in {PATIENCE:?}"))),
        }
    }

    /// Tells the autonomous source `name` that the agent stops. Returns what it sent since the last
    /// [`Rig::receive`].
    ///
    /// # Errors
    /// The source's, if it ended with one; that it did not end in twenty seconds.
    pub fn stop(&mut self, name: &str) -> Result<Vec<Batch>, Error> {
        let at = self.autonomous.iter().position(|(n, _)| n == name).ok_or_else(|| missing(name))?;
        let (_, mut source) = self.autonomous.remove(at);
        let runtime = self.runtime.as_ref().ok_or_else(|| Error::fatal("nothing was started"))?;
        let _ = source.stopping.send(true);
        let end = async {
            let mut rest = Vec::new();
            while let Some(batch) = source.batches.recv().await {
                rest.push(batch);
            }
            source.task.await.map_err(Error::fatal)?.map(|()| rest)
        };
        let ended = runtime.block_on(async { timeout(PATIENCE, end).await });
        ended.map_err(|_| Error::fatal(format!("{name} did not end in {PATIENCE:?}")))?
    }

    /// Passes a batch through the transforms and to the outputs.
    ///
    /// # Errors
    /// The first that an element gives.
    pub fn pass(&mut self, mut batch: Batch) -> Result<Batch, Error> {
        for (_, transform) in &mut self.transforms {
            transform.apply(&mut batch)?;
        }
        for (_, output) in &mut self.outputs {
            output.write(&batch)?;
        }
        Ok(batch)
    }

    /// Opens a series about a piece of hardware.
    ///
    /// # Panics
    /// If the metric's name is taken by another.
    #[expect(clippy::panic, reason = "a rig runs in tests")]
    pub fn series(&mut self, metric: &Metric, resource: Resource) -> SeriesId {
        let metric = self.registry.metric(metric).unwrap_or_else(|e| panic!("{e}"));
        self.registry.open(SeriesSpec::new(metric, resource, self.clock.now()))
    }

    /// A batch of counters' steps that share a window.
    pub fn batch(&self, window: Window, points: &[(SeriesId, u64)]) -> Batch {
        let mut batch = Batch::default();
        batch.begin(window);
        for &(series, steps) in points {
            batch.push(series, Value::of_steps(steps));
        }
        batch
    }

    /// A batch's points with all that is known about them.
    pub fn points(&self, batch: &Batch) -> Vec<Point> {
        let mut points = Vec::new();
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if let Some(series) = self.registry.get(id) {
                    let metric = series.metric.name.to_string();
                    let (steps, value) = (value.steps(), series.metric.in_units(value));
                    points.push(Point { window: segment.window, metric, id, series, steps, value });
                }
            }
        }
        points
    }
}

fn named<'a, E: ?Sized>(elements: &'a mut [(String, Box<E>)], name: &str) -> Result<&'a mut E, Error> {
    let found = elements.iter_mut().find(|(n, _)| n == name);
    found.map(|(_, element)| &mut **element).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::fatal(format!("the plugins under test have no such element: {name}"))
}

/// A point, spelt out for a test's eyes.
#[derive(Clone, Debug)]
pub struct Point {
    /// The span it covers.
    pub window: Window,
    /// The metric's name.
    pub metric: String,
    /// Its series.
    pub id: SeriesId,
    /// Its series' description.
    pub series: Arc<Series>,
    /// A counter's value in steps.
    pub steps: u64,
    /// The value in the metric's unit.
    pub value: f64,
}

#[cfg(test)]
mod tests;
