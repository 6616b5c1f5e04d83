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

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::batch::Batch;
use crate::chain::OutputChain;
use crate::element::{Source, Tick, TickCause, Transform};
use crate::error::Error;
use crate::host::Host;
use crate::metric::{Metric, Value};
use crate::plugin::{Plugin, Setup};
use crate::registry::Registry;
use crate::series::{Series, SeriesId, SeriesSpec};
use crate::spec::ElementSpec;
use crate::subject::Resource;
use crate::time::{Clock, Timestamp, Window};

pub use allocations::Allocations;

/// Longest wait for a source that is expected to ask for a poll.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registry, a clock and the elements of the plugins under test.
///
/// Use it in a plain `#[test]`, outside of an async runtime: it brings its own.
pub struct Rig {
    /// The registry that the elements share.
    pub registry: Arc<Registry>,
    /// The clock that the elements see.
    pub clock: Clock,
    /// Opened sources by name.
    pub sources: Vec<(String, Box<dyn Source>)>,
    /// Opened transforms by name, in order.
    pub transforms: Vec<(String, Box<dyn Transform>)>,
    /// Opened outputs by name, each behind the transforms of its own.
    pub outputs: Vec<(String, OutputChain)>,
    runtime: Option<tokio::runtime::Runtime>,
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
            transforms: Vec::new(),
            outputs: Vec::new(),
            runtime: None,
        }
    }

    /// Starts `P` and opens its elements.
    ///
    /// # Errors
    /// Those of the plugin's start and of its elements' opening.
    pub fn start<P: Plugin>(&mut self, config: P::Config) -> Result<(), Error> {
        self.start_with(P::NAME, |setup| P::start(config, setup))
    }

    /// Opens the elements that `start` declares for the plugin `name`.
    ///
    /// # Errors
    /// Those of `start` and of the elements' opening.
    pub fn start_with(
        &mut self,
        name: &'static str,
        start: impl FnOnce(&mut Setup) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let handle = self.runtime()?.handle().clone();
        let mut host = Host::new(self.registry.clone(), self.clock.clone(), handle);
        host.start(name, start)?;
        host.take_elements().into_iter().try_for_each(|element| self.open(element.spec))
    }

    fn runtime(&mut self) -> Result<&tokio::runtime::Runtime, Error> {
        Ok(match self.runtime.take() {
            Some(runtime) => self.runtime.insert(runtime),
            None => self.runtime.insert(tokio::runtime::Runtime::new().map_err(Error::fatal)?),
        })
    }

    fn open(&mut self, spec: ElementSpec) -> Result<(), Error> {
        match spec {
            ElementSpec::Source { name, mut open, .. } => self.sources.push((name, open()?)),
            ElementSpec::Transform { name, mut open } => self.transforms.push((name, open()?)),
            ElementSpec::Output { name, mut transforms, mut open } => {
                self.outputs.push((name, OutputChain::open(&self.registry, &mut transforms, &mut open)?));
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
        let tick = Tick::at(now);
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
        let found = self.outputs.iter_mut().find(|(n, _)| n == name);
        found.ok_or_else(|| missing(name))?.1.write(batch)
    }

    /// Waits until the source `name` wants a poll before its next tick ([`Source::wakeup`]), polls it, and
    /// passes the batch on as [`Rig::pass`] does.
    ///
    /// # Errors
    /// The first that an element gives; that there is no such source, that it has no wake-up descriptor, or
    /// that the descriptor did not become readable in twenty seconds.
    pub fn wake(&mut self, name: &str) -> Result<Batch, Error> {
        let source = named(&mut self.sources, name)?;
        let wakeup =
            source.wakeup().ok_or_else(|| Error::fatal(format!("{name} has no wake-up descriptor")))?;
        if !is_readable_within(wakeup, PATIENCE).map_err(Error::fatal)? {
            return Err(Error::fatal(format!("{name} did not ask to be polled in {PATIENCE:?}")));
        }
        let mut batch = Batch::default();
        source.poll(&Tick { cause: TickCause::Wakeup, ..Tick::at(self.clock.now()) }, &mut batch)?;
        self.pass(batch)
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

/// Waits until `descriptor` is readable, for `patience` at most.
fn is_readable_within(descriptor: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(patience).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout))? > 0)
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
