//! A million consumers that live for a few ticks each, through a transform that keeps a series for each of
//! theirs, as attribution does, to an output that keeps something for every series. Memory after the first
//! ten thousand, and at the end.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use wattrace::config::{QueuePolicy, Settings};
use wattrace::pipeline::Pipeline;
use wattrace_api::{
    Attribute, Batch, Clock, Consumer, ConsumerKind, Error, Identity, MetricId, Output, Registry, Resource,
    ResultExt, Series, SeriesId, SeriesMap, SeriesSpec, Setup, Source, Tick, Timestamp, Transform, Trigger,
    Value, Window, metric,
};

use crate::machine;

/// Consumers that begin, and end, at each tick.
const AT_ONCE: u64 = 500;
/// Ticks for which each lives.
const LIFE: usize = 4;
/// Consumers that the source may be ahead of the output. What waits in queues is no growth, and would hide
/// one.
const AHEAD: u64 = 5_000;

struct Attribute1to1 {
    registry: Arc<Registry>,
    cpu_time: MetricId,
    energy: MetricId,
    theirs: SeriesMap<Option<SeriesId>>,
    found: Vec<(SeriesId, Value)>,
}

impl Transform for Attribute1to1 {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let mut window = Window::default();
        for segment in batch.segments() {
            window = segment.window;
            for (id, value) in segment.points() {
                if self.theirs.get(id).is_none() {
                    let series = self.registry.get(id).filter(|s| s.metric_id == self.cpu_time);
                    let energy = series.map(|s| {
                        self.registry.open(SeriesSpec {
                            consumer: s.consumer.clone(),
                            ..SeriesSpec::new(self.energy, s.resource.clone(), s.start)
                        })
                    });
                    self.theirs.insert(id, energy);
                }
                if let Some(Some(energy)) = self.theirs.get(id) {
                    self.found.push((*energy, Value::of_steps(value.steps() / 100)));
                }
            }
        }
        batch.begin(window);
        self.found.drain(..).for_each(|(id, value)| batch.push(id, value));
        let over: Vec<_> = batch.ended().iter().filter_map(|&id| self.theirs.remove(id).flatten()).collect();
        over.into_iter().for_each(|id| batch.end(id));
        Ok(())
    }
}

struct Keep {
    registry: Arc<Registry>,
    kept: SeriesMap<(Arc<Series>, String)>,
    ended: Arc<AtomicU64>,
}

impl Output for Keep {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        for segment in batch.segments() {
            for &id in segment.series {
                if self.kept.get(id).is_none() {
                    let series =
                        self.registry.get(id).ok_or_else(|| Error::retry("its id was released too soon"))?;
                    let row = format!("{:?}", series.all_attributes());
                    self.kept.insert(id, (series, row));
                }
            }
        }
        for &id in batch.ended() {
            self.ended.fetch_add(u64::from(self.kept.remove(id).is_some()), Relaxed);
        }
        Ok(())
    }
}

/// Starts and ends consumers, at each poll [`AT_ONCE`] of them.
struct Storm {
    registry: Arc<Registry>,
    clock: Clock,
    metric: MetricId,
    consumers: u64,
    begun: u64,
    alive: VecDeque<Vec<SeriesId>>,
    ended: Arc<AtomicU64>,
    always: OwnedFd,
}

impl Storm {
    fn begin(&self, pid: u64) -> SeriesId {
        let kind = ConsumerKind::Process;
        let identity = Identity { kind, id: pid.to_string().into(), start_unix_nano: pid };
        let attributes = vec![Attribute::new("process.executable.name", format!("true-{pid}"))];
        let consumer = Some(Arc::new(Consumer::new(identity, None, attributes)));
        let about = SeriesSpec::new(self.metric, Resource::package(0), self.clock.now());
        self.registry.open(SeriesSpec { consumer, ..about })
    }
}

impl Source for Storm {
    fn poll(&mut self, _: &Tick, out: &mut Batch) -> Result<(), Error> {
        if (self.begun == self.consumers && self.alive.is_empty())
            || self.begun > AHEAD + self.ended.load(Relaxed) / 2
        {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(());
        }
        out.begin(Window::new(Timestamp(0), self.clock.now()));
        if self.begun < self.consumers {
            let begun = (self.begun..self.begun + AT_ONCE).map(|pid| self.begin(pid)).collect();
            self.alive.push_back(begun);
            self.begun += AT_ONCE;
        }
        self.alive.iter().flatten().for_each(|&id| out.push(id, Value::of_steps(1_000_000)));
        if self.alive.len() == LIFE || self.begun == self.consumers {
            self.alive.pop_front().into_iter().flatten().for_each(|id| out.end(id));
        }
        Ok(())
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.always.as_fd())
    }
}

fn add_elements(setup: &mut Setup, consumers: u64, ended: &Arc<AtomicU64>) {
    let (registry, clock, gone) = (setup.registry(), setup.clock(), ended.clone());
    setup.source("storm", Trigger::MANUAL, move || {
        Ok(Storm {
            metric: registry.metric(&metric::CONSUMER_CPU_TIME).or_fatal()?,
            registry: registry.clone(),
            clock: clock.clone(),
            consumers,
            begun: 0,
            alive: VecDeque::new(),
            ended: gone.clone(),
            always: machine::always_readable(),
        })
    });
    let registry = setup.registry();
    setup.transform("attribute", move || {
        Ok(Attribute1to1 {
            cpu_time: registry.metric(&metric::CONSUMER_CPU_TIME).or_fatal()?,
            energy: registry.metric(&metric::CONSUMER_ENERGY).or_fatal()?,
            registry: registry.clone(),
            theirs: SeriesMap::default(),
            found: Vec::new(),
        })
    });
    let (registry, counted) = (setup.registry(), ended.clone());
    setup.output("keep", move || {
        Ok(Keep { registry: registry.clone(), kept: SeriesMap::default(), ended: counted.clone() })
    });
}

pub(crate) fn run(consumers: u64) {
    let runtime = machine::runtime();
    let ended = Arc::new(AtomicU64::new(0));
    let host = machine::host(&runtime, |setup| add_elements(setup, consumers, &ended));
    let all = host.registry().clone();
    let settings = Settings { queue_policy: QueuePolicy::Block, ..Settings::default() };
    let pipeline = Pipeline::start(host, settings);
    let wait = |consumers: u64| {
        while ended.load(Relaxed) < 2 * consumers {
            std::thread::sleep(Duration::from_millis(1));
        }
        machine::memory("VmRSS:")
    };
    let began = std::time::Instant::now();
    let first = wait(10_000);
    let last = wait(consumers);
    println!(
        "{consumers} consumers in {:.1} s, two series each: RSS {first:.1} MB after 10,000, \
         {last:.1} MB at the end",
        began.elapsed().as_secs_f64()
    );
    machine::target("growth, at most 1.1", last / first, last / first <= 1.1);
    runtime.block_on(pipeline.stop(Instant::now() + Duration::from_secs(4)));
    let left = all.series().len();
    machine::target("series left, 0", left as f64, left == 0);
}
