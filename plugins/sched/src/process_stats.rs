//! What processes used besides CPU time. The kernel programs read it from the kernel's own counters: of a
//! thread when it exits, and of all living threads every now and then (`kernel/living.rs`). A process has
//! used what its exited and its living threads have, less what it had used before it was watched.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use rustix::param::page_size;
use wattrace_api::process_stats::{ALL, COUNT};
use wattrace_api::{
    Batch, Consumer, Error, Kind, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec, Timestamp,
    Value, Window,
};
use wattrace_common::process_stats::{LivingThread, ProcessStats};

/// The totals of a process in the order of [`ALL`], in steps of the counters; of memory in bytes.
type Totals = [u64; COUNT];

/// The pid and the start time of the leader (`CLOCK_BOOTTIME`, ns): a process's identity.
pub(crate) type Key = (u32, u64);

/// What a process used; nothing if that is not asked for.
#[derive(Debug, Default)]
pub(crate) struct Figures(Option<Box<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Of threads that have exited.
    exited: ProcessStats,
    /// Of the threads that lived in listing number `listing`.
    living: ProcessStats,
    listing: u64,
    /// What it had used before it was watched; `None`: unknown, so its totals are too.
    before: Option<Totals>,
    /// Since when it is watched.
    since: Timestamp,
    /// What was emitted, and the series.
    emitted: Totals,
    series: [Option<SeriesId>; COUNT],
}

impl Figures {
    /// Adds those of a thread that has exited.
    pub(crate) fn exited(&mut self, of_thread: Option<ProcessStats>) {
        if let (Some(known), Some(of_thread)) = (&mut self.0, of_thread) {
            known.exited.add(&of_thread);
        }
    }
}

/// Emits the figures of all processes.
pub(crate) struct ProcessStatsEmitter {
    registry: Arc<Registry>,
    metrics: [MetricId; COUNT],
    /// The time between listings of living threads; `None`: they are not listed.
    every: Option<Duration>,
    /// Counts from 1; 0: none was made.
    listing: u64,
    /// When it was made.
    listed_at: Timestamp,
    /// What the processes that were there at the first listing had used, until they are followed.
    before: FxHashMap<Key, ProcessStats>,
    /// When that listing began; `None`: there was none.
    first: Option<Timestamp>,
    /// Points that are not emitted yet.
    points: Vec<(SeriesId, Value)>,
}

impl ProcessStatsEmitter {
    /// Lists living threads after each `every`, for the first time as soon as it is asked.
    pub(crate) fn new(registry: Arc<Registry>, every: Option<Duration>) -> Result<Self, Error> {
        let mut metrics = Vec::with_capacity(COUNT);
        for metric in &ALL {
            metrics.push(registry.metric(metric).or_fatal()?);
        }
        let metrics =
            metrics.try_into().map_err(|_| Error::fatal("the metrics of processes are incomplete"))?;
        Ok(Self {
            registry,
            metrics,
            every,
            listing: 0,
            listed_at: Timestamp::default(),
            before: FxHashMap::default(),
            first: None,
            points: Vec::new(),
        })
    }

    /// Whether it is time to list living threads, at the `last` emission or at `now`.
    pub(crate) fn is_due(&self, now: Timestamp, last: bool) -> bool {
        let passed = Duration::from_nanos(now.0.saturating_sub(self.listed_at.0));
        self.every.is_some_and(|every| self.listing == 0 || last || passed >= every)
    }

    /// Begins a listing at `now`.
    pub(crate) fn begin_listing(&mut self, now: Timestamp) {
        if self.listing == 0 {
            (self.first, self.listed_at) = (Some(now), now);
        }
        self.listing += 1;
    }

    /// Takes in a living thread. `of` are the figures of its process, if that is followed.
    pub(crate) fn living(&mut self, thread: &LivingThread, of: Option<&mut Figures>) {
        if let Some(Figures(Some(known))) = of {
            if std::mem::replace(&mut known.listing, self.listing) != self.listing {
                known.living = ProcessStats::default();
            }
            known.living.add(&thread.stats);
        } else if self.listing == 1 {
            self.before.entry((thread.pid, thread.process_start)).or_default().add(&thread.stats);
        }
    }

    /// The figures of a process that is followed from now on. It began at `started`, and `is_new` if its fork
    /// was observed.
    pub(crate) fn figures(&mut self, key: Key, started: Timestamp, is_new: bool) -> Figures {
        let before = self.before.remove(&key);
        // The fork of a younger one was lost.
        let is_new = is_new || self.first.is_some_and(|first| started >= first);
        let before = if is_new { Some(Totals::default()) } else { before.map(|before| totals(&before)) };
        let since = if is_new { started } else { self.first.unwrap_or_default() };
        Figures(Some(Box::new(Known { before, since, ..Known::default() })))
    }

    /// After a listing: takes in what `consumer` used, if it was listed.
    pub(crate) fn listed(&mut self, consumer: &Arc<Consumer>, figures: &mut Figures) {
        if let Some(known) = figures.0.as_deref_mut().filter(|known| known.listing == self.listing) {
            let mut sum = known.exited;
            sum.add(&known.living);
            self.take(consumer, known, &sum);
        }
    }

    /// `consumer` has ended: takes in what it used, and ends its series.
    pub(crate) fn ended(&mut self, consumer: &Arc<Consumer>, figures: &mut Figures, out: &mut Batch) {
        let Some(known) = figures.0.as_deref_mut() else { return };
        let sum = known.exited;
        self.take(consumer, known, &sum);
        known.series.iter().flatten().for_each(|&series| out.end(series));
    }

    /// Takes in a point of each figure that has grown. A sum can be too small for a while: a thread that has
    /// begun to exit is not listed, and its exit may not have been read yet.
    fn take(&mut self, consumer: &Arc<Consumer>, known: &mut Known, sum: &ProcessStats) {
        let Some(before) = known.before else { return };
        for (which, (total, before)) in totals(sum).into_iter().zip(before).enumerate() {
            let total = total.saturating_sub(before);
            if total <= known.emitted[which] {
                continue;
            }
            known.emitted[which] = total;
            let series = *known.series[which].get_or_insert_with(|| {
                let spec = SeriesSpec::new(self.metrics[which], Resource::HOST, known.since);
                self.registry.open(SeriesSpec { consumer: Some(consumer.clone()), ..spec })
            });
            let value = match ALL[which].kind {
                Kind::Counter => Value::of_steps(total),
                Kind::Gauge => Value::of_gauge(total as f64),
            };
            self.points.push((series, value));
        }
    }

    /// Pushes what was taken in until `now`. `listed`: this includes a listing.
    pub(crate) fn emit(&mut self, now: Timestamp, listed: bool, out: &mut Batch) {
        if !self.points.is_empty() {
            out.begin(Window::new(self.listed_at, now));
            self.points.drain(..).for_each(|(series, value)| out.push(series, value));
        }
        if listed {
            self.listed_at = now;
        }
    }
}

fn totals(stats: &ProcessStats) -> Totals {
    [
        stats.voluntary_switches,
        stats.involuntary_switches,
        stats.minor_faults,
        stats.major_faults,
        stats.io_read,
        stats.io_written,
        stats.disk_read,
        stats.disk_written.saturating_sub(stats.disk_cancelled),
        stats.run_delay_ns,
        stats.peak_rss_pages * page_size() as u64,
    ]
}
