//! A program that takes points: every point is a line on its standard input, and it acknowledges points by
//! count. Points that it has not acknowledged when it dies count as lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wattrace_api::{Batch, Clock, Error, Output, Registry};

use crate::anomalies::{Anomaly, AnomalyCounts, ProblemLog};
use crate::child::{ChildProcess, WriteError};
use crate::config::OutputConfig;
use crate::encode::{Encoder, Written};
use crate::line_queue::{Exit, LineQueue, Next};
use crate::line_splitter::RawLine;
use crate::program::Program;
use crate::wire::{Flush, Hello, Line, PROTOCOL, to_line};

/// Most bytes of a line from an output. Its lines are short.
const MAX_LINE: usize = 64 * 1024;
/// Longest time for a flush: the agent may be about to stop.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Time in which a child that has closed its standard input has to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout of each step of ending the child.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct ExecOutput {
    child: ChildProcess,
    timeout: Duration,
    encoder: Encoder,
    buffer: Vec<u8>,
    said_hello: bool,
    flushes: u64,
    deliveries: Deliveries,
    counts: Arc<AnomalyCounts>,
}

/// Counts of points sent, by what became of them.
struct Deliveries {
    sent: u64,
    acknowledged: u64,
    lost: u64,
    /// Of series that are not open.
    unknown: u64,
    /// The number of the last flush that was answered.
    flushed: u64,
    problems: ProblemLog,
}

impl ExecOutput {
    /// Starts the program.
    ///
    /// # Errors
    /// Fatal, if it cannot be started.
    pub(crate) fn open(
        config: &OutputConfig,
        registry: Arc<Registry>,
        clock: Clock,
        counts: Arc<AnomalyCounts>,
    ) -> Result<Self, Error> {
        counts.started();
        let OutputConfig { command, env, .. } = config.clone();
        let element = counts.element().to_owned();
        let mut child = ChildProcess::start(&Program { element, command, env, max_line: MAX_LINE })?;
        let (name, agent) = (&*config.name, env!("CARGO_PKG_VERSION"));
        let hello = to_line(&Hello { wattrace: PROTOCOL, role: "output", name, pace: "", agent })?;
        // If it has ended already, the first write reports how.
        _ = child.write(&hello, config.deadline, |_| {});
        let problems = ProblemLog::new(counts.clone());
        Ok(Self {
            child,
            timeout: config.deadline,
            encoder: Encoder::new(registry, clock),
            buffer: Vec::new(),
            said_hello: false,
            flushes: 0,
            deliveries: Deliveries { sent: 0, acknowledged: 0, lost: 0, unknown: 0, flushed: 0, problems },
            counts,
        })
    }

    fn wait_for_hello(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        while !self.said_hello {
            match self.child.queue.next(deadline) {
                Next::Line(line) => self.said_hello = self.deliveries.take_hello(&line)?,
                Next::Timeout => return Err(self.timeout_error("say hello", self.timeout)),
                Next::Ended(exit) => return Err(self.exit_error(&exit)),
            }
        }
        Ok(())
    }

    fn send_batch(&mut self, batch: &Batch) -> Result<(), Error> {
        self.wait_for_hello()?;
        self.read_replies()?;
        for segment in batch.segments() {
            let Written { points, unknown } = self.encoder.points(&segment, &mut self.buffer);
            self.deliveries.sent += points;
            self.deliveries.unknown += unknown;
            self.send_buffer()?;
        }
        self.encoder.ends(batch, &mut self.buffer);
        self.send_buffer()?;
        self.encoder.forget_ended(batch);
        self.read_replies()
    }

    fn send_buffer(&mut self) -> Result<(), Error> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.send(&buffer, self.timeout);
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    /// Writes `bytes` to the child. Reads its replies meanwhile: it may read no more until they are read.
    fn send(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), Error> {
        let deliveries = &mut self.deliveries;
        match self.child.write(bytes, timeout, |queue| deliveries.take_all(queue)) {
            Ok(()) => Ok(()),
            Err(WriteError::Timeout) => Err(self.timeout_error("read", timeout)),
            Err(WriteError::Closed) => {
                let exit = self.child.queue.exit(EXIT_TIMEOUT);
                deliveries.take_all(&self.child.queue);
                match exit {
                    Some(exit) => Err(self.exit_error(&exit)),
                    None => Err(self.timeout_error("keep its standard input open", EXIT_TIMEOUT)),
                }
            }
        }
    }

    /// Reads the replies in the queue.
    fn read_replies(&mut self) -> Result<(), Error> {
        self.deliveries.take_all(&self.child.queue);
        match self.child.queue.exit(Duration::ZERO) {
            Some(exit) => {
                // Replies that came before the exit count.
                self.deliveries.take_all(&self.child.queue);
                Err(self.exit_error(&exit))
            }
            None => Ok(()),
        }
    }

    fn exit_error(&self, exit: &Exit) -> Error {
        self.counts.count(Anomaly::Death);
        Error::fatal(format!("the program ended with {}", exit.description))
    }

    fn timeout_error(&self, what: &str, timeout: Duration) -> Error {
        self.counts.count(Anomaly::Timeout);
        self.child.kill();
        Error::fatal(format!("the program did not {what} within {timeout:?} and was killed"))
    }
}

impl Deliveries {
    fn take_all(&mut self, queue: &LineQueue) {
        let now = Instant::now();
        while let Next::Line(line) = queue.next(now) {
            self.take(&line);
        }
    }

    fn take_hello(&mut self, line: &RawLine) -> Result<bool, Error> {
        match line.text.as_ref().map(|text| Line::parse(text)) {
            Some(Ok(Line::Hello(version))) if version == PROTOCOL => Ok(true),
            Some(Ok(Line::Hello(version))) => Err(Error::fatal(format!(
                "the program speaks {version}, and this agent {PROTOCOL}: update one of them"
            ))),
            _ => {
                let what = format!("the first line has to be {{\"wattrace\":\"{PROTOCOL}\"}}");
                self.problems.report(Anomaly::BadLine, line.number, what);
                Ok(false)
            }
        }
    }

    fn take(&mut self, line: &RawLine) {
        let Some(text) = &line.text else {
            let what = format!("it is longer than {MAX_LINE} bytes and refused");
            return self.problems.report(Anomaly::BadLine, line.number, what);
        };
        match Line::parse(text) {
            Ok(Line::Ack(count)) if count <= self.sent && count >= self.acknowledged => {
                self.acknowledged = count;
            }
            Ok(Line::Ack(count)) => {
                let what = format!(
                    "{count} points acknowledged, of {} sent and {} acknowledged before",
                    self.sent, self.acknowledged
                );
                self.problems.report(Anomaly::BadLine, line.number, what);
            }
            Ok(Line::Lost(count)) => self.lost = self.lost.saturating_add(count.min(self.sent)),
            Ok(Line::Flushed(number)) => {
                self.flushed = self.flushed.max(number);
                // A flush acknowledges everything sent before it.
                self.acknowledged = self.sent;
            }
            Ok(_) => self.problems.report(
                Anomaly::BadLine,
                line.number,
                "an output may send ack, lost and flushed only",
            ),
            Err(what) => self.problems.report(Anomaly::BadLine, line.number, what),
        }
    }
}

impl Output for ExecOutput {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let before = self.deliveries.sent;
        let result = self.send_batch(batch);
        if result.is_err() {
            // The runner writes the batch to the next child, so it is not lost yet.
            self.deliveries.sent = before;
        }
        result
    }

    fn flush(&mut self) -> Result<(), Error> {
        let timeout = self.timeout.min(FLUSH_TIMEOUT);
        let deadline = Instant::now() + timeout;
        self.wait_for_hello()?;
        self.flushes += 1;
        let flush = to_line(&Flush { flush: self.flushes })?;
        self.send(&flush, timeout)?;
        while self.deliveries.flushed < self.flushes {
            match self.child.queue.next(deadline) {
                Next::Line(line) => self.deliveries.take(&line),
                Next::Timeout => return Err(self.timeout_error("answer a flush", timeout)),
                Next::Ended(exit) => return Err(self.exit_error(&exit)),
            }
        }
        Ok(())
    }

    fn undelivered(&self) -> u64 {
        self.deliveries.sent.saturating_sub(self.deliveries.acknowledged)
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let lost = std::mem::take(&mut self.deliveries.lost);
        let unknown = std::mem::take(&mut self.deliveries.unknown);
        vec![("the program gave them up", lost), ("their series is unknown", unknown)]
    }
}

impl Drop for ExecOutput {
    fn drop(&mut self) {
        self.child.end(END_TIMEOUT);
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
