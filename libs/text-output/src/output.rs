//! The output: batch → rows → buffer → file.
//!
//! A batch is taken as a whole or not at all. While bytes of earlier batches can't be written, the next one
//! is refused ([`wattrace_api::ErrorKind::Retry`]) before any of it is rendered. So nothing is written twice,
//! and the memory used is bounded by one batch.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Output};

use crate::buffer::LineBuffer;
use crate::file::{Opened, OutputPath};
use crate::interval::IntervalTimer;
use crate::template::{Format, TemplateCache};

pub(crate) struct LineOutput<F: Format, W: Write + Send = File> {
    path: OutputPath,
    templates: TemplateCache<F>,
    buffer: LineBuffer<W>,
    clock: Clock,
    flush_timer: IntervalTimer,
}

impl<F: Format, W: Write + Send> LineOutput<F, W> {
    pub(crate) fn new(
        opened: Opened<W>,
        path: OutputPath,
        templates: TemplateCache<F>,
        clock: Clock,
        flush_interval: Duration,
    ) -> Self {
        let buffer = LineBuffer::new(opened.file, if opened.is_new { F::HEADER } else { "" });
        let flush_timer = IntervalTimer::new(flush_interval, clock.now());
        Self { path, templates, buffer, clock, flush_timer }
    }

    fn drain(&mut self) -> Result<(), Error> {
        self.buffer.drain().map_err(|e| self.path.write_error(&e, self.buffer.waiting_lines()))
    }
}

impl<F: Format, W: Write + Send> Output for LineOutput<F, W> {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.buffer.failed() {
            self.drain()?;
        }
        for segment in batch.segments() {
            self.templates.write(&segment, &mut self.buffer);
        }
        self.templates.forget_ended(batch);
        if self.flush_timer.is_due(self.clock.now()) && !self.buffer.failed() {
            // As in `row_done`: the batch is taken, the next one meets the error.
            let _: io::Result<()> = self.buffer.drain();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.drain()
    }

    fn undelivered(&self) -> u64 {
        self.buffer.waiting_lines() as u64
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        match self.templates.take_unknown() {
            0 => Vec::new(),
            n => vec![("their series was unknown", n)],
        }
    }
}

impl<F: Format, W: Write + Send> Drop for LineOutput<F, W> {
    fn drop(&mut self) {
        // There is nobody left to report an error to.
        let _: io::Result<()> = self.buffer.drain();
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
