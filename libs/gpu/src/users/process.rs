//! One user of one GPU: who it is, what it used and holds, and when it is over. `users.rs` has them all.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Consumer, SeriesId, Timestamp, Value};

use crate::who::Who;

/// A counter of time.
#[derive(Debug, Default)]
pub(super) struct Clocked {
    pub(super) nanos: u64,
    pub(super) series: Option<SeriesId>,
    /// Whether it grew in the window that is being told.
    pub(super) grew: bool,
}

/// A user of a GPU, by its pid.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) consumer: Option<Arc<Consumer>>,
    pub(super) time: Clocked,
    /// Bytes that the look under way has found so far.
    pub(super) found: Option<u64>,
    /// Bytes that the last look found.
    pub(super) holds: Option<u64>,
    pub(super) memory: Option<SeriesId>,
    pub(super) met: Timestamp,
    /// Since when it is known to have ended.
    pub(super) over: Option<Timestamp>,
}

impl Process {
    /// One that was first told of at `met`.
    pub(super) fn met(met: Timestamp) -> Self {
        let time = Clocked::default();
        Self { consumer: None, time, found: None, holds: None, memory: None, met, over: None }
    }

    /// Finds out who it is, if that can be.
    pub(super) fn identify(&mut self, pid: u32, urgent: bool, who: &mut Who, out: &mut Batch) {
        let Some(consumer) = &self.consumer else {
            self.consumer = who.find(pid, urgent);
            return;
        };
        // One of our own is left for the directory's as soon as that knows the process.
        if !who.lives(pid, consumer)
            && let Some(next) = who.find(pid, false)
            && is_same(consumer, &next)
        {
            self.end(out);
            (self.consumer, self.time) = (Some(next), Clocked::default());
        }
    }

    /// Ends it if its process has ended `lateness` ago, or another has its pid, and nothing that it used is
    /// still to be told.
    pub(super) fn is_over(
        &mut self,
        pid: u32,
        now: Timestamp,
        lateness: Duration,
        who: &mut Who,
        awaited: impl FnOnce() -> bool,
        out: &mut Batch,
    ) -> bool {
        let Some(consumer) = &self.consumer else { return self.holds.is_none() && !awaited() };
        if who.lives(pid, consumer) {
            self.over = None;
            return false;
        }
        let over = *self.over.get_or_insert(now);
        let replaced = who.find(pid, false).is_some();
        if !replaced && now.since(over) < lateness || awaited() {
            return false;
        }
        self.end(out);
        true
    }

    pub(super) fn end(&mut self, out: &mut Batch) {
        for series in self.time.series.take().into_iter().chain(self.memory.take()) {
            out.end(series);
        }
    }
}

/// Whether the two describe one process: one of them knows its start to a hundredth of a second only.
fn is_same(a: &Consumer, b: &Consumer) -> bool {
    const COARSE: u64 = 20_000_000;
    a.identity().start_unix_nano.abs_diff(b.identity().start_unix_nano) < COARSE
}

impl Clocked {
    pub(super) fn add(&mut self, nanos: u64) {
        self.nanos = self.nanos.saturating_add(nanos);
        self.grew |= nanos > 0;
    }

    pub(super) fn push(&mut self, open: impl FnOnce() -> SeriesId, out: &mut Batch) {
        out.push(*self.series.get_or_insert_with(open), Value::of_steps(self.nanos));
    }
}
