//! The output: batch → rows → spool → file.
//!
//! A batch is taken whole or not at all. While bytes of earlier batches can't be written, the next one is
//! refused ([`wattrace_api::ErrorKind::Retry`]) before any of it is rendered, so what is sent again is never
//! written twice and the memory used is bounded by one batch.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Output};

use crate::file::{Opened, Place};
use crate::pace::Pace;
use crate::row::{Format, Rows};
use crate::spool::Spool;

pub(crate) struct LineOutput<F: Format, W: Write + Send = File> {
    place: Place,
    rows: Rows<F>,
    spool: Spool<W>,
    clock: Clock,
    pace: Pace,
}

impl<F: Format, W: Write + Send> LineOutput<F, W> {
    pub(crate) fn new(
        opened: Opened<W>,
        place: Place,
        rows: Rows<F>,
        clock: Clock,
        flush_interval: Duration,
    ) -> Self {
        let spool = Spool::new(opened.file, if opened.is_new { F::HEADER } else { "" });
        let pace = Pace::new(flush_interval, clock.now());
        Self { place, rows, spool, clock, pace }
    }

    fn drain(&mut self) -> Result<(), Error> {
        self.spool.drain().map_err(|e| self.place.write_error(&e, self.spool.waiting_lines()))
    }
}

impl<F: Format, W: Write + Send> Output for LineOutput<F, W> {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.spool.failed() {
            self.drain()?;
        }
        for segment in batch.segments() {
            self.rows.write(&segment, &mut self.spool);
        }
        self.rows.forget_ended(batch);
        if self.pace.is_due(self.clock.now()) && !self.spool.failed() {
            // As in `row_done`: the batch is taken, the next one meets the error.
            let _: io::Result<()> = self.spool.drain();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.drain()
    }

    fn undelivered(&self) -> u64 {
        self.spool.waiting_lines() as u64
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        match self.rows.take_unknown() {
            0 => Vec::new(),
            n => vec![("their series was unknown", n)],
        }
    }
}

impl<F: Format, W: Write + Send> Drop for LineOutput<F, W> {
    fn drop(&mut self) {
        // Whoever drops it without a flush has nobody left to tell.
        let _: io::Result<()> = self.spool.drain();
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
