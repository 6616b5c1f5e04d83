//! Batches in flight: recycled when the last output has let go of one, and with it the ids of the series it ended.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattrace_api::{Batch, Registry, SeriesId, SeriesSet};

/// Empty batches, kept with their memory.
#[derive(Debug)]
pub(crate) struct Pool {
    registry: Arc<Registry>,
    spare: Mutex<Vec<Batch>>,
}

/// More than are ever in flight at once in steady state; beyond that memory is given back.
const MOST_SPARE: usize = 64;

impl Pool {
    pub(crate) fn new(registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self { registry, spare: Mutex::default() })
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty batch.
    pub(crate) fn take(&self) -> Batch {
        self.spare().pop().unwrap_or_default()
    }

    /// Takes a batch back that went nowhere.
    pub(crate) fn give_back(&self, mut batch: Batch) {
        batch.clear();
        let mut spare = self.spare();
        if spare.len() < MOST_SPARE {
            spare.push(batch);
        }
    }

    /// Closes a batch for sharing among the outputs.
    pub(crate) fn share(self: &Arc<Self>, batch: Batch) -> Arc<Shared> {
        let ended = batch.ended().to_vec();
        let ends = (!ended.is_empty()).then(|| Arc::new(Ends { registry: self.registry.clone(), ended }));
        Arc::new(Shared { batch, ends, pool: self.clone() })
    }
}

/// The ends of series that a batch told of. Once nobody holds this any more, their ids are free.
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

/// A batch that every output sees.
#[derive(Debug)]
pub(crate) struct Shared {
    batch: Batch,
    ends: Option<Arc<Ends>>,
    pool: Arc<Pool>,
}

impl Shared {
    /// Keeps the ids of the ended series from being given out again.
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

/// Which series an element has sent points of and not ended: what is to be ended for it if it fails or goes.
#[derive(Debug, Default)]
pub(crate) struct LiveSet {
    live: SeriesSet,
    /// The column noted last: most elements send the same one again, and comparing costs a tenth of noting.
    last: Vec<SeriesId>,
    /// The column before a transform, to tell its own series from those that passed.
    before: Vec<SeriesId>,
    passed: SeriesSet,
}

impl LiveSet {
    /// Notes all points of `batch`, and its ends.
    pub(crate) fn note(&mut self, batch: &Batch) {
        self.note_column(batch.series());
        self.note_ends(batch);
    }

    /// Remembers what a transform is given.
    pub(crate) fn before(&mut self, batch: &Batch) {
        self.before.clear();
        self.before.extend_from_slice(batch.series());
    }

    /// Notes the points that were added to `batch` since [`LiveSet::before`], and all its ends.
    pub(crate) fn note_added(&mut self, batch: &Batch) {
        let (before, after) = (self.before.len(), batch.series());
        if after.len() >= before && after[..before] == self.before[..] {
            self.note_column(&after[before..]);
        } else {
            // It took some out or put others in their place.
            self.passed.clear();
            self.before.iter().for_each(|&id| self.passed.insert(id));
            after.iter().filter(|&&id| !self.passed.contains(id)).for_each(|&id| self.live.insert(id));
        }
        self.note_ends(batch);
    }

    fn note_column(&mut self, column: &[SeriesId]) {
        if column != self.last {
            column.iter().for_each(|&id| self.live.insert(id));
            self.last.clear();
            self.last.extend_from_slice(column);
        }
    }

    fn note_ends(&mut self, batch: &Batch) {
        if !batch.ended().is_empty() {
            batch.ended().iter().for_each(|&id| self.live.remove(id));
            // An id that is given to another series is to be noted again.
            self.last.clear();
        }
    }

    /// Ends them all.
    pub(crate) fn end_all(&mut self, out: &mut Batch) {
        self.live.iter().for_each(|id| out.end(id));
        self.live.clear();
        self.last.clear();
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
        live.before(&batch(&ids[..2]));
        live.note_added(&batch(&ids[..3]));
        live.before(&batch(&ids[..2]));
        live.note_added(&batch(&[ids[1], ids[3]]));
        assert_eq!(ended_by(&mut live), ids[2..]);
    }
}
