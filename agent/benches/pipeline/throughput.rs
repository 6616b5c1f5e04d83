//! A source that gives as much as is taken, a transform that scales and filters by series, one that sums per
//! resource, and an output that counts; all on one CPU. `bare` does the same in a loop, without a pipeline:
//! what series cost more than others there, they cost because of this machine's caches.

use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

use tokio::time::Instant;
use wattrace::config::{QueuePolicy, Settings};
use wattrace::pattern::Pattern;
use wattrace::pipeline::Pipeline;
use wattrace_api::{
    Batch, Error, Output, Registry, Resource, ResultExt, SeriesId, SeriesMap, SeriesSpec, Setup, Source,
    Tick, Timestamp, Transform, Trigger, Value, Window, metric,
};

use crate::machine;

/// Points in a batch: a source of more series cuts its columns, one of fewer gives several windows at once.
const BATCH: usize = 10_000;
const RESOURCES: u32 = 64;
/// Points that pass through the bare loop, and how often everything is repeated.
const BARE_POINTS: usize = 200_000_000;
const ROUNDS: usize = 5;

/// Multiplies by a factor per series, and takes out every tenth series.
struct Scale {
    registry: Arc<Registry>,
    /// One more than the factor: what cannot be zero takes half the room.
    factors: SeriesMap<NonZeroU32>,
}

impl Transform for Scale {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        for segment in batch.segments_mut() {
            for (&id, value) in segment.series.iter().zip(segment.values) {
                let factor = match self.factors.get(id) {
                    Some(&factor) => factor,
                    None => {
                        let known = self.registry.get(id).is_some() && id.index() % 10 != 9;
                        let factor = NonZeroU32::MIN.saturating_add(u32::from(known) * 2);
                        *self.factors.get_or_insert_with(id, || factor)
                    }
                };
                *value = Value::of_steps(value.steps().wrapping_mul(u64::from(factor.get()) - 1));
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
    /// One more than the sum's number.
    slots: SeriesMap<NonZeroU32>,
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
                        let slot = NonZeroU32::MIN.saturating_add(series.resource.id.parse().or_retry()?);
                        *self.slots.get_or_insert_with(id, || slot)
                    }
                };
                if let Some((_, sum)) = self.sums.get_mut(slot.get() as usize - 1) {
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

/// What the source keeps: its series, and where they stand.
struct Columns {
    ids: Vec<SeriesId>,
    values: Vec<Value>,
    rounds: u64,
}

impl Columns {
    fn open(registry: &Registry, series: usize) -> Result<Self, Error> {
        let ids: Result<_, _> = (0..series).map(|n| open(registry, n as u32 % RESOURCES)).collect();
        Ok(Self { ids: ids?, values: (1..=series as u64).map(Value::of_steps).collect(), rounds: 0 })
    }

    /// The next window of all series: a part of [`BATCH`] series at a time, its window and columns.
    fn advance(&mut self) -> impl Iterator<Item = (Window, &[SeriesId], &[Value])> {
        self.rounds += 1;
        let window = Window::new(Timestamp(self.rounds), Timestamp(self.rounds + 1));
        self.ids.chunks(BATCH).zip(self.values.chunks_mut(BATCH)).map(move |(ids, values)| {
            values.iter_mut().for_each(|v| *v = Value::of_steps(v.steps() + 7));
            (window, ids, &*values)
        })
    }

    /// The part from series `first` on: a window of at most [`BATCH`] series.
    fn advance_from(&mut self, first: usize) -> (Window, &[SeriesId], &[Value]) {
        let end = (first + BATCH).min(self.ids.len());
        self.rounds += u64::from(first == 0);
        let values = &mut self.values[first..end];
        values.iter_mut().for_each(|v| *v = Value::of_steps(v.steps() + 7));
        (Window::new(Timestamp(self.rounds), Timestamp(self.rounds + 1)), &self.ids[first..end], values)
    }
}

/// The source: a batch per poll, and always something to poll for.
struct Load {
    columns: Columns,
    /// The first series of the next window.
    next: usize,
    always: OwnedFd,
}

impl Source for Load {
    fn poll(&mut self, _: &Tick, out: &mut Batch) -> Result<(), Error> {
        while out.len() < BATCH {
            let (window, ids, values) = self.columns.advance_from(self.next);
            out.begin(window);
            out.extend(ids, values);
            self.next += ids.len();
            if self.next == self.columns.ids.len() {
                self.next = 0;
            }
        }
        Ok(())
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.always.as_fd())
    }
}

fn scale(registry: &Arc<Registry>) -> Scale {
    Scale { registry: registry.clone(), factors: SeriesMap::default() }
}

fn sum(registry: &Arc<Registry>) -> Result<Sum, Error> {
    let sums: Result<_, Error> = (0..RESOURCES).map(|r| Ok((open(registry, r)?, 0))).collect();
    Ok(Sum { registry: registry.clone(), slots: SeriesMap::default(), sums: sums? })
}

fn add_elements(setup: &mut Setup, series: usize, every_batch: Duration) {
    let registry = setup.registry();
    setup.source("load", Trigger::MANUAL, move || {
        let columns = Columns::open(&registry, series)?;
        Ok(Load { columns, next: 0, always: machine::always_readable() })
    });
    let registry = setup.registry();
    setup.transform("scale", move || Ok(scale(&registry)));
    let registry = setup.registry();
    setup.transform("sum", move || sum(&registry));
    let sum = Arc::new(AtomicU64::new(0));
    setup.output("count", move || Ok(Count { sum: sum.clone(), every_batch }));
}

/// Nanoseconds of CPU time per point of the same elements in a loop.
fn bare(series: usize) -> Result<f64, Error> {
    let registry = Registry::new();
    let mut columns = Columns::open(&registry, series)?;
    let (mut scale, mut sum) = (scale(&registry), sum(&registry)?);
    let mut count = Count { sum: Arc::default(), every_batch: Duration::ZERO };
    let (mut batch, mut points, mut began) = (Batch::default(), 0, 0);
    while points < BARE_POINTS {
        // The first round is for them to get to know the series.
        if columns.rounds == 1 {
            (points, began) = (0, machine::clock(libc::CLOCK_PROCESS_CPUTIME_ID));
        }
        for (window, ids, values) in columns.advance() {
            batch.begin(window);
            batch.extend(ids, values);
            points += ids.len();
            if batch.len() >= BATCH {
                scale.apply(&mut batch)?;
                sum.apply(&mut batch)?;
                count.write(&batch)?;
                batch.clear();
            }
        }
    }
    Ok((machine::clock(libc::CLOCK_PROCESS_CPUTIME_ID) - began) as f64 / points as f64)
}

/// What a point costs over the number of series: in rounds, so that all of them see the same machine.
pub(crate) fn flat(most: u64) {
    let me = std::env::current_exe().expect("this program has a path");
    let mut costs = vec![Vec::new(); 2];
    for round in 0..2 * ROUNDS {
        let series = if round % 2 == 0 { 1_000 } else { most };
        let output =
            Command::new(&me).args(["--case", "cost", &series.to_string()]).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let cost: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        costs[round % 2].push((cost[0], cost[1]));
    }
    let median = |of: usize, which: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = costs[of].iter().map(which).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let [bare, pipeline] =
        [|c: &(f64, f64)| c.0, |c: &(f64, f64)| c.1].map(|which| [0, 1].map(|of| median(of, which)));
    println!("a point, with 1,000 and with {most} series, medians of {ROUNDS} interleaved rounds:");
    println!("    in a loop: {:.2} and {:.2} ns, {:.2} times", bare[0], bare[1], bare[1] / bare[0]);
    println!(
        "    in the pipeline: {:.2} and {:.2} ns, {:.2} times",
        pipeline[0],
        pipeline[1],
        pipeline[1] / pipeline[0]
    );
    let own = (pipeline[1] - bare[1]) / (pipeline[0] - bare[0]);
    machine::target(
        "what the pipeline adds to the loop, times what it adds with few, at most 1.1",
        own,
        own <= 1.1,
    );
}

/// One round of [`flat`]: nanoseconds per point in a loop, and in the pipeline.
pub(crate) fn cost(series: u64) {
    machine::stay_on_one_cpu();
    let bare = bare(series as usize).expect("it runs");
    let runtime = machine::runtime();
    let host = machine::host(&runtime, |setup| add_elements(setup, series as usize, Duration::ZERO));
    let settings = Settings { queue_policy: QueuePolicy::Block, ..Settings::default() };
    let pipeline = Pipeline::start(host, settings);
    sleep(Duration::from_secs(2));
    let before = readings(&pipeline);
    sleep(Duration::from_secs(2));
    let after = readings(&pipeline);
    println!("{bare} {}", (after[2] - before[2]) as f64 / (after[0] - before[0]) as f64);
    runtime.block_on(pipeline.stop(Instant::now() + Duration::from_millis(4500)));
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
    let host = machine::host(&runtime, |setup| add_elements(setup, series as usize, Duration::ZERO));
    let settings = Settings { queue_policy: QueuePolicy::Block, ..Settings::default() };
    let pipeline = Pipeline::start(host, settings);
    sleep(Duration::from_secs(2));
    let before = readings(&pipeline);
    sleep(Duration::from_secs(4));
    let after = readings(&pipeline);
    let [points, wall, cpu, allocations] = [0, 1, 2, 3].map(|i| (after[i] - before[i]) as f64);
    let rss = machine::memory("VmRSS:");
    println!(
        "throughput, {series} series, two transforms, one CPU: {:.1} million points/s, \
         {:.5} CPU s per million, \
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
    let host =
        machine::host(&runtime, |setup| add_elements(setup, series as usize, Duration::from_millis(2)));
    let pipeline = Pipeline::start(host, Settings::default());
    sleep(Duration::from_secs(5));
    println!(
        "saturation, {series} series, an output that sleeps 2 ms per batch behind a queue of \
         2,000,000 points:"
    );
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
