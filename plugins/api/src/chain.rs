//! For programs that run plugins (the agent, the test rig): an output behind transforms of its own.
//!
//! Such a transform sees a copy of each batch that goes to this output, on the output's thread. So a file
//! keeps everything while a metrics back end gets the heaviest consumers.

use std::sync::Arc;

use crate::batch::Batch;
use crate::element::{Output, Transform};
use crate::error::{Error, ErrorKind};
use crate::registry::Registry;
use crate::series::{SeriesId, SeriesSet};
use crate::spec::Open;

/// An output and the transforms of its own.
pub struct OutputChain {
    transforms: Vec<Box<dyn Transform>>,
    output: Box<dyn Output>,
    /// The copy that the transforms have changed.
    prepared: Batch,
    series: OwnSeries,
    left_out: u64,
}

impl OutputChain {
    /// Opens the transforms, then the output.
    ///
    /// # Errors
    /// Those of the opening.
    pub fn open(
        registry: &Arc<Registry>,
        transforms: &mut [Open<dyn Transform>],
        output: &mut Open<dyn Output>,
    ) -> Result<Self, Error> {
        let transforms = transforms.iter_mut().map(|open| open()).collect::<Result<_, _>>()?;
        let series = OwnSeries::new(registry.clone());
        Ok(Self { transforms, output: output()?, prepared: Batch::default(), series, left_out: 0 })
    }

    /// Passes `batch` through the transforms and writes what they make of it.
    ///
    /// # Errors
    /// The first of a transform or of the output.
    pub fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.prepare(batch)?;
        self.write_prepared(batch)
    }

    /// The first half of [`OutputChain::write`], for a runner that tries the second half again: passes a copy
    /// of `batch` through the transforms. Call it once per batch.
    ///
    /// # Errors
    /// A transform's. An error of kind retry becomes fatal: a transform does not see a batch twice.
    pub fn prepare(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.transforms.is_empty() {
            return Ok(());
        }
        self.series.release_ended();
        self.prepared.clear();
        self.prepared.append(batch);
        let result = self.apply_from(0);
        self.series.note(batch, &self.prepared);
        result
    }

    /// Applies the transforms from number `first` on to what is prepared.
    fn apply_from(&mut self, first: usize) -> Result<(), Error> {
        for transform in &mut self.transforms[first..] {
            let result = transform.apply(&mut self.prepared);
            self.left_out += transform.take_left_out();
            result.map_err(not_again)?;
        }
        Ok(())
    }

    /// Writes what was prepared of `batch`. After [`ErrorKind::Retry`] it may be called again.
    ///
    /// # Errors
    /// The output's.
    pub fn write_prepared(&mut self, batch: &Batch) -> Result<(), Error> {
        self.output.write(if self.transforms.is_empty() { batch } else { &self.prepared })
    }

    /// How many points of `batch`, which was prepared, are written.
    pub fn points(&self, batch: &Batch) -> usize {
        if self.transforms.is_empty() { batch.len() } else { self.prepared.len() }
    }

    /// No more batches come: writes what the transforms have held back, and finishes the output.
    ///
    /// # Errors
    /// The first of a transform or of the output.
    pub fn finish(&mut self) -> Result<(), Error> {
        for at in 0..self.transforms.len() {
            self.series.release_ended();
            self.prepared.clear();
            let result = self.transforms[at].finish(&mut self.prepared).map_err(not_again);
            let result = result.and_then(|()| self.apply_from(at + 1));
            self.series.note(&Batch::default(), &self.prepared);
            result?;
            if !self.prepared.is_empty() {
                self.output.write(&self.prepared)?;
            }
        }
        self.output.finish()
    }

    /// See [`Output::flush`].
    ///
    /// # Errors
    /// The output's.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.output.flush()
    }

    /// See [`Output::undelivered`].
    pub fn undelivered(&self) -> u64 {
        self.output.undelivered()
    }

    /// See [`Output::trouble`].
    pub fn trouble(&self) -> Option<&str> {
        self.output.trouble()
    }

    /// See [`Output::take_losses`].
    pub fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        self.output.take_losses()
    }

    /// Points that the transforms left out since the last call. See [`Transform::take_left_out`].
    pub fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

/// A transform's error, where the batch does not come to it again.
fn not_again(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Retry => Error::fatal(error.to_string()),
        ErrorKind::Gone | ErrorKind::Fatal => error,
    }
}

/// The series that the transforms of one output have opened. Only this output has seen them, so their ids are
/// given back here: once the batch that ends them is done with, and all of them with the output.
struct OwnSeries {
    registry: Arc<Registry>,
    open: SeriesSet,
    /// Series of the common pipeline, to tell them apart.
    common: SeriesSet,
    /// Ended in the batch at hand.
    ended: Vec<SeriesId>,
}

impl OwnSeries {
    fn new(registry: Arc<Registry>) -> Self {
        Self { registry, open: SeriesSet::default(), common: SeriesSet::default(), ended: Vec::new() }
    }

    /// Notes what the transforms made of the batch `common`.
    fn note(&mut self, common: &Batch, prepared: &Batch) {
        self.common.insert_all(common.series());
        for &id in prepared.series() {
            if !self.common.contains(id) {
                self.open.insert(id);
            }
        }
        for &id in prepared.ended() {
            if self.open.contains(id) {
                self.open.remove(id);
                self.ended.push(id);
            }
        }
        common.ended().iter().for_each(|&id| self.common.remove(id));
    }

    /// The batch at hand is done with.
    fn release_ended(&mut self) {
        self.registry.release(&self.ended);
        self.ended.clear();
    }
}

impl Drop for OwnSeries {
    fn drop(&mut self) {
        self.ended.extend(self.open.iter());
        self.release_ended();
    }
}

#[cfg(test)]
mod tests;
