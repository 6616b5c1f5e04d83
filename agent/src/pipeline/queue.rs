//! An output's queue: bounded in batches and in points, with a policy for when it is full. No policy drops
//! the last point of a series that ended, nor the end itself: no later point contains that value, while every
//! other value is contained in its successor, since counters are cumulative.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wattrace_api::{Batch, SeriesId};

use super::flow::{Ends, Shared};
use super::health::Health;
use crate::config::{Bounds, QueuePolicy};

/// What an output's thread is to do next.
pub(crate) enum Next {
    /// Write these points, kept from dropped batches; then drop the ends.
    LastPoints(Batch, Vec<Arc<Ends>>),
    /// Write this batch.
    Batch(Arc<Shared>),
    /// Flush, and publish this number.
    Flush(u64),
    /// Close and reopen: more was dropped than could be kept track of, or its transforms have changed.
    Reset,
    /// Nothing came within the given time.
    Idle,
    /// Flush and end: nothing more will come.
    Closed,
}

/// The queue between the pipeline and one output.
pub(crate) struct Queue {
    health: Arc<Health>,
    state: Mutex<State>,
    changed: Condvar,
    room: Condvar,
    bounds: Bounds,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Next>,
    /// How many of the entries are batches, and how many points those hold.
    batches: usize,
    points: usize,
    /// Ends kept from dropped batches.
    kept_ends: usize,
    /// Points that the output's thread is writing.
    in_hand: u64,
    /// Flushes requested, and begun.
    flushes: u64,
    flushed: u64,
    /// The output's thread has just found the queue empty, and is not woken for a few batches.
    lingering: bool,
    /// A push waits for room.
    waited_for: bool,
    reset: bool,
    paused: bool,
    unblocked: bool,
    closed: bool,
}

/// Waking a thread costs more than a batch of a few points is worth. A thread that has found its queue empty
/// sleeps for up to `LINGER`, unless `WAKE_AT_BATCHES` batches wait, or half of the points that may. So the
/// batches of a source at 1 kHz are taken by thirties; no window depends on the delay, and no eye sees it.
pub(crate) const LINGER: Duration = Duration::from_millis(50);
pub(crate) const WAKE_AT_BATCHES: usize = 32;

/// Ends kept from dropped batches before the output is reopened instead.
const MAX_KEPT_ENDS: usize = 200_000;

const OLDEST: &str = "the queue was full, its oldest batches were dropped";
const NEWEST: &str = "the queue was full, the newest batches were dropped";

impl Queue {
    /// A queue that holds no more than `bounds` says, and counts what it drops in `health`.
    pub(crate) fn new(bounds: Bounds, health: Arc<Health>) -> Arc<Self> {
        let (changed, room) = (Condvar::new(), Condvar::new());
        Arc::new(Self { health, state: Mutex::default(), changed, room, bounds })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its output's name.
    pub(crate) fn name(&self) -> &str {
        &self.health.name
    }

    /// What it may hold.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// How many batches wait, and how many points in them.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.batches, state.points)
    }

    /// Adds a batch. Without room, does what the policy says; only `block` waits, and not for an output that
    /// is paused or that nobody waits for any more ([`Queue::stop_blocking`]).
    pub(crate) fn push(&self, batch: Arc<Shared>) {
        let points = batch.len();
        self.health.points_in.fetch_add(points as u64, Relaxed);
        let mut state = self.lock();
        let has_room = |state: &State| state.has_room(points, self.bounds);
        if self.bounds.policy == QueuePolicy::Block && !has_room(&state) {
            state.waited_for = true;
            self.changed.notify_all();
            let full = |s: &mut State| !has_room(s) && !s.paused && !s.unblocked && !s.closed;
            state = self.room.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
            state.waited_for = false;
        }
        let unbounded = self.bounds.policy == QueuePolicy::Block && state.unblocked;
        if !has_room(&state) && !unbounded {
            if self.bounds.policy == QueuePolicy::DropNewest {
                let dropped = state.keep_last_points(&batch, usize::MAX);
                drop(state);
                self.health.lose(dropped, NEWEST);
                return;
            }
            let mut dropped = 0;
            while !has_room(&state) {
                dropped += state.drop_oldest();
            }
            self.health.lose(dropped, OLDEST);
        }
        state.entries.push_back(Next::Batch(batch));
        state.batches += 1;
        state.points += points;
        // Notified with the lock released, so that the woken thread does not wait for it first.
        let wake = !state.lingering || state.is_enough(self.bounds);
        drop(state);
        if wake {
            self.changed.notify_all();
        }
    }

    /// Waits up to `patience` for something to do.
    pub(crate) fn next(&self, patience: Duration) -> Next {
        let mut state = self.lock();
        state.in_hand = 0;
        if patience > LINGER && state.entries.is_empty() && !state.closed {
            state.lingering = true;
            let idle = |s: &mut State| !s.is_enough(self.bounds);
            let lingered = self.changed.wait_timeout_while(state, LINGER, idle);
            state = lingered.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.lingering = false;
        loop {
            if std::mem::take(&mut state.reset) {
                return Next::Reset;
            }
            if let Some(next) = state.pop() {
                drop(state);
                if self.bounds.policy == QueuePolicy::Block {
                    self.room.notify_all();
                }
                return next;
            }
            if state.closed {
                return Next::Closed;
            }
            let (woken, timeout) =
                self.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() {
                return Next::Idle;
            }
        }
    }

    /// Requests a flush after everything that is queued now. Returns its number.
    pub(crate) fn request_flush(&self) -> u64 {
        let mut state = self.lock();
        state.flushes += 1;
        let number = state.flushes;
        state.entries.push_back(Next::Flush(number));
        self.changed.notify_all();
        number
    }

    /// Holds batches back from now on, or no longer. Flushes are carried out meanwhile.
    pub(crate) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.changed.notify_all();
        self.room.notify_all();
    }

    /// Ends all waiting for room: the bounded number of batches that are still to come is accepted in
    /// addition.
    pub(crate) fn stop_blocking(&self) {
        self.lock().unblocked = true;
        self.room.notify_all();
    }

    /// Makes the output close, and reopen with what comes next.
    pub(crate) fn reset(&self) {
        self.lock().reset = true;
        self.changed.notify_all();
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
        self.room.notify_all();
    }

    /// Waits for `time`, or until the queue is closed. Returns whether it is closed: a failing output gets no
    /// further retries then.
    pub(crate) fn wait_unless_closed(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Drops everything: the output's thread does not return. Returns how many points have not been counted
    /// yet: those dropped here, and those that the thread is writing.
    pub(crate) fn abandon(&self) -> u64 {
        let mut state = self.lock();
        state.clear() + std::mem::take(&mut state.in_hand)
    }
}

impl State {
    /// Whether there is so much to do, or something so urgent, that the output's thread is to be woken for
    /// it.
    fn is_enough(&self, bounds: Bounds) -> bool {
        let urgent = self.closed || self.reset || self.waited_for || self.flushes > self.flushed;
        urgent
            || self.batches >= WAKE_AT_BATCHES.min(bounds.batches.div_ceil(2))
            || self.points >= bounds.points / 2
    }

    /// Whether a batch of so many points may be added. Into an empty queue any may, or a large one would
    /// never pass.
    fn has_room(&self, points: usize, bounds: Bounds) -> bool {
        self.batches == 0 || (self.batches < bounds.batches && self.points + points <= bounds.points)
    }

    /// Takes the first entry; of a paused queue, the first flush.
    fn pop(&mut self) -> Option<Next> {
        let at = match self.paused && !self.closed {
            true => self.entries.iter().position(|e| matches!(e, Next::Flush(_)))?,
            false => 0,
        };
        let next = self.entries.remove(at)?;
        match &next {
            Next::Batch(batch) => {
                self.batches -= 1;
                self.points -= batch.len();
                self.in_hand = batch.len() as u64;
            }
            Next::LastPoints(batch, _) => {
                self.kept_ends -= batch.ended().len();
                self.in_hand = batch.len() as u64;
            }
            Next::Flush(number) => self.flushed = *number,
            _ => {}
        }
        Some(next)
    }

    /// Drops the oldest batch except for last points. Returns how many points were dropped.
    fn drop_oldest(&mut self) -> u64 {
        let Some(at) = self.entries.iter().position(|e| matches!(e, Next::Batch(_))) else { return 0 };
        let Some(Next::Batch(oldest)) = self.entries.remove(at) else { return 0 };
        self.batches -= 1;
        self.points -= oldest.len();
        self.keep_last_points(&oldest, at)
    }

    /// Keeps the last points of `batch`, which was before entry `at`, in its place. Returns how many points
    /// were dropped.
    fn keep_last_points(&mut self, batch: &Shared, at: usize) -> u64 {
        let Some(ends) = batch.ends() else { return batch.len() as u64 };
        let ended: HashSet<SeriesId> = batch.ended().iter().copied().collect();
        let mut last = Batch::clone(batch);
        let dropped = last.retain(|id, _| ended.contains(&id)) as u64;
        self.kept_ends += last.ended().len();
        let at = at.min(self.entries.len());
        let before = at.checked_sub(1).and_then(|before| self.entries.get_mut(before));
        if let Some(Next::LastPoints(all, all_ends)) = before {
            all.append(&last);
            all_ends.push(ends);
        } else {
            self.entries.insert(at, Next::LastPoints(last, vec![ends]));
        }
        if self.kept_ends <= MAX_KEPT_ENDS {
            return dropped;
        }
        self.reset = true;
        dropped + self.clear()
    }

    /// Drops all points. Returns how many there were.
    fn clear(&mut self) -> u64 {
        let points = self.entries.iter().map(|entry| match entry {
            Next::Batch(batch) => batch.len(),
            Next::LastPoints(batch, _) => batch.len(),
            _ => 0,
        });
        let points = points.sum::<usize>() as u64;
        self.entries.retain(|entry| matches!(entry, Next::Flush(_)));
        (self.batches, self.points, self.kept_ends) = (0, 0, 0);
        points
    }
}

#[cfg(test)]
mod tests;
