//! Batches in flight. When the last output drops a batch, its memory is recycled, and the ids of the series
//! that it ended are released.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattrace_api::{Batch, Registry, SeriesId, SeriesSet};

/// Empty batches, kept for their memory.
#[derive(Debug)]
pub(crate) struct BatchPool {
    registry: Arc<Registry>,
    spare: Mutex<Spare>,
}

#[derive(Debug, Default)]
struct Spare {
    batches: VecDeque<Batch>,
    /// For how many points they have memory, altogether.
    room: usize,
}

/// More than are in flight at once in steady state; memory beyond that is freed.
const MOST_SPARE: usize = 256;
const MOST_ROOM: usize = 2_000_000;

/// The largest capacity that a batch with so many points keeps.
fn most_room(points: usize) -> usize {
    4 * points.max(64)
}

impl BatchPool {
    pub(crate) fn new(registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self { registry, spare: Mutex::default() })
    }

    fn spare(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty batch for about so many points. A batch with memory for many times more is left to those who
    /// need it: it would hold that memory while it waits in queues, which are bounded in points.
    pub(crate) fn take(&self, points: usize) -> Batch {
        let fitting = points..=most_room(points);
        // A thread with real-time priority must not wait for one without that was preempted with the lock.
        let Ok(mut spare) = self.spare.try_lock() else { return Batch::default() };
        let Some(at) = spare.batches.iter().rposition(|batch| fitting.contains(&batch.capacity())) else {
            return Batch::default();
        };
        let batch = spare.batches.remove(at).unwrap_or_default();
        spare.room -= batch.capacity();
        batch
    }

    /// Returns a batch to the pool.
    pub(crate) fn give_back(&self, mut batch: Batch) {
        batch.clear();
        let mut spare = self.spare();
        if batch.capacity() <= MOST_ROOM {
            spare.room += batch.capacity();
            spare.batches.push_back(batch);
        }
        while spare.batches.len() > MOST_SPARE || spare.room > MOST_ROOM {
            // The one that was returned first.
            let Some(oldest) = spare.batches.pop_front() else { break };
            spare.room -= oldest.capacity();
        }
    }

    /// Makes a batch immutable, to be shared by the outputs.
    pub(crate) fn share(self: &Arc<Self>, mut batch: Batch) -> Arc<Shared> {
        if batch.capacity() > most_room(batch.len()) {
            // Most of its points were removed, or its memory was a larger batch's.
            let mut fitting = self.take(batch.len());
            fitting.append(&batch);
            self.give_back(std::mem::replace(&mut batch, fitting));
        }
        let ended = batch.ended().to_vec();
        let ends = (!ended.is_empty()).then(|| Arc::new(Ends { registry: self.registry.clone(), ended }));
        Arc::new(Shared { batch, ends, pool: self.clone() })
    }
}

/// The series that a batch ended. When the last reference is dropped, their ids are released.
#[derive(Debug)]
pub(crate) struct Ends {
    registry: Arc<Registry>,
    ended: Vec<SeriesId>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.registry.release(&self.ended);
    }
}

/// A batch that all outputs share.
#[derive(Debug)]
pub(crate) struct Shared {
    batch: Batch,
    ends: Option<Arc<Ends>>,
    pool: Arc<BatchPool>,
}

impl Shared {
    /// Keeps the ids of the ended series from being reused.
    pub(crate) fn ends(&self) -> Option<Arc<Ends>> {
        self.ends.clone()
    }
}

impl Deref for Shared {
    type Target = Batch;
    fn deref(&self) -> &Batch {
        &self.batch
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.batch));
    }
}

/// The series of which an element has sent points and which it has not ended: the runner ends them if it
/// fails or leaves.
#[derive(Debug, Default)]
pub(crate) struct LiveSet {
    live: SeriesSet,
    /// The column before a transform, to distinguish its own series from those that pass.
    before: Vec<SeriesId>,
    passed: SeriesSet,
}

impl LiveSet {
    /// Notes the points and ends of `batch`.
    pub(crate) fn note(&mut self, batch: &Batch) {
        self.live.insert_all(batch.series());
        self.note_ends(batch);
    }

    /// Notes what a transform receives.
    pub(crate) fn before(&mut self, batch: &mut Batch) {
        batch.mark();
        self.before.clear();
        self.before.extend_from_slice(batch.series());
    }

    /// Notes the points that were added to `batch` since [`LiveSet::before`], and all its ends.
    pub(crate) fn note_added(&mut self, batch: &Batch) {
        match batch.added() {
            Some(added) => self.live.insert_all(added),
            // It has replaced the batch.
            None => {
                self.passed.clear();
                self.passed.insert_all(&self.before);
                let all = batch.series().iter();
                all.filter(|&&id| !self.passed.contains(id)).for_each(|&id| self.live.insert(id));
            }
        }
        self.note_ends(batch);
    }

    fn note_ends(&mut self, batch: &Batch) {
        batch.ended().iter().for_each(|&id| self.live.remove(id));
    }

    /// Ends them all.
    pub(crate) fn end_all(&mut self, out: &mut Batch) {
        self.live.iter().for_each(|id| out.end(id));
        self.live.clear();
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::{Resource, SeriesSpec, Timestamp, Value, metric};

    use super::*;

    fn ids(n: usize) -> Vec<SeriesId> {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        (0..n).map(|_| registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)))).collect()
    }

    fn batch(ids: &[SeriesId]) -> Batch {
        let mut batch = Batch::default();
        ids.iter().for_each(|&id| batch.push(id, Value::of_steps(1)));
        batch
    }

    fn ended_by(live: &mut LiveSet) -> Vec<SeriesId> {
        let mut out = Batch::default();
        live.end_all(&mut out);
        out.ended().to_vec()
    }

    #[test]
    fn spare_batches_go_to_those_who_need_their_memory_and_are_bounded() {
        let (ids, pool) = (ids(1), BatchPool::new(Registry::new()));
        let give = |points: usize| {
            let mut batch = Batch::default();
            batch.extend(&vec![ids[0]; points], &vec![Value::of_steps(1); points]);
            pool.give_back(batch);
        };
        [100, 100_000].into_iter().for_each(give);
        assert_eq!(pool.take(10).capacity(), 100);
        assert_eq!(pool.take(10).capacity(), 0, "the large one is for others");
        assert_eq!(pool.take(90_000).capacity(), 100_000);
        (0..100).for_each(|_| give(100));
        (0..50).for_each(|_| give(100_000));
        give(3_000_000);
        let large = (0..).take_while(|_| pool.take(100_000).capacity() > 0).count();
        assert_eq!((large, pool.take(1).capacity()), (20, 0), "the newest, 2,000,000 points and no more");
        (0..300).for_each(|_| give(100));
        assert_eq!((0..).take_while(|_| pool.take(1).capacity() > 0).count(), MOST_SPARE);
        let mut emptied = Batch::default();
        emptied.extend(&vec![ids[0]; 100_000], &vec![Value::of_steps(7); 100_000]);
        let mut seen = 0;
        emptied.retain(|_, _| {
            seen += 1;
            seen <= 2
        });
        let shared = pool.share(emptied);
        assert_eq!((shared.len(), shared.capacity() < 1000), (2, true));
        assert_eq!(pool.take(100_000).capacity(), 100_000, "its memory is back before it is written");
    }

    #[test]
    fn what_was_sent_and_not_ended_is_live_even_if_its_id_comes_again() {
        let (ids, mut live) = (ids(3), LiveSet::default());
        live.note(&batch(&ids));
        let mut ending = batch(&ids);
        ending.end(ids[1]);
        live.note(&ending);
        assert_eq!(ended_by(&mut live), [ids[0], ids[2]]);
        assert_eq!(ended_by(&mut live), []);
        live.note(&ending);
        live.note(&batch(&ids));
        assert_eq!(ended_by(&mut live), ids, "the same column after an end is noted again");
    }

    #[test]
    fn a_transforms_own_series_are_those_it_added_whatever_else_it_did() {
        let (ids, mut live) = (ids(4), LiveSet::default());
        let mut passing = batch(&ids[..2]);
        live.before(&mut passing);
        passing.push(ids[2], Value::of_steps(1));
        passing.retain(|id, _| id != ids[0]);
        live.note_added(&passing);
        live.before(&mut batch(&ids[..2]));
        live.note_added(&batch(&[ids[1], ids[3]]));
        assert_eq!(ended_by(&mut live), ids[2..]);
    }
}
