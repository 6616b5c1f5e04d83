//! The agent's own metrics: what it costs, and what its elements did with their points.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wattrace_api::{
    Attribute, Batch, ElementKind, Error, Metric, Output, Registry, Resource, ResultExt, SeriesId,
    SeriesSpec, Setup, Source, Tick, Timestamp, Trigger, Unit, Value, Window, metric,
};

use crate::pipeline::control::Control;
use crate::pipeline::health::Health;

/// How often they are read. They change slowly, and cost something themselves.
const INTERVAL: Duration = Duration::from_secs(10);

const CPU_TIME: Metric = Metric::counter(
    "wattrace.agent.cpu.time",
    Unit::Second,
    metric::NANOSECOND,
    "CPU time the agent itself used",
);
const MEMORY: Metric =
    Metric::gauge("wattrace.agent.memory.usage", Unit::Byte, "Memory the agent itself holds (RSS)");
const POINTS: Metric = Metric::counter(
    "wattrace.agent.points",
    Unit::Count("{point}"),
    1.0,
    "Points by the element they passed and what became of them: passed, lost, or left out by a transform that is told to",
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
    "Time between when a source's ticks were to fire and when they did, summed",
);

/// Handed the control of the pipeline once it runs.
pub(crate) struct Observed(Arc<OnceLock<Control>>);

impl Observed {
    /// Watches the elements of this pipeline from now on.
    pub(crate) fn watch(&self, control: Control) {
        // Only the first call counts, and there is only one.
        let _ = self.0.set(control);
    }
}

/// Adds the source of the agent's own metrics.
pub(crate) fn add(setup: &mut Setup) -> Observed {
    let pipeline = Arc::new(OnceLock::new());
    let (registry, clock, watched) = (setup.registry(), setup.clock(), pipeline.clone());
    setup.source("self", Trigger::every(INTERVAL), move || {
        let start = clock.now();
        let open = |m: &Metric| open(&registry, m, Vec::new(), start);
        Ok(SelfSource {
            registry: registry.clone(),
            clock: clock.clone(),
            pipeline: watched.clone(),
            start,
            window: Window::new(start, start),
            cpu_time: open(&CPU_TIME)?,
            memory: open(&MEMORY)?,
            elements_series: Vec::new(),
        })
    });
    Observed(pipeline)
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
    clock: wattrace_api::Clock,
    pipeline: Arc<OnceLock<Control>>,
    start: Timestamp,
    window: Window,
    cpu_time: SeriesId,
    memory: SeriesId,
    elements_series: Vec<(Arc<Health>, ElementSeries)>,
}

/// An element's series, and where in its books each one's value stands.
type ElementSeries = Vec<(SeriesId, fn(&Health) -> &AtomicU64)>;

impl SelfSource {
    /// Opens the series of elements that have joined, and ends those of elements that have left.
    fn follow_elements(&mut self, out: &mut Batch) -> Result<(), Error> {
        let elements = self.pipeline.get().map(Control::health).unwrap_or_default();
        self.elements_series.retain(|(known, series)| {
            let is_there = elements.iter().any(|health| Arc::ptr_eq(health, known));
            if !is_there {
                series.iter().for_each(|&(id, _)| out.end(id));
            }
            is_there
        });
        for health in elements {
            if !self.elements_series.iter().any(|(known, _)| Arc::ptr_eq(known, &health)) {
                let series = self.open_element(&health)?;
                self.elements_series.push((health, series));
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
        self.follow_elements(out)?;
        self.window = Window::new(self.window.end, self.clock.now());
        out.begin(self.window);
        out.push(self.cpu_time, Value::of_steps(cpu_time_nanos()));
        if let Some(bytes) = resident_bytes() {
            out.push(self.memory, Value::of_gauge(bytes as f64));
        }
        for (health, series) in &self.elements_series {
            for (id, count) in series {
                out.push(*id, Value::of_steps(count(health).load(Relaxed)));
            }
        }
        Ok(())
    }
}

/// CPU time of all our threads.
fn cpu_time_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: it has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

/// The type of an output that isn't there.
pub(crate) struct NoOutput;

impl Output for NoOutput {
    fn write(&mut self, _batch: &Batch) -> Result<(), Error> {
        Ok(())
    }
}
