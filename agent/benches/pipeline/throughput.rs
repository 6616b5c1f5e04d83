//! A source that gives as much as is taken, a transform that scales and filters by series, one that sums per resource, and an
//! output that counts; all on one CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

use tokio::time::Instant;
use wattrace::pipeline::Pipeline;
use wattrace::pipeline::pattern::Pattern;
use wattrace::pipeline::settings::{QueuePolicy, Settings};
use wattrace_api::{
    Batch, Error, Output, Registry, Resource, ResultExt, SeriesId, SeriesMap, SeriesSpec, Setup, Timestamp,
    Transform, Value, Window, metric,
};

use crate::machine;

/// Points in a batch: a source of more series cuts its columns, one of fewer gives several windows at once.
const BATCH: usize = 10_000;
const RESOURCES: u32 = 64;

/// Multiplies by a factor per series, and takes out every tenth series.
struct Scale {
    registry: Arc<Registry>,
    factors: SeriesMap<u64>,
}

impl Transform for Scale {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        for segment in batch.segments_mut() {
            for (&id, value) in segment.series.iter().zip(segment.values) {
                let factor = match self.factors.get(id) {
                    Some(&factor) => factor,
                    None => {
                        let known = self.registry.get(id).is_some() && id.index() % 10 != 9;
                        *self.factors.get_or_insert_with(id, || u64::from(known) * 2)
                    }
                };
                *value = Value::of_steps(value.steps().wrapping_mul(factor));
            }
        }
        batch.retain(|_, value| value.steps() != 0);
        batch.ended().iter().for_each(|&id| _ = self.factors.remove(id));
        Ok(())
    }
}

/// Adds the sum of each resource's values.
struct Sum {
    registry: Arc<Registry>,
    slots: SeriesMap<u32>,
    sums: Vec<(SeriesId, u64)>,
}

impl Transform for Sum {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let mut window = Window::default();
        for segment in batch.segments() {
            window = segment.window;
            for (id, value) in segment.points() {
                let slot = match self.slots.get(id) {
                    Some(&slot) => slot,
                    None => {
                        let series = self.registry.get(id).ok_or_else(|| Error::retry("no such series"))?;
                        let slot: u32 = series.resource.id.parse().or_retry()?;
                        *self.slots.get_or_insert_with(id, || slot)
                    }
                };
                if let Some((_, sum)) = self.sums.get_mut(slot as usize) {
                    *sum = sum.wrapping_add(value.steps());
                }
            }
        }
        batch.begin(window);
        self.sums.iter().for_each(|&(id, sum)| batch.push(id, Value::of_steps(sum)));
        batch.ended().iter().for_each(|&id| _ = self.slots.remove(id));
        Ok(())
    }
}

/// Reads every value.
struct Count {
    sum: Arc<AtomicU64>,
    every_batch: Duration,
}

impl Output for Count {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let sum = batch.segments().flat_map(|s| s.values).fold(0, |sum: u64, v| sum.wrapping_add(v.steps()));
        self.sum.fetch_add(sum, Relaxed);
        if !self.every_batch.is_zero() {
            sleep(self.every_batch);
        }
        Ok(())
    }
}

fn open(registry: &Registry, resource: u32) -> Result<SeriesId, Error> {
    let metric = registry.metric(&metric::HW_ENERGY).or_fatal()?;
    Ok(registry.open(SeriesSpec::new(metric, Resource::package(resource), Timestamp(0))))
}

fn add_elements(setup: &mut Setup, series: usize, every_batch: Duration) {
    let registry = setup.registry();
    setup.autonomous("load", move |feed| {
        let registry = registry.clone();
        async move {
            let ids: Result<Vec<_>, _> = (0..series).map(|n| open(&registry, n as u32 % RESOURCES)).collect();
            let ids = ids?;
            let mut values: Vec<_> = (1..=series as u64).map(Value::of_steps).collect();
            let mut batch = feed.batch();
            for n in 0u64.. {
                let window = Window::new(Timestamp(n), Timestamp(n + 1));
                for (ids, values) in ids.chunks(BATCH).zip(values.chunks_mut(BATCH)) {
                    values.iter_mut().for_each(|v| *v = Value::of_steps(v.steps() + 7));
                    batch.begin(window);
                    batch.extend(ids, values);
                    if batch.len() >= BATCH {
                        feed.send(std::mem::replace(&mut batch, feed.batch())).await;
                    }
                }
                if feed.is_stopping() {
                    break;
                }
            }
            Ok(())
        }
    });
    let registry = setup.registry();
    setup.transform("scale", move || Ok(Scale { registry: registry.clone(), factors: SeriesMap::default() }));
    let registry = setup.registry();
    setup.transform("sum", move || {
        let sums: Result<_, _> = (0..RESOURCES).map(|r| Ok((open(&registry, r)?, 0))).collect();
        Ok(Sum { registry: registry.clone(), slots: SeriesMap::default(), sums: sums? })
    });
    let sum = Arc::new(AtomicU64::new(0));
    setup.output("count", move || Ok(Count { sum: sum.clone(), every_batch }));
}

/// Points that the source has given, wall time, CPU time and allocations.
fn readings(pipeline: &Pipeline) -> [u64; 4] {
    let given =
        pipeline.health().iter().find(|h| h.name == "source/bench/load").map(|h| h.points_out.load(Relaxed));
    let clocks = [libc::CLOCK_MONOTONIC, libc::CLOCK_PROCESS_CPUTIME_ID].map(machine::clock);
    [given.unwrap_or_default(), clocks[0], clocks[1], machine::allocations()]
}

/// With a queue that blocks, so that every point is written.
pub(crate) fn lossless(series: u64) {
    machine::stay_on_one_cpu();
    let runtime = machine::runtime();
    let mut setup = machine::setup(&runtime);
    add_elements(&mut setup, series as usize, Duration::ZERO);
    let settings = Settings { queue_policy: QueuePolicy::Block, ..Settings::default() };
    let pipeline = Pipeline::start(setup, settings);
    sleep(Duration::from_secs(2));
    let before = readings(&pipeline);
    sleep(Duration::from_secs(4));
    let after = readings(&pipeline);
    let [points, wall, cpu, allocations] = [0, 1, 2, 3].map(|i| (after[i] - before[i]) as f64);
    let rss = machine::memory("VmRSS:");
    println!(
        "throughput, {series} series, two transforms, one CPU: {:.1} million points/s, {:.5} CPU s per million, \
         {:.6} allocations per point, RSS {rss:.1} MB",
        points / wall * 1e3,
        cpu / points * 1e-3,
        allocations / points,
    );
    if series == 10_000 {
        machine::target("million points a second, at least 100", points / wall * 1e3, points / wall >= 0.1);
        machine::target("CPU s per million points, at most 0.01", cpu / points * 1e-3, cpu / points <= 10.0);
        machine::target(
            "allocations per point, at most 0.001",
            allocations / points,
            allocations / points < 1e-3,
        );
        machine::target("RSS in MB, below 64", rss, rss < 64.0);
    }
    stop(&runtime, pipeline);
}

/// With an output that is much slower than the source, and a queue that drops.
pub(crate) fn saturated(series: u64) {
    let runtime = machine::runtime();
    let mut setup = machine::setup(&runtime);
    add_elements(&mut setup, series as usize, Duration::from_millis(2));
    let pipeline = Pipeline::start(setup, Settings::default());
    sleep(Duration::from_secs(5));
    println!("saturation, {series} series, an output that sleeps 2 ms per batch behind a queue of 256:");
    let rss = machine::memory("VmHWM:");
    machine::target("highest RSS in MB, below 64", rss, rss < 64.0);
    stop(&runtime, pipeline);
}

/// Stops, and checks that every point is accounted for.
fn stop(runtime: &tokio::runtime::Runtime, pipeline: Pipeline) {
    let control = pipeline.control();
    runtime.block_on(pipeline.stop(Instant::now() + Duration::from_millis(4500)));
    let count = control.status(&Pattern::all()).into_iter().find(|s| s.name == "output/bench/count");
    let count = count.expect("the output is there");
    let open = count.points_in - count.points_out - count.lost;
    machine::target("points neither written nor counted as lost, 0", open as f64, open == 0);
    println!(
        "    {} million in, {} million written, {} million counted as lost",
        count.points_in / 1_000_000,
        count.points_out / 1_000_000,
        count.lost / 1_000_000
    );
}
