//! A fixture for tests of transforms: one package with a simulated meter, processes, and points as lines of
//! text.

use std::sync::Arc;

use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, Follows, Identity, Metric, Origin, Plugin, Resource,
    SeriesId, SeriesSpec, Timestamp, Value, Window, metric,
};

/// A rig with transforms, and shorthands for series, batches and points.
pub struct Fixture {
    /// The rig, with the transforms under test.
    pub rig: Rig,
    /// The energy domain `package-0`.
    pub domain: Arc<Domain>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}

/// A second in nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

/// The window from second `start` to second `end`.
pub fn seconds(start: u64, end: u64) -> Window {
    Window::new(Timestamp(start * SECOND), Timestamp(end * SECOND))
}

impl Fixture {
    /// A fixture without transforms.
    pub fn new() -> Self {
        let (name, origin) = ("package-0".to_owned(), Origin::Simulated);
        let domain =
            Domain { name, origin, follows: Follows::Package(0), within: None, idle_microwatts: None };
        Self { rig: Rig::new(), domain: Arc::new(domain) }
    }

    /// A fixture with the elements of `P`.
    ///
    /// # Panics
    /// If the plugin does not start.
    #[expect(clippy::panic, reason = "called by tests")]
    pub fn of<P: Plugin>(config: P::Config) -> Self {
        let mut fixture = Self::new();
        fixture.rig.start::<P>(config).unwrap_or_else(|e| panic!("{e}"));
        fixture
    }

    /// A process whose executable is `name`.
    pub fn process(&self, pid: u32, name: &str) -> Arc<Consumer> {
        let identity =
            Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: 1 };
        let attributes = vec![
            Attribute::new("process.pid", i64::from(pid)),
            Attribute::new("process.executable.name", name),
        ];
        Arc::new(Consumer::new(identity, None, attributes))
    }

    /// Opens a series.
    ///
    /// # Panics
    /// If another metric has the same name.
    #[expect(clippy::panic, reason = "called by tests")]
    pub fn open(
        &self,
        metric: &Metric,
        resource: Resource,
        domain: Option<Arc<Domain>>,
        consumer: Option<Arc<Consumer>>,
    ) -> SeriesId {
        let metric = self.rig.registry.metric(metric).unwrap_or_else(|e| panic!("{e}"));
        let start = self.rig.clock.now();
        self.rig.registry.open(SeriesSpec { domain, consumer, ..SeriesSpec::new(metric, resource, start) })
    }

    /// Opens the energy of package 0: the meter's, or a consumer's part of it.
    pub fn energy(&self, consumer: Option<&Arc<Consumer>>) -> SeriesId {
        let metric = if consumer.is_some() { metric::CONSUMER_ENERGY } else { metric::HW_ENERGY };
        self.open(&metric, Resource::package(0), Some(self.domain.clone()), consumer.cloned())
    }

    /// Opens a consumer's CPU time on package 0.
    pub fn cpu_time(&self, consumer: &Arc<Consumer>) -> SeriesId {
        self.open(&metric::CONSUMER_CPU_TIME, Resource::package(0), None, Some(consumer.clone()))
    }

    /// Passes a batch of counters' steps through the transforms; its window is from second `start` to second
    /// `end`.
    ///
    /// # Panics
    /// If a transform fails.
    pub fn pass(&mut self, start: u64, end: u64, points: &[(SeriesId, u64)]) -> Batch {
        self.pass_ending(start, end, points, &[])
    }

    /// The same, with the ends of the series `ended`.
    ///
    /// # Panics
    /// If a transform fails.
    #[expect(clippy::panic, reason = "called by tests")]
    pub fn pass_ending(
        &mut self,
        start: u64,
        end: u64,
        points: &[(SeriesId, u64)],
        ended: &[SeriesId],
    ) -> Batch {
        let mut batch = self.rig.batch(seconds(start, end), points);
        ended.iter().for_each(|&id| batch.end(id));
        self.rig.pass(batch).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Passes a batch of gauges' values through the transforms.
    ///
    /// # Panics
    /// If a transform fails.
    #[expect(clippy::panic, reason = "called by tests")]
    pub fn pass_gauges(&mut self, start: u64, end: u64, points: &[(SeriesId, f64)]) -> Batch {
        let mut batch = Batch::default();
        batch.begin(seconds(start, end));
        points.iter().for_each(|&(id, value)| batch.push(id, Value::of_gauge(value)));
        self.rig.pass(batch).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Finishes the transforms in order, and passes what each holds back through those after it, as the
    /// runner does.
    ///
    /// # Panics
    /// If a transform fails.
    #[expect(clippy::panic, reason = "called by tests")]
    pub fn finish(&mut self) -> Batch {
        let mut all = Batch::default();
        for first in 0..self.rig.transforms.len() {
            let mut batch = Batch::default();
            let mut result = self.rig.transforms[first].1.finish(&mut batch);
            for (_, later) in &mut self.rig.transforms[first + 1..] {
                result = result.and_then(|()| later.apply(&mut batch));
            }
            result.unwrap_or_else(|e| panic!("{e}"));
            all.append(&batch);
        }
        all
    }

    /// Releases the ids of the series that `batch` ends, as the runner does when the outputs have seen it.
    pub fn release(&self, batch: &Batch) {
        self.rig.registry.release(batch.ended());
    }

    /// A batch's points as lines: window, metric, consumer with its executable, resource, the series' own
    /// attributes, value and unit. For example `0s..1s wattrace.consumer.energy process/7 make on package/0
    /// 1.5 J`.
    pub fn lines(&self, batch: &Batch) -> Vec<String> {
        let points = self.rig.points(batch);
        let line = |point: &wattrace_api::testing::Point| {
            let series = &point.series;
            let second = |at: Timestamp| at.0 as f64 / SECOND as f64;
            let mut line =
                format!("{}s..{}s {}", second(point.window.start), second(point.window.end), point.metric);
            if let Some(consumer) = &series.consumer {
                line += &format!(" {}/{}", consumer.kind().as_str(), consumer.identity().id);
                if let Some(name) = consumer.attribute("process.executable.name") {
                    line += &format!(" {name}");
                }
            }
            line += &format!(" on {}/{}", series.resource.kind.as_str(), series.resource.id);
            for attribute in &series.attributes {
                line += &format!(" {}={}", attribute.key, attribute.value);
            }
            line + &format!(" {} {}", point.value, series.metric.unit.ucum())
        };
        points.iter().map(line).collect()
    }
}
