//! An output's queue: bounded, never blocks the pipeline, and drops the oldest batch first. What it never drops is the last
//! point of a series that ended, and the end itself: that value would not come again, while any other is contained in
//! its successor, since counters are cumulative.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wattrace_api::{Batch, SeriesId};

use super::flow::{Ends, Shared};

/// What an output's thread is to do next.
pub(crate) enum Next {
    /// Write these points, rescued from dropped batches; then let go of the ends.
    Rescued(Batch, Vec<Arc<Ends>>),
    /// Write this batch.
    Batch(Arc<Shared>),
    /// Flush, and tell so through the queue.
    Flush(u64),
    /// Start afresh: more was dropped than could be kept track of.
    Reset,
    /// Nothing came within the time allowed.
    Idle,
    /// Flush and stop: nothing more will come.
    Closed,
}

/// The queue between the pipeline and one output.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Arc<Shared>>,
    rescued: Batch,
    rescued_ends: Vec<Arc<Ends>>,
    dropped: u64,
    /// How many of the dropped the output's thread knows of.
    told: u64,
    /// Points that the output's thread is busy with.
    in_hand: u64,
    flush_wanted: u64,
    flush_begun: u64,
    reset: bool,
    closed: bool,
}

/// Ends kept beyond the queue before the output is started afresh instead.
const MOST_RESCUED: usize = 200_000;

impl Queue {
    /// A queue of at most `capacity` batches.
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), capacity: capacity.max(1) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch, dropping the oldest if there is no room.
    pub(crate) fn push(&self, batch: Arc<Shared>) {
        let mut state = self.lock();
        if state.batches.len() >= self.capacity
            && let Some(oldest) = state.batches.pop_front()
        {
            state.rescue(&oldest);
        }
        state.batches.push_back(batch);
        self.changed.notify_all();
    }

    /// Waits up to `patience` for something to do.
    pub(crate) fn next(&self, patience: Duration) -> Next {
        let mut state = self.lock();
        state.in_hand = 0;
        loop {
            if std::mem::take(&mut state.reset) {
                return Next::Reset;
            }
            if !state.rescued.is_empty() {
                state.in_hand = state.rescued.len() as u64;
                let ends = std::mem::take(&mut state.rescued_ends);
                return Next::Rescued(std::mem::take(&mut state.rescued), ends);
            }
            if let Some(batch) = state.batches.pop_front() {
                state.in_hand = batch.len() as u64;
                return Next::Batch(batch);
            }
            if state.flush_begun < state.flush_wanted {
                state.flush_begun = state.flush_wanted;
                return Next::Flush(state.flush_begun);
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

    /// Asks for a flush once what is queued now has been written.
    pub(crate) fn want_flush(&self) -> u64 {
        let mut state = self.lock();
        state.flush_wanted += 1;
        self.changed.notify_all();
        state.flush_wanted
    }

    /// Says that nothing more will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for `time`, but not beyond the queue's closing. Returns whether it is closed: from then on a failing output
    /// is not waited for.
    pub(crate) fn wait_unless_closed(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Points dropped so far because the queue was full. For the output's thread, which keeps count of them.
    pub(crate) fn dropped(&self) -> u64 {
        let mut state = self.lock();
        state.told = state.dropped;
        state.dropped
    }

    /// Drops everything, for good: the output's thread does not come back for it. Returns how many points nobody has counted
    /// yet: those dropped here, those that the thread is busy with, and those dropped before without its knowing.
    pub(crate) fn abandon(&self) -> u64 {
        let mut state = self.lock();
        let queued = state.batches.iter().map(|b| b.len()).sum::<usize>() + state.rescued.len();
        state.batches.clear();
        state.rescued.clear();
        state.rescued_ends.clear();
        let uncounted = queued as u64 + (state.dropped - state.told) + std::mem::take(&mut state.in_hand);
        state.told = state.dropped;
        uncounted
    }
}

impl State {
    fn rescue(&mut self, oldest: &Shared) {
        let Some(ends) = oldest.ends() else {
            self.dropped += oldest.len() as u64;
            return;
        };
        let ended: HashSet<SeriesId> = oldest.ended().iter().copied().collect();
        let mut last = Batch::clone(oldest);
        self.dropped += last.retain(|id, _| ended.contains(&id)) as u64;
        self.rescued.append(&last);
        self.rescued_ends.push(ends);
        if self.rescued.ended().len() > MOST_RESCUED {
            let queued: usize = self.batches.iter().map(|b| b.len()).sum();
            self.dropped += (self.rescued.len() + queued) as u64;
            self.batches.clear();
            self.rescued.clear();
            self.rescued_ends.clear();
            self.reset = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::{Registry, Resource, SeriesSpec, Timestamp, Value, metric};

    use super::super::flow::Pool;
    use super::*;

    fn series(registry: &Registry) -> SeriesId {
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)))
    }

    #[test]
    fn the_oldest_goes_first_is_counted_and_last_points_stay() {
        let registry = Registry::new();
        let pool = Pool::new(registry.clone());
        let (ending, living) = (series(&registry), series(&registry));
        let queue = Queue::new(2);
        for i in 0..5 {
            let mut batch = pool.take();
            batch.push(living, Value::of_steps(i));
            if i == 1 {
                batch.push(ending, Value::of_steps(77));
                batch.end(ending);
            }
            queue.push(pool.share(batch));
        }
        assert_eq!(queue.dropped(), 3, "two fit");
        let Next::Rescued(rescued, ends) = queue.next(Duration::ZERO) else { panic!("nothing was rescued") };
        assert_eq!(rescued.segments().flat_map(|s| s.points().collect::<Vec<_>>()).count(), 1);
        assert_eq!(rescued.ended(), &[ending]);
        assert!(registry.get(ending).is_some(), "not to be reused while its end is under way");
        drop(ends);
        assert!(registry.get(ending).is_none());
        for i in [3, 4] {
            let Next::Batch(batch) = queue.next(Duration::ZERO) else { panic!("a batch is missing") };
            assert_eq!(batch.segments().next().unwrap().values, &[Value::of_steps(i)]);
        }
        assert!(matches!(queue.next(Duration::ZERO), Next::Idle));
        queue.close();
        assert!(matches!(queue.next(Duration::ZERO), Next::Closed));
    }

    #[test]
    fn an_output_that_stands_still_in_a_storm_of_ends_is_started_afresh() {
        let registry = Registry::new();
        let pool = Pool::new(registry.clone());
        let queue = Queue::new(1);
        for _ in 0..4 {
            let mut batch = pool.take();
            for _ in 0..MOST_RESCUED / 2 {
                let id = series(&registry);
                batch.push(id, Value::of_steps(1));
                batch.end(id);
            }
            queue.push(pool.share(batch));
        }
        assert!(matches!(queue.next(Duration::ZERO), Next::Reset));
        // All that is still queued was pushed after the reset; everything else was counted and its ids are free.
        assert_eq!(queue.abandon(), 4 * (MOST_RESCUED / 2) as u64);
        assert!(registry.series().is_empty());
    }
}
