//! Batches in flight: recycled when the last output has let go of one, and with it the ids of the series it ended.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattrace_api::{Batch, Registry, SeriesId};

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

/// Which series an element has sent points of and not ended: what is to be ended for it if it fails.
#[derive(Debug, Default)]
pub(crate) struct LiveSet {
    ids: Vec<Option<SeriesId>>,
}

impl LiveSet {
    /// Notes the points of `batch` from number `from` on, and its ends.
    pub(crate) fn note(&mut self, batch: &Batch, from: usize) {
        let points = batch.segments().flat_map(|s| s.series.iter().copied()).skip(from);
        for id in points {
            if self.ids.len() <= id.index() {
                self.ids.resize(id.index() + 1, None);
            }
            self.ids[id.index()] = Some(id);
        }
        for id in batch.ended() {
            if let Some(slot) = self.ids.get_mut(id.index()) {
                *slot = None;
            }
        }
    }

    /// Ends them all.
    pub(crate) fn end_all(&mut self, out: &mut Batch) {
        self.ids.drain(..).flatten().for_each(|id| out.end(id));
    }
}
