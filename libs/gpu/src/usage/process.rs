//! One process on one GPU: its consumer, its engine time and memory, and when its series end. `usage.rs`
//! keeps all of them.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Consumer, SeriesId, Timestamp, Value};

use crate::resolver::ProcessResolver;

/// A cumulative engine time.
#[derive(Debug, Default)]
pub(super) struct EngineTime {
    nanos: u64,
    pub(super) series: Option<SeriesId>,
    /// Whether it grew in the window that is being written.
    pub(super) grew: bool,
}

impl EngineTime {
    pub(super) fn add(&mut self, nanos: u64) {
        self.nanos = self.nanos.saturating_add(nanos);
        self.grew |= nanos > 0;
    }

    pub(super) fn push(&mut self, open: impl FnOnce() -> SeriesId, out: &mut Batch) {
        out.push(*self.series.get_or_insert_with(open), Value::of_steps(self.nanos));
    }
}

/// A process that uses a GPU.
#[derive(Debug)]
pub(super) struct GpuProcess {
    /// `None`: not resolved yet.
    pub(super) consumer: Option<Arc<Consumer>>,
    pub(super) time: EngineTime,
    /// Bytes that the reading in progress has found so far.
    pub(super) reading: Option<u64>,
    /// Bytes that the last reading found.
    pub(super) memory: Option<u64>,
    pub(super) memory_series: Option<SeriesId>,
    pub(super) first_seen: Timestamp,
    /// When it was noticed that the process has ended.
    ended_at: Option<Timestamp>,
}

impl GpuProcess {
    /// A process that was first seen at `first_seen`.
    pub(super) fn new(first_seen: Timestamp) -> Self {
        Self {
            consumer: None,
            time: EngineTime::default(),
            reading: None,
            memory: None,
            memory_series: None,
            first_seen,
            ended_at: None,
        }
    }

    /// Resolves its consumer, if that is possible yet.
    pub(super) fn resolve(
        &mut self,
        pid: u32,
        urgent: bool,
        resolver: &mut ProcessResolver,
        out: &mut Batch,
    ) {
        let Some(consumer) = &self.consumer else {
            self.consumer = resolver.resolve(pid, urgent);
            return;
        };
        // The directory's consumer replaces the one that the resolver made from /proc.
        if !resolver.is_current(pid, consumer)
            && let Some(next) = resolver.resolve(pid, false)
            && is_same(consumer, &next)
        {
            self.end_series(out);
            (self.consumer, self.time) = (Some(next), EngineTime::default());
        }
    }

    /// Whether it is done with. That is so if its process ended `lateness` ago, or another process has its
    /// pid, and no window with its use is still `pending`. Ends its series then.
    pub(super) fn finish(
        &mut self,
        (pid, now): (u32, Timestamp),
        lateness: Duration,
        pending: impl FnOnce() -> bool,
        resolver: &mut ProcessResolver,
        out: &mut Batch,
    ) -> bool {
        let Some(consumer) = &self.consumer else { return self.memory.is_none() && !pending() };
        if resolver.is_current(pid, consumer) {
            self.ended_at = None;
            return false;
        }
        let ended_at = *self.ended_at.get_or_insert(now);
        let replaced = resolver.resolve(pid, false).is_some();
        if !replaced && now.since(ended_at) < lateness || pending() {
            return false;
        }
        self.end_series(out);
        true
    }

    pub(super) fn end_series(&mut self, out: &mut Batch) {
        for series in self.time.series.take().into_iter().chain(self.memory_series.take()) {
            out.end(series);
        }
    }
}

/// Whether the two are one process. /proc has the start to a hundredth of a second only.
fn is_same(a: &Consumer, b: &Consumer) -> bool {
    const TOLERANCE: u64 = 20_000_000;
    a.identity().start_unix_nano.abs_diff(b.identity().start_unix_nano) < TOLERANCE
}
