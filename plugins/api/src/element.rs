//! The three kinds of pipeline element. The runner owns the concurrency: an element is called from one thread
//! at a time, sees `&mut self`, and never thinks about the others.

use std::future::{Future, ready};
use std::time::Duration;

use crate::batch::Batch;
use crate::error::Error;
use crate::time::Timestamp;

/// When a source is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Time between ticks. Ticks fall on whole multiples of it since boot, so that sources with equal
    /// intervals tick together. Zero: it is polled when somebody asks for it, and at the end.
    pub interval: Duration,
    /// How long after such a multiple the tick falls. A meter is read so long after it as what it shows is
    /// old, so that windows of energy end on the multiple; usage a little after the meters, so that a window
    /// is covered by usage the moment it closes.
    pub offset: Duration,
}

impl Trigger {
    /// No ticks: polled when told to, by `wattrace control trigger` for example, and at the end.
    pub const MANUAL: Trigger = Trigger { interval: Duration::ZERO, offset: Duration::ZERO };

    /// A tick every `interval`.
    pub fn every(interval: Duration) -> Self {
        Self { interval, offset: Duration::ZERO }
    }

    /// A tick every `interval`, `offset` after those of [`Trigger::every`] with the same interval.
    pub fn after(interval: Duration, offset: Duration) -> Self {
        Self { interval, offset }
    }

    /// A tick every `interval`, a little after those of the meters: by about as much as ticks come late.
    pub fn just_after(interval: Duration) -> Self {
        Self::after(interval, Duration::from_micros(600))
    }
}

/// One firing of a source's trigger.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// When it was to fire.
    pub scheduled: Timestamp,
    /// Ticks missed since the last one; this tick's window spans them.
    pub missed: u64,
    /// The last tick before the agent stops.
    pub last: bool,
}

/// Produces measurements.
pub trait Source: Send {
    /// Reads what has come since the last poll into `out`: one segment per window, cumulative counters, ends
    /// of series.
    ///
    /// It runs on a worker of the async runtime and so must return within microseconds; a source that waits
    /// (for a network, a slow device) is registered with [`crate::Setup::blocking_source`] and gets a thread.
    ///
    /// # Errors
    /// What the kind says. Points pushed before the error still count.
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error>;
}

/// Computes: sees every batch on its way, in the order in which transforms were added.
pub trait Transform: Send {
    /// May add, change and remove points. A series it opens, it ends.
    ///
    /// # Errors
    /// What the kind says; the batch goes on as it stands.
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error>;

    /// No more batches come: adds what was held back.
    ///
    /// # Errors
    /// As for [`Transform::apply`].
    fn finish(&mut self, _out: &mut Batch) -> Result<(), Error> {
        Ok(())
    }

    /// Points that it took away because the user wants it so, and that are in no other point either, since
    /// the last call. They are no loss, but `status` and the agent's own metrics count them.
    fn take_left_out(&mut self) -> u64 {
        0
    }
}

/// Writes what comes out of the pipeline. Each output has its own thread behind its own bounded queue, so it
/// may block.
pub trait Output: Send {
    /// Takes a batch. After [`crate::ErrorKind::Retry`] the same batch comes again.
    ///
    /// # Errors
    /// What the kind says.
    fn write(&mut self, batch: &Batch) -> Result<(), Error>;

    /// Makes what was taken visible outside. Called when asked for, and at the end.
    ///
    /// # Errors
    /// What the kind says.
    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Points that were taken by [`Output::write`] and not handed over yet. What an output still holds after
    /// its last flush, or when it fails for good, is counted as lost.
    fn undelivered(&self) -> u64 {
        0
    }

    /// Why what was taken is not being handed over just now; `None`: it is. For an output that hands over
    /// later (to a network), so that `status` can tell. The output itself says it in the log.
    fn trouble(&self) -> Option<&str> {
        None
    }

    /// Points that were taken by [`Output::write`] and then lost, by reason, since the last call.
    /// An output that hands over later (to a network) counts its losses here.
    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// An [`Output`] whose calls wait as futures do: for a client library that is async. It has a thread of its
/// own as well, on which its futures are polled, so that one that blocks all the same holds up nobody else.
pub trait AsyncOutput: Send {
    /// See [`Output::write`].
    fn write(&mut self, batch: &Batch) -> impl Future<Output = Result<(), Error>> + Send;

    /// See [`Output::flush`].
    fn flush(&mut self) -> impl Future<Output = Result<(), Error>> + Send {
        ready(Ok(()))
    }

    /// See [`Output::undelivered`].
    fn undelivered(&self) -> u64 {
        0
    }

    /// See [`Output::take_losses`].
    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
