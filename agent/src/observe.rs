//! The source of the agent's own metrics: the resources it uses, and the points that its elements processed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wattrace_api::{
    Attribute, Batch, Clock, ElementKind, Error, Metric, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Setup, Source, Tick, Timestamp, Trigger, Unit, Value, Window, metric,
};

use crate::pipeline::control::Control;
use crate::pipeline::health::Health;

/// The plugin name under which the agent's own elements appear: `source/agent/self`.
pub(crate) const PLUGIN: &str = "agent";

/// Interval of the metrics. They change slowly, and reading them is not free.
const INTERVAL: Duration = Duration::from_secs(10);

const CPU_TIME: Metric = Metric::counter(
    "wattrace.agent.cpu.time",
    Unit::Second,
    metric::NANOSECOND,
    "CPU time used by the agent itself",
);
const MEMORY: Metric =
    Metric::gauge("wattrace.agent.memory.usage", Unit::Byte, "Resident memory of the agent itself (RSS)");
const POINTS: Metric = Metric::counter(
    "wattrace.agent.points",
    Unit::Count("{point}"),
    1.0,
    "Points by element and outcome: passed, lost, or left out by a transform as configured",
);
const ERRORS: Metric = Metric::counter(
    "wattrace.agent.errors",
    Unit::Count("{error}"),
    1.0,
    "Errors and contained panics by element",
);
const MISSED: Metric = Metric::counter(
    "wattrace.agent.tick.missed",
    Unit::Count("{tick}"),
    1.0,
    "Ticks of a source that did not take place; the next window spans them",
);
const LATENESS: Metric = Metric::counter(
    "wattrace.agent.tick.lateness",
    Unit::Second,
    metric::NANOSECOND,
    "Sum of the delays of a source's ticks",
);

/// Adds the source. It observes the elements of the pipeline from when `pipeline` is set.
pub(crate) fn add_source(setup: &mut Setup, pipeline: Arc<OnceLock<Control>>) {
    let (registry, clock) = (setup.registry(), setup.clock());
    setup.source("self", Trigger::every(INTERVAL), move || {
        let start = clock.now();
        let open = |m: &Metric| open(&registry, m, Vec::new(), start);
        Ok(SelfSource {
            registry: registry.clone(),
            clock: clock.clone(),
            pipeline: pipeline.clone(),
            start,
            window: Window::new(start, start),
            cpu_time: open(&CPU_TIME)?,
            memory: open(&MEMORY)?,
            elements: Vec::new(),
        })
    });
}

fn open(
    registry: &Registry,
    m: &Metric,
    attributes: Vec<Attribute>,
    start: Timestamp,
) -> Result<SeriesId, Error> {
    let metric = registry.metric(m).or_fatal()?;
    Ok(registry.open(SeriesSpec { attributes, ..SeriesSpec::new(metric, Resource::HOST, start) }))
}

struct SelfSource {
    registry: Arc<Registry>,
    clock: Clock,
    pipeline: Arc<OnceLock<Control>>,
    start: Timestamp,
    window: Window,
    cpu_time: SeriesId,
    memory: SeriesId,
    /// The elements of the pipeline, with the series of each.
    elements: Vec<(Arc<Health>, ElementSeries)>,
}

/// The series of an element, each with the count of its health record that it publishes.
type ElementSeries = Vec<(SeriesId, fn(&Health) -> &AtomicU64)>;

impl SelfSource {
    /// Opens the series of elements that joined the pipeline, and ends those of elements that left.
    fn update_elements(&mut self, out: &mut Batch) -> Result<(), Error> {
        let current = self.pipeline.get().map(Control::health).unwrap_or_default();
        self.elements.retain(|(known, series)| {
            let exists = current.iter().any(|health| Arc::ptr_eq(health, known));
            if !exists {
                series.iter().for_each(|&(id, _)| out.end(id));
            }
            exists
        });
        for health in current {
            if !self.elements.iter().any(|(known, _)| Arc::ptr_eq(known, &health)) {
                let series = self.open_element(&health)?;
                self.elements.push((health, series));
            }
        }
        Ok(())
    }

    fn open_element(&self, health: &Health) -> Result<ElementSeries, Error> {
        let series = |m: &Metric, fate: Option<&str>| {
            let mut attributes = vec![Attribute::new("wattrace.element", &*health.name)];
            attributes.extend(fate.map(|f| Attribute::new("wattrace.fate", f)));
            open(&self.registry, m, attributes, self.start)
        };
        let mut all: ElementSeries = vec![
            (series(&POINTS, Some("passed"))?, |h| &h.points_out),
            (series(&POINTS, Some("lost"))?, |h| &h.lost),
            (series(&ERRORS, None)?, |h| &h.errors),
        ];
        if health.kind == ElementKind::Transform {
            all.push((series(&POINTS, Some("left_out"))?, |h| &h.left_out));
        }
        if health.kind == ElementKind::Source {
            all.push((series(&MISSED, None)?, |h| &h.missed));
            all.push((series(&LATENESS, None)?, |h| &h.late_ns));
        }
        Ok(all)
    }
}

impl Source for SelfSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        self.update_elements(out)?;
        self.window = Window::new(self.window.end, self.clock.now());
        out.begin(self.window);
        out.push(self.cpu_time, Value::of_steps(cpu_time_nanos()));
        if let Some(bytes) = resident_bytes() {
            out.push(self.memory, Value::of_gauge(bytes as f64));
        }
        for (health, series) in &self.elements {
            for (id, count) in series {
                out.push(*id, Value::of_steps(count(health).load(Relaxed)));
            }
        }
        Ok(())
    }
}

/// CPU time of all threads of this process.
fn cpu_time_nanos() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
