//! An output's thread: opens it, takes batches from its queue and writes them, trying again where that can
//! help. An async output has one too (`plugins/api/src/added.rs`).

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use wattrace_api::spec::Open;
use wattrace_api::{Batch, Error, ErrorKind, Output};

use super::guard::{Backoff, contained};
use super::health::Health;
use super::queue::{Next, Queue};

/// How long an output may be left alone: losses that it counts in the background are asked for at least so
/// often.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often an output is restarted over one batch.
const MOST_RESTARTS: u32 = 3;

/// An output and all that its thread needs.
pub(crate) struct OutputThread {
    pub(crate) health: Arc<Health>,
    pub(crate) open: Open<dyn Output>,
    /// `None` while it is failing.
    pub(crate) output: Option<Box<dyn Output>>,
    pub(crate) queue: Arc<Queue>,
    /// Dropped once the first opening has come to an end, whatever came of it: someone waits for that.
    pub(crate) opening: Option<mpsc::Sender<()>>,
    /// Number of the last flush that was carried out.
    pub(crate) flushed: watch::Sender<u64>,
    /// How often it is flushed without being asked to; zero: never.
    pub(crate) flush_interval: Duration,
    /// Points given up because the agent is stopping.
    pub(crate) unwritten: u64,
}

impl OutputThread {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.open() {
            self.health.failed(&error);
        }
        self.opening = None;
        let mut flushed = Instant::now();
        loop {
            if !self.flush_interval.is_zero() && flushed.elapsed() >= self.flush_interval {
                self.flush();
                flushed = Instant::now();
            }
            let due = match self.flush_interval {
                Duration::ZERO => PATIENCE,
                interval => interval.saturating_sub(flushed.elapsed()).min(PATIENCE),
            };
            match self.queue.next(due) {
                Next::Rescued(batch, ends) => {
                    self.write(&batch);
                    drop(ends);
                }
                Next::Batch(batch) => self.write(&batch),
                Next::Flush(number) => {
                    self.flush();
                    // Nobody may be waiting any more.
                    let _ = self.flushed.send(number);
                }
                Next::Reset => self.close(),
                Next::Idle => {}
                Next::Closed => break,
            }
            self.count_losses();
        }
        self.health.lose(self.unwritten, "the agent stopped before they could be written");
        self.flush();
        self.close();
        self.health.stopped();
    }

    fn open(&mut self) -> Result<(), Error> {
        let _busy = self.health.opening();
        self.output = Some(contained(&mut self.open)?);
        self.health.opened();
        Ok(())
    }

    /// Drops the output, after asking it what it takes along.
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
        }
    }

    /// Writes `batch`, again and again if that can help; gives up when the agent is stopping.
    fn write(&mut self, batch: &Batch) {
        let mut backoff = Backoff::new(Duration::from_millis(100));
        let (mut restarts, mut last_try) = (0, false);
        loop {
            let error = match self.try_write(batch) {
                Ok(()) => {
                    self.health.calls.fetch_add(1, Relaxed);
                    self.health.points_out.fetch_add(batch.len() as u64, Relaxed);
                    return match self.output.as_ref().and_then(|output| output.trouble()) {
                        Some(why) => self.health.troubled(why),
                        None => self.health.works(),
                    };
                }
                Err(error) => error,
            };
            self.health.failed(&error);
            match error.kind() {
                ErrorKind::Gone => return self.drain(batch.len() as u64),
                ErrorKind::Retry => {}
                // An output that was opened and then failed with this batch so often fails because of it.
                ErrorKind::Fatal if self.output.is_some() => {
                    self.close();
                    restarts += 1;
                }
                ErrorKind::Fatal => {}
            }
            if restarts == MOST_RESTARTS {
                return self.health.lose(batch.len() as u64, "the output failed with them again and again");
            }
            if last_try {
                self.unwritten += batch.len() as u64;
                return;
            }
            last_try = self.queue.wait_unless_closed(backoff.wait());
        }
    }

    fn try_write(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.output.is_none() {
            self.open()?;
        }
        let _busy = self.health.busy();
        let output = self.output.as_mut().ok_or_else(|| Error::fatal("it is not open"))?;
        contained(|| output.write(batch))
    }

    fn flush(&mut self) {
        let _busy = self.health.busy();
        if let Some(output) = &mut self.output
            && let Err(error) = contained(|| output.flush())
        {
            self.health.failed(&error);
        }
    }

    /// The output has nowhere to write any more: what comes is counted as lost until the agent stops.
    fn drain(&mut self, mut points: u64) {
        self.close();
        loop {
            match self.queue.next(PATIENCE) {
                Next::Rescued(batch, _) => points += batch.len() as u64,
                Next::Batch(batch) => points += batch.len() as u64,
                Next::Flush(number) => drop(self.flushed.send(number)),
                Next::Reset | Next::Idle => {}
                Next::Closed => return self.health.lose(points, "the output is gone"),
            }
        }
    }
}
