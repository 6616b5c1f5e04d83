//! The three kinds of pipeline element. The runner owns the concurrency: an element is called from one thread
//! at a time, sees `&mut self`, and never thinks about the others.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::batch::Batch;
use crate::error::Error;
use crate::time::Timestamp;

/// When a source is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Time between ticks. Ticks fall on whole multiples of it since boot, so that sources with equal
    /// intervals tick together. Zero: the source is polled for its wake-up descriptor, on request, and at the
    /// end.
    pub interval: Duration,
    /// Delay of the ticks after such a multiple. A meter's delay equals the mean age of its readings, so that
    /// windows of energy end on the multiple. Usage is read a little after the meters, so that usage covers a
    /// window when it closes.
    pub offset: Duration,
}

impl Trigger {
    /// No ticks: polled on request (`wattrace control trigger`), for the wake-up descriptor, and at the end.
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

/// Why a source is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickCause {
    /// Its timer fired.
    Timer,
    /// Its wake-up descriptor became readable ([`Source::wakeup`]).
    Wakeup,
    /// Somebody asked: `wattrace control trigger`, the start or end of a measurement, the end of the agent.
    Request,
}

/// One firing of a source's trigger.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// When it was to fire.
    pub scheduled: Timestamp,
    /// Ticks of the timer that were missed since the last one; this tick's window spans them.
    pub missed: u64,
    /// Why it fired.
    pub cause: TickCause,
    /// The last tick before the source is closed.
    pub last: bool,
}

impl Tick {
    /// A tick of the timer at `scheduled`, with none missed before it.
    pub fn at(scheduled: Timestamp) -> Self {
        Self { scheduled, missed: 0, cause: TickCause::Timer, last: false }
    }
}

/// Produces measurements.
///
/// Every source has a thread of its own, on which it is polled. A poll that blocks delays only this source's
/// own ticks; the runner counts the ticks it misses.
pub trait Source: Send {
    /// Reads what has come since the last poll into `out`: one segment per window, cumulative counters, ends
    /// of series.
    ///
    /// # Errors
    /// The kind decides what follows ([`crate::ErrorKind`]). Points pushed before the error still count.
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error>;

    /// A descriptor that becomes readable when the source needs a poll before its next tick: a kernel buffer
    /// that fills, a connection with data, an eventfd that another thread writes to. The runner asks once per
    /// opening. The poll with [`TickCause::Wakeup`] makes the descriptor unreadable again, or it is polled at
    /// once again.
    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Computes: sees every batch on its way, in the order in which transforms were added.
pub trait Transform: Send {
    /// May add, change and remove points. A series it opens, it ends.
    ///
    /// # Errors
    /// The kind decides what follows; the batch is passed on as it is.
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
    /// The kind decides what follows.
    fn write(&mut self, batch: &Batch) -> Result<(), Error>;

    /// No more batches come: takes as final what it has held back. Called once, before the last
    /// [`Output::flush`].
    ///
    /// # Errors
    /// The kind decides what follows.
    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Makes what was taken visible outside. Called when asked for, and at the end.
    ///
    /// # Errors
    /// The kind decides what follows.
    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Points that were taken by [`Output::write`] and not handed over yet. What an output still holds after
    /// its last flush, or when it fails for good, is counted as lost.
    fn undelivered(&self) -> u64 {
        0
    }

    /// Why what was taken is not being handed over just now; `None`: it is. For an output that hands over
    /// later (to a network), for `status`. The output logs it itself.
    fn trouble(&self) -> Option<&str> {
        None
    }

    /// Points that were taken by [`Output::write`] and then lost, by reason, since the last call.
    /// An output that hands over later (to a network) counts its losses here.
    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
