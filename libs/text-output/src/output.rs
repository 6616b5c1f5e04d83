//! The output: batch → rows → buffer → file.
//!
//! A batch is taken as a whole or not at all. While bytes of earlier batches can't be written, the next one
//! is refused ([`wattrace_api::ErrorKind::Retry`]) before any of it is rendered. So nothing is written twice,
//! and the memory used is bounded by one batch.

use std::time::Duration;

use tracing::warn;
use wattrace_api::{Batch, Clock, Error, Output};

use crate::buffer::{LineBuffer, Target};
use crate::file::OutputFile;
use crate::interval::IntervalTimer;
use crate::rotator::Rotator;
use crate::template::{Format, TemplateCache};

/// Time between two looks whether the path still names the file. A flush always looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct LineOutput<F: Format, W: Target + Send = OutputFile> {
    templates: TemplateCache<F>,
    buffer: LineBuffer<W>,
    clock: Clock,
    flush_timer: IntervalTimer,
    look_timer: IntervalTimer,
    rotator: Option<Rotator>,
}

impl<F: Format, W: Target + Send> LineOutput<F, W> {
    pub(crate) fn new(
        buffer: LineBuffer<W>,
        templates: TemplateCache<F>,
        clock: Clock,
        flush_interval: Duration,
        rotator: Option<Rotator>,
    ) -> Self {
        let timer = |interval| IntervalTimer::new(interval, clock.now());
        let (flush_timer, look_timer) = (timer(flush_interval), timer(LOOK_INTERVAL));
        Self { templates, buffer, clock, flush_timer, look_timer, rotator }
    }

    /// Writes out everything, into a new file if that is due.
    fn drain(&mut self, look_at_path: bool) -> Result<(), Error> {
        if let Some(rotator) = &mut self.rotator {
            let now = self.clock.unix_nanos(self.clock.now());
            // Otherwise the lines go on in this file, and it is tried again.
            self.buffer.rotate(rotator, now).unwrap_or_else(|error| warn!("{error}"));
        }
        self.buffer.drain(look_at_path)
    }
}

impl<F: Format, W: Target + Send> Output for LineOutput<F, W> {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.buffer.trouble().is_some() {
            self.drain(true)?;
        }
        for segment in batch.segments() {
            self.templates.write(&segment, &mut self.buffer);
        }
        self.templates.forget_ended(batch);
        let now = self.clock.now();
        if self.flush_timer.is_due(now) && self.buffer.trouble().is_none() {
            // As in `row_done`: the batch is taken, the next one meets the error.
            let look_at_path = self.look_timer.is_due(now);
            if let Err(error) = self.drain(look_at_path) {
                warn!("{error}");
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.drain(true)
    }

    fn undelivered(&self) -> u64 {
        self.buffer.waiting_lines() as u64
    }

    fn trouble(&self) -> Option<&str> {
        self.buffer.trouble()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        match self.templates.take_unknown() {
            0 => Vec::new(),
            n => vec![("their series was unknown", n)],
        }
    }
}

impl<F: Format, W: Target + Send> Drop for LineOutput<F, W> {
    fn drop(&mut self) {
        // There is nobody left to report an error to.
        let _: Result<(), Error> = self.buffer.drain(false);
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
