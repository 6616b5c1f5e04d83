//! An output's thread: opens the output and the transforms of its own, takes batches from its queue and
//! writes them, with retries where these can help.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wattrace_api::spec::Open;
use wattrace_api::{Batch, Error, ErrorKind, Output, OutputChain, Registry};
use wattrace_backoff::Backoff;

use super::guard::{MAX_RETRY, contained};
use super::health::Health;
use super::output_transforms::{OutputTransforms, SharedOpen, open_by};
use super::queue::{Next, Queue};

/// Losses that an output counts in the background are collected at least this often.
const MAX_IDLE: Duration = Duration::from_secs(1);

/// How often an output is reopened because of one batch.
const MAX_REOPENINGS: u32 = 3;

/// An output and all that its thread needs.
pub(crate) struct OutputThread {
    pub(crate) health: Arc<Health>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) open: Open<dyn Output>,
    /// Plugins whose transforms the configuration gives this output.
    pub(crate) configured: Vec<String>,
    /// How to open these.
    pub(crate) output_transforms: Arc<OutputTransforms>,
    /// Transforms that its plugin gives it; they come after the configured ones.
    pub(crate) transforms: Vec<SharedOpen>,
    /// `None` while it is failing.
    pub(crate) output: Option<OutputChain>,
    pub(crate) queue: Arc<Queue>,
    /// Number of the last flush that was carried out.
    pub(crate) flushed: watch::Sender<u64>,
    /// How often it is flushed without being asked to; zero: never.
    pub(crate) flush_interval: Duration,
    /// Points given up because the agent is stopping.
    pub(crate) unwritten: u64,
}

impl OutputThread {
    /// Opens the output, reports that by dropping `opening`, and runs until the queue is closed and empty.
    pub(crate) fn run(mut self, opening: impl Sized) {
        if let Err(error) = self.open() {
            self.health.failed(&error);
        }
        drop(opening);
        let mut flushed = Instant::now();
        loop {
            if !self.flush_interval.is_zero() && flushed.elapsed() >= self.flush_interval {
                self.flush();
                flushed = Instant::now();
            }
            let due = match self.flush_interval {
                Duration::ZERO => MAX_IDLE,
                interval => interval.saturating_sub(flushed.elapsed()).min(MAX_IDLE),
            };
            match self.queue.next(due) {
                Next::LastPoints(batch, ends) => {
                    self.write(&batch);
                    drop(ends);
                }
                Next::Batch(batch) => self.write(&batch),
                Next::Flush(number) => {
                    self.flush();
                    // An error means that the deadline of the request has passed.
                    let _ = self.flushed.send(number);
                }
                Next::Reset => self.close(),
                Next::Idle => {}
                Next::Closed => break,
            }
            self.count_losses();
        }
        self.health.lose(self.unwritten, "the agent stopped before they could be written");
        self.finish();
        self.flush();
        self.close();
        self.health.stopped();
    }

    fn open(&mut self) -> Result<(), Error> {
        let _busy = self.health.opening();
        let mut transforms = self.output_transforms.of(&self.configured)?;
        transforms.extend(self.transforms.iter().map(open_by));
        let opened = contained(|| OutputChain::open(&self.registry, &mut transforms, &mut self.open))?;
        self.output = Some(opened);
        self.health.opened();
        Ok(())
    }

    /// Lets the output's own transforms write what they held back.
    fn finish(&mut self) {
        let _busy = self.health.busy();
        if let Some(output) = &mut self.output
            && let Err(error) = contained(|| output.finish())
        {
            self.health.failed(&error);
        }
    }

    /// Drops the output; what it has not delivered is lost.
    fn close(&mut self) {
        self.count_losses();
        if let Some(output) = self.output.take() {
            self.health.lose(output.undelivered(), "they were taken, but could not be handed over");
        }
    }

    fn count_losses(&mut self) {
        if let Some(output) = &mut self.output {
            for (reason, points) in output.take_losses() {
                self.health.lose(points, reason);
            }
            self.health.left_out.fetch_add(output.take_left_out(), Relaxed);
        }
    }

    /// Writes `batch`, with retries as long as these can help; gives up when the agent is stopping.
    fn write(&mut self, batch: &Batch) {
        let mut backoff = Backoff::new(Duration::from_millis(100), MAX_RETRY);
        let (mut reopenings, mut last_try, mut prepared) = (0, false, false);
        loop {
            let error = match self.try_write(batch, &mut prepared) {
                Ok(()) => return self.written(batch),
                Err(error) => error,
            };
            self.health.failed(&error);
            match error.kind() {
                ErrorKind::Gone => return self.drain(batch.len() as u64),
                ErrorKind::Retry => {}
                // An output that opens and then fails with this batch every time fails because of it.
                ErrorKind::Fatal if self.output.is_some() => {
                    self.close();
                    prepared = false;
                    reopenings += 1;
                }
                ErrorKind::Fatal => {}
            }
            if reopenings == MAX_REOPENINGS {
                return self.health.lose(batch.len() as u64, "the output failed with them again and again");
            }
            if last_try {
                self.unwritten += batch.len() as u64;
                return;
            }
            last_try = self.queue.wait_unless_closed(backoff.next_wait());
        }
    }

    /// One try. The output's own transforms see the batch once per opening: `prepared` is whether they have.
    fn try_write(&mut self, batch: &Batch, prepared: &mut bool) -> Result<(), Error> {
        if self.output.is_none() {
            self.open()?;
        }
        let _busy = self.health.busy();
        let output = self.output.as_mut().ok_or_else(|| Error::fatal("it is not open"))?;
        if !*prepared {
            contained(|| output.prepare(batch))?;
            *prepared = true;
        }
        contained(|| output.write_prepared(batch))
    }

    fn written(&mut self, batch: &Batch) {
        let Some(output) = &self.output else { return };
        self.health.calls.fetch_add(1, Relaxed);
        self.health.points_out.fetch_add(output.points(batch) as u64, Relaxed);
        match output.trouble() {
            Some(why) => self.health.troubled(why),
            None => self.health.works(),
        }
    }

    fn flush(&mut self) {
        let _busy = self.health.busy();
        if let Some(output) = &mut self.output
            && let Err(error) = contained(|| output.flush())
        {
            self.health.failed(&error);
        }
    }

    /// The output is gone: what comes is counted as lost until the agent stops.
    fn drain(&mut self, mut points: u64) {
        self.close();
        loop {
            match self.queue.next(MAX_IDLE) {
                Next::LastPoints(batch, _) => points += batch.len() as u64,
                Next::Batch(batch) => points += batch.len() as u64,
                Next::Flush(number) => drop(self.flushed.send(number)),
                Next::Reset | Next::Idle => {}
                Next::Closed => return self.health.lose(points, "the output is gone"),
            }
        }
    }
}
