//! A program that measures. A polled program is asked at every tick, and the tick waits for its answer. A
//! program at its own pace is never asked: each tick takes the lines that it has written since the last one.
//!
//! The program is not trusted: a malformed line or a refused point is logged, counted and left out. Only its
//! exit, a timeout and a protocol of another version end the element. Its series end then, and the runner
//! opens it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;
use wattrace_api::{Batch, Clock, Error, ErrorKind, Registry, Source, Tick, Timestamp};
use wattrace_ingest::{Recorded, SegmentWriter};

use crate::anomalies::{Anomaly, AnomalyCounts, ProblemLog};
use crate::child::{ChildProcess, WriteError};
use crate::config::SourceConfig;
use crate::labels::ClaimedDomains;
use crate::line_queue::{Exit, Next};
use crate::line_splitter::RawLine;
use crate::program::Program;
use crate::recorder::PointRecorder;
use crate::wire::{
    ErrorLine, Hello, Line, PROTOCOL, PointLine, PointsLine, Poll, PollWindow, WireErrorKind, to_line,
};

/// Most points of one tick. Further lines wait for the next tick.
const MAX_POINTS: usize = 100_000;
/// Timeout of the last answer, and of each step of ending the child: the agent is about to stop.
const LAST_TIMEOUT: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) struct ExecSource {
    child: ChildProcess,
    polled: bool,
    timeout: Duration,
    clock: Clock,
    said_hello: bool,
    polls: u64,
    /// When the last poll was, or the start.
    since: Timestamp,
    recorder: PointRecorder,
    counts: Arc<AnomalyCounts>,
    problems: ProblemLog,
}

/// The kinds of line that the source waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineKind {
    Hello,
    /// The answer to a poll.
    Answer,
    Other,
}

impl ExecSource {
    /// Starts the program.
    ///
    /// # Errors
    /// Fatal, if it cannot be started.
    pub(crate) fn open(
        config: &SourceConfig,
        registry: Arc<Registry>,
        clock: Clock,
        counts: Arc<AnomalyCounts>,
        domains: ClaimedDomains,
    ) -> Result<Self, Error> {
        counts.started();
        let SourceConfig { command, env, max_line, .. } = config.clone();
        let element = counts.element().to_owned();
        let mut child = ChildProcess::start(&Program { element, command, env, max_line })?;
        let (name, pace, agent) = (&*config.name, &*config.pace, env!("CARGO_PKG_VERSION"));
        let hello = to_line(&Hello { wattrace: PROTOCOL, role: "source", name, pace, agent })?;
        // If it has ended already, the first poll reports how.
        _ = child.write(&hello, config.deadline, |_| {});
        Ok(Self {
            child,
            polled: config.is_polled(),
            timeout: config.deadline,
            said_hello: false,
            polls: 0,
            since: clock.now(),
            recorder: PointRecorder::new(registry, clock.clone(), domains, config.max_series),
            clock,
            problems: ProblemLog::new(counts.clone()),
            counts,
        })
    }

    fn exchange(&mut self, tick: &Tick, writer: &mut SegmentWriter<'_>) -> Result<(), Error> {
        let timeout = if tick.last { self.timeout.min(LAST_TIMEOUT) } else { self.timeout };
        let deadline = Instant::now() + timeout;
        if !self.said_hello {
            self.read_until(LineKind::Hello, deadline, "say hello", writer)?;
            self.said_hello = true;
        }
        if self.polled {
            // Points that it sent unasked count, but are not the answer to this poll.
            self.read_available(Instant::now(), writer)?;
            self.send_poll(tick, timeout)?;
            self.read_until(LineKind::Answer, deadline, "answer a poll", writer)?;
        } else if !tick.last {
            self.read_available(Instant::now(), writer)?;
        }
        if tick.last {
            // It may write more lines before it ends.
            self.child.close_stdin();
            match self.read_available(Instant::now() + LAST_TIMEOUT, writer) {
                Ok(()) => {}
                // It is meant to end.
                Err(error) => debug!("{}: {error}", self.counts.element()),
            }
            self.child.end(LAST_TIMEOUT);
        }
        self.since = self.clock.now();
        Ok(())
    }

    fn send_poll(&mut self, tick: &Tick, timeout: Duration) -> Result<(), Error> {
        self.polls += 1;
        let poll = PollWindow {
            number: self.polls,
            start_unix_nano: self.clock.unix_nanos(self.since),
            end_unix_nano: self.clock.unix_nanos(self.clock.now()),
            missed: tick.missed,
            last: tick.last,
        };
        match self.child.write(&to_line(&Poll { poll })?, timeout, |_| {}) {
            Ok(()) => Ok(()),
            Err(WriteError::Timeout) => {
                self.counts.count(Anomaly::Timeout);
                Err(Error::fatal(format!("the program did not read for {timeout:?} and was killed")))
            }
            // Its remaining lines and its exit are read next.
            Err(WriteError::Closed) => Ok(()),
        }
    }

    /// Reads lines until one of them is of the kind `wanted`.
    fn read_until(
        &mut self,
        wanted: LineKind,
        deadline: Instant,
        what: &str,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<(), Error> {
        loop {
            match self.child.queue.next(deadline) {
                Next::Line(line) => {
                    if self.take(&line, writer)? == wanted {
                        return Ok(());
                    }
                }
                Next::Timeout => {
                    self.counts.count(Anomaly::Timeout);
                    self.child.kill();
                    let timeout = self.timeout;
                    return Err(Error::fatal(format!(
                        "the program did not {what} within {timeout:?} and was killed"
                    )));
                }
                Next::Ended(exit) => return Err(self.exit_error(&exit)),
            }
            if writer.points() > MAX_POINTS {
                self.child.kill();
                return Err(Error::fatal(format!("the program sent more than {MAX_POINTS} points at once")));
            }
        }
    }

    /// Reads the lines in the queue, and those that come until `deadline`.
    fn read_available(&mut self, deadline: Instant, writer: &mut SegmentWriter<'_>) -> Result<(), Error> {
        while writer.points() < MAX_POINTS {
            match self.child.queue.next(deadline) {
                Next::Line(line) => _ = self.take(&line, writer)?,
                Next::Timeout => break,
                Next::Ended(exit) => return Err(self.exit_error(&exit)),
            }
        }
        Ok(())
    }

    /// Status 0 means that there is nothing (more) to measure. Every other end is a failure.
    fn exit_error(&self, exit: &Exit) -> Error {
        if exit.success {
            return Error::gone("the program ended with status 0: it has nothing (more) to measure");
        }
        self.counts.count(Anomaly::Death);
        Error::fatal(format!("the program ended with {}", exit.description))
    }

    fn take(&mut self, line: &RawLine, writer: &mut SegmentWriter<'_>) -> Result<LineKind, Error> {
        let number = line.number;
        let Some(text) = &line.text else {
            let what = "it is longer than max_line and refused";
            self.problems.report_limit(Anomaly::BadLine, number, "max_line", what);
            return Ok(LineKind::Other);
        };
        let line = match Line::parse(text) {
            Ok(line) => line,
            Err(what) => {
                self.problems.report(Anomaly::BadLine, number, what);
                return Ok(LineKind::Other);
            }
        };
        if !self.said_hello && !matches!(line, Line::Hello(_)) {
            let what = format!("the first line has to be {{\"wattrace\":\"{PROTOCOL}\"}}");
            self.problems.report(Anomaly::BadLine, number, what);
            return Ok(LineKind::Other);
        }
        match line {
            Line::Hello(version) if version == PROTOCOL => return Ok(LineKind::Hello),
            Line::Hello(version) => {
                return Err(Error::fatal(format!(
                    "the program speaks {version}, and this agent {PROTOCOL}: update one of them"
                )));
            }
            Line::Metric(metric) => {
                if let Err(error) = self.recorder.declare(&metric) {
                    self.problems.report(Anomaly::BadLine, number, error);
                }
            }
            Line::Point(point) => self.record(number, &point, writer),
            Line::Points(points) => return Ok(self.record_all(number, &points, writer)),
            Line::Error(ErrorLine { kind, message }) => {
                return Err(match kind {
                    WireErrorKind::Gone => Error::gone(message),
                    WireErrorKind::Retry => Error::retry(message),
                    WireErrorKind::Fatal => Error::fatal(message),
                });
            }
            Line::Ack(_) | Line::Lost(_) | Line::Flushed(_) => {
                self.problems.report(Anomaly::BadLine, number, "ack, lost and flushed are for outputs");
            }
        }
        Ok(LineKind::Other)
    }

    fn record_all(&mut self, number: u64, line: &PointsLine<'_>, writer: &mut SegmentWriter<'_>) -> LineKind {
        for point in &line.points {
            self.record(number, point, writer);
        }
        for name in &line.end {
            if !self.recorder.end(name, writer) {
                let what = format!("a series of {} is to end, but was never begun", name.metric);
                self.problems.report(Anomaly::BadPoint, number, what);
            }
        }
        if line.more { LineKind::Other } else { LineKind::Answer }
    }

    fn record(&mut self, number: u64, point: &PointLine<'_>, writer: &mut SegmentWriter<'_>) {
        match self.recorder.record(point, writer) {
            Ok(Recorded::Restarted) => self.counts.count(Anomaly::Reset),
            Ok(_) => {}
            Err(error) => {
                let what = format!("a point of {} is refused: {error}", point.metric);
                match error.is_limit() {
                    true => self.problems.report_limit(Anomaly::BadPoint, number, error.reason(), what),
                    false => self.problems.report(Anomaly::BadPoint, number, what),
                }
            }
        }
    }
}

impl Source for ExecSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let mut writer = SegmentWriter::new(out);
        let result = self.exchange(tick, &mut writer);
        if result.as_ref().is_err_and(|error| error.kind() != ErrorKind::Retry) {
            self.recorder.end_all(&mut writer);
        }
        result
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
