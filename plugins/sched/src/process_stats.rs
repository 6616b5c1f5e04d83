//! Reports what a process used besides CPU time, once, when it has ended. The kernel programs read it from
//! the kernel's own counters when the process exits, so that living processes cost nothing.
//!
//! Only of processes that were forked while we watch: what an older one had used before is not known.

use std::sync::Arc;

use rustix::param::page_size;
use wattrace_api::process_stats::{ALL, COUNT};
use wattrace_api::{
    Batch, Clock, Consumer, Error, MetricId, Registry, Resource, ResultExt, SeriesSpec, Timestamp, Value,
};
use wattrace_common::process_stats::ProcessStats;

/// What the exited threads of a process used; nothing if that is not asked for.
#[derive(Debug, Default)]
pub(crate) struct ExitStats(Option<Box<ProcessStats>>);

impl ExitStats {
    /// Adds those of a thread.
    pub(crate) fn add(&mut self, of_thread: Option<ProcessStats>) {
        if let Some(of_thread) = of_thread {
            self.0.get_or_insert_default().add(&of_thread);
        }
    }
}

/// The metrics, in the order of [`ALL`].
pub(crate) struct StatsMetrics {
    ids: [MetricId; COUNT],
}

impl StatsMetrics {
    pub(crate) fn declare(registry: &Registry) -> Result<Self, Error> {
        let mut ids = Vec::with_capacity(COUNT);
        for metric in &ALL {
            ids.push(registry.metric(metric).or_fatal()?);
        }
        let ids = ids.try_into().map_err(|_| Error::fatal("the metrics of processes are incomplete"))?;
        Ok(Self { ids })
    }

    /// Pushes the figures of `consumer` that are not zero, and ends their series.
    pub(crate) fn emit(
        &self,
        consumer: &Arc<Consumer>,
        stats: &ExitStats,
        registry: &Registry,
        clock: &Clock,
        out: &mut Batch,
    ) {
        // An older process has no fork event.
        let Some(stats) = stats.0.as_ref().filter(|_| consumer.parent().is_some()) else { return };
        let now = clock.now();
        let age = clock.unix_nanos(now).saturating_sub(consumer.identity().start_unix_nano);
        let start = Timestamp(now.0.saturating_sub(age));
        for (&metric, value) in self.ids.iter().zip(values(stats)) {
            if let Some(value) = value {
                let spec = SeriesSpec::new(metric, Resource::HOST, start);
                let series = registry.open(SeriesSpec { consumer: Some(consumer.clone()), ..spec });
                out.push(series, value);
                out.end(series);
            }
        }
    }
}

/// The values in the order of [`ALL`]; `None`: it is zero.
fn values(stats: &ProcessStats) -> [Option<Value>; COUNT] {
    let count = |count: u64| (count > 0).then(|| Value::of_steps(count));
    let peak = stats.peak_rss_pages * page_size() as u64;
    [
        count(stats.voluntary_switches),
        count(stats.involuntary_switches),
        count(stats.minor_faults),
        count(stats.major_faults),
        count(stats.io_read),
        count(stats.io_written),
        count(stats.disk_read),
        count(stats.disk_written.saturating_sub(stats.disk_cancelled)),
        count(stats.run_delay_ns),
        (peak > 0).then(|| Value::of_gauge(peak as f64)),
    ]
}
