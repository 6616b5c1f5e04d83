//! The pipeline element that reports the memory of the processes that use the most CPU time: their
//! proportional set size is expensive to read, so it is read of few. `busy.rs` knows which they are.

mod busy;

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use wattrace_api::memory::{ALL, COUNT};
use wattrace_api::{
    Batch, Clock, Consumer, Error, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec, Source,
    Tick, Timestamp, Value, Window,
};
use wattrace_procfs::{Memory, Procfs, TICK_NANOS};

pub(crate) use busy::{Busy, Observer};

/// The source.
pub(crate) struct MemorySource {
    busy: Busy,
    /// How many processes are read.
    count: usize,
    /// How long reading may take in one poll. The processes that are left are read in another one.
    most_time: Duration,
    procfs: Procfs,
    metrics: [MetricId; COUNT],
    registry: Arc<Registry>,
    clock: Clock,
    /// The processes that were read the last time, by the address of their consumer.
    reported: FxHashMap<usize, Reported>,
    read_at: Timestamp,
}

struct Reported {
    /// Keeps its address from being used again.
    consumer: Arc<Consumer>,
    /// Opened with the first value that is not zero.
    series: [Option<SeriesId>; COUNT],
    /// When it was last among them.
    at: Timestamp,
}

impl MemorySource {
    /// Reads the memory of `count` of the processes in `busy` every `interval`, for half of the time at most.
    pub(crate) fn open(
        busy: Busy,
        count: usize,
        interval: Duration,
        registry: Arc<Registry>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let [rss, pss, swap] = ALL.each_ref().map(|metric| registry.metric(metric).or_fatal());
        let (metrics, read_at, reported) = ([rss?, pss?, swap?], clock.now(), FxHashMap::default());
        let (procfs, most_time) = (Procfs::default(), interval / 2);
        Ok(Self { busy, count, most_time, procfs, metrics, registry, clock, reported, read_at })
    }

    /// The memory of a process that is still there.
    fn memory(&self, consumer: &Consumer) -> Option<Memory> {
        let identity = consumer.identity();
        let pid = identity.id.parse().ok()?;
        let memory = self.procfs.memory(pid)?;
        // Not of another process that has its pid by now. /proc rounds the start down to a tick.
        let start = self.clock.unix_nanos_of_boottime(self.procfs.stat(pid)?.start_nanos());
        (identity.start_unix_nano.abs_diff(start) < 2 * TICK_NANOS).then_some(memory)
    }

    fn push(&mut self, consumer: Arc<Consumer>, memory: Memory, window: Window, out: &mut Batch) {
        let Self { reported, metrics, registry, .. } = self;
        let reported = reported.entry(Arc::as_ptr(&consumer) as usize).or_insert_with(|| Reported {
            consumer,
            series: [None; COUNT],
            at: window.end,
        });
        reported.at = window.end;
        for (which, bytes) in [memory.rss, memory.pss, memory.swap].into_iter().enumerate() {
            if bytes == 0 && reported.series[which].is_none() {
                continue;
            }
            let series = *reported.series[which].get_or_insert_with(|| {
                let spec = SeriesSpec::new(metrics[which], Resource::HOST, window.start);
                registry.open(SeriesSpec { consumer: Some(reported.consumer.clone()), ..spec })
            });
            out.push(series, Value::of_gauge(bytes as f64));
        }
    }
}

impl Source for MemorySource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let now = self.clock.now();
        let window = Window::new(std::mem::replace(&mut self.read_at, now), now);
        out.begin(window);
        let mut busiest = self.busy.take(self.count);
        // If there is no time for all, those that may soon be gone come first.
        busiest.sort_by_key(|consumer| Reverse(consumer.identity().start_unix_nano));
        let began = Instant::now();
        for consumer in busiest {
            if began.elapsed() < self.most_time {
                if let Some(memory) = self.memory(&consumer) {
                    self.push(consumer, memory, window, out);
                }
            } else if let Some(reported) = self.reported.get_mut(&(Arc::as_ptr(&consumer) as usize)) {
                // It keeps its series without a point.
                reported.at = window.end;
            }
        }
        self.reported.retain(|_, reported| {
            let stays = reported.at == window.end;
            if !stays {
                reported.series.iter().flatten().for_each(|&series| out.end(series));
            }
            stays
        });
        Ok(())
    }
}
