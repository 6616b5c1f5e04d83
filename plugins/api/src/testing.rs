//! A rig that runs a plugin's elements without an agent, on a clock the test turns: script the ticks, read the points.
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

use std::sync::Arc;

use crate::batch::Batch;
use crate::element::{Output, Source, Tick, Transform};
use crate::error::Error;
use crate::metric::{Metric, Value};
use crate::plugin::{Added, Plugin, Setup};
use crate::series::{Registry, Series, SeriesId, SeriesSpec};
use crate::subject::Resource;
use crate::time::{Clock, Timestamp, Window};

/// A registry, a clock and the elements of the plugins under test.
pub struct Rig {
    /// The registry that the elements share.
    pub registry: Arc<Registry>,
    /// The clock that the elements see.
    pub clock: Clock,
    /// Opened sources by name.
    pub sources: Vec<(String, Box<dyn Source>)>,
    /// Opened transforms by name, in order.
    pub transforms: Vec<(String, Box<dyn Transform>)>,
    /// Opened outputs by name.
    pub outputs: Vec<(String, Box<dyn Output>)>,
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
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => tokio::runtime::Runtime::new().map_err(Error::fatal)?,
        };
        let mut setup = Setup::new(self.registry.clone(), self.clock.clone(), runtime.handle().clone());
        self.runtime = Some(runtime);
        P::start(config, &mut setup)?;
        for added in setup.take_added() {
            match added {
                Added::Source { name, mut open, .. } => self.sources.push((name, open()?)),
                Added::Transform { name, mut open } => self.transforms.push((name, open()?)),
                Added::Output { name, mut open } => self.outputs.push((name, open()?)),
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
