//! A program that measures. A polled one is asked at every tick and waited for; one at its own pace has what
//! it said since the last tick collected.
//!
//! Nothing that the program says is trusted: a line or a point that makes no sense is complained of, counted
//! and left out. Only its death, its silence and a protocol that is not ours end the element; its series end
//! with it, and the runner opens it anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::debug;
use wattrace_api::{Batch, Clock, Error, ErrorKind, Registry, Source, Tick, Timestamp};
use wattrace_ingest::{Page, Posted};

use crate::config::SourceConfig;
use crate::inbox::{self, Exit, Next};
use crate::postings::{Postings, Shared};
use crate::process::{Process, Program, Unwritten};
use crate::supervision::{Anomaly, Complaints, Tally};
use crate::wire::{ErrorLine, Hello, Line, PROTOCOL, PointLine, PointsLine, Poll, PollWindow, WireErrorKind};

/// Most points of one tick: beyond them the program waits for the next.
const MOST_POINTS: usize = 1_000_000;
/// How long the last answer may take, for the agent is about to stop; and each step of ending the child.
const LAST: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) struct ExecSource {
    process: Process,
    polled: bool,
    deadline: Duration,
    clock: Clock,
    greeted: bool,
    polls: u64,
    /// When the last poll was, or the start.
    since: Timestamp,
    postings: Postings,
    tally: Arc<Tally>,
    complaints: Complaints,
}

/// What a line was to whoever waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    Greeting,
    Answer,
    More,
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
        tally: Arc<Tally>,
        shared: Shared,
    ) -> Result<Self, Error> {
        tally.started();
        let SourceConfig { command, env, max_line, .. } = config.clone();
        let element = tally.element().to_owned();
        let mut process = Process::start(&Program { element, command, env, max_line })?;
        let (name, pace, agent) = (&*config.name, &*config.pace, env!("CARGO_PKG_VERSION"));
        let hello = line(&Hello { wattrace: PROTOCOL, role: "source", name, pace, agent })?;
        // If it has ended already, the first poll tells how.
        _ = process.write(&hello, config.deadline, |_| {});
        Ok(Self {
            process,
            polled: config.is_polled(),
            deadline: config.deadline,
            greeted: false,
            polls: 0,
            since: clock.now(),
            postings: Postings::new(registry, clock.clone(), shared, config.max_series),
            clock,
            complaints: Complaints::new(tally.clone()),
            tally,
        })
    }

    fn converse(&mut self, tick: &Tick, page: &mut Page<'_>) -> Result<(), Error> {
        let patience = if tick.last { self.deadline.min(LAST) } else { self.deadline };
        let deadline = Instant::now() + patience;
        if !self.greeted {
            self.hear(deadline, "say hello", Received::Greeting, page)?;
            self.greeted = true;
        }
        if self.polled {
            // What it said unasked counts, but is no answer to what it is asked now.
            self.collect(Instant::now(), page)?;
            self.ask(tick, patience)?;
            self.hear(deadline, "answer a poll", Received::Answer, page)?;
        } else if !tick.last {
            self.collect(Instant::now(), page)?;
        }
        if tick.last {
            // A program at its own pace may have last words, too.
            self.process.close_stdin();
            match self.collect(Instant::now() + LAST, page) {
                Ok(()) => {}
                // That it ends is what was wanted.
                Err(error) => debug!("{}: {error}", self.tally.element()),
            }
            self.process.end(LAST);
        }
        self.since = self.clock.now();
        Ok(())
    }

    fn ask(&mut self, tick: &Tick, patience: Duration) -> Result<(), Error> {
        self.polls += 1;
        let poll = PollWindow {
            number: self.polls,
            start_unix_nano: self.clock.unix_nanos(self.since),
            end_unix_nano: self.clock.unix_nanos(self.clock.now()),
            missed: tick.missed,
            last: tick.last,
        };
        match self.process.write(&line(&Poll { poll })?, patience, |_| {}) {
            Ok(()) => Ok(()),
            Err(Unwritten::Deaf) => {
                self.tally.count(Anomaly::Timeout);
                Err(Error::fatal(format!("the program did not read for {patience:?} and was killed")))
            }
            // What it says to the end, and how that came, is still to be heard.
            Err(Unwritten::Closed) => Ok(()),
        }
    }

    /// Reads lines until one of them is what is waited for.
    fn hear(
        &mut self,
        deadline: Instant,
        what: &str,
        wanted: Received,
        page: &mut Page<'_>,
    ) -> Result<(), Error> {
        loop {
            match self.process.inbox.next(deadline) {
                Next::Line(line) => {
                    if self.take(&line, page)? == wanted {
                        return Ok(());
                    }
                }
                Next::Nothing => {
                    self.tally.count(Anomaly::Timeout);
                    self.process.kill();
                    let patience = self.deadline;
                    return Err(Error::fatal(format!(
                        "the program did not {what} within {patience:?} and was killed"
                    )));
                }
                Next::Ended(exit) => return Err(self.ended(&exit)),
            }
            if page.points() > MOST_POINTS {
                self.process.kill();
                return Err(Error::fatal(format!("the program sent more than {MOST_POINTS} points at once")));
            }
        }
    }

    /// Reads what is there, and what comes until `deadline`.
    fn collect(&mut self, deadline: Instant, page: &mut Page<'_>) -> Result<(), Error> {
        while page.points() < MOST_POINTS {
            match self.process.inbox.next(deadline) {
                Next::Line(line) => _ = self.take(&line, page)?,
                Next::Nothing => break,
                Next::Ended(exit) => return Err(self.ended(&exit)),
            }
        }
        Ok(())
    }

    /// Status 0 says that there is nothing more to measure; every other end is a failure.
    fn ended(&self, exit: &Exit) -> Error {
        if exit.success {
            return Error::gone("the program ended with status 0: it has nothing (more) to measure");
        }
        self.tally.count(Anomaly::Death);
        Error::fatal(format!("the program ended with {}", exit.how))
    }

    fn take(&mut self, line: &inbox::Line, page: &mut Page<'_>) -> Result<Received, Error> {
        let number = line.number;
        let Some(text) = &line.text else {
            self.complaints.about(Anomaly::BadLine, number, "it is longer than max_line and refused");
            return Ok(Received::More);
        };
        let line = match Line::parse(text) {
            Ok(line) => line,
            Err(what) => {
                self.complaints.about(Anomaly::BadLine, number, what);
                return Ok(Received::More);
            }
        };
        if !self.greeted && !matches!(line, Line::Hello(_)) {
            let what = format!("the first line is to be {{\"wattrace\":\"{PROTOCOL}\"}}");
            self.complaints.about(Anomaly::BadLine, number, what);
            return Ok(Received::More);
        }
        match line {
            Line::Hello(version) if version == PROTOCOL => Ok(Received::Greeting),
            Line::Hello(version) => Err(Error::fatal(format!(
                "the program speaks {version}, and this agent {PROTOCOL}: update one of them"
            ))),
            Line::Metric(metric) => {
                if let Err(fault) = self.postings.declare(&metric) {
                    self.complaints.about(Anomaly::BadLine, number, fault);
                }
                Ok(Received::More)
            }
            Line::Point(point) => {
                self.post(number, &point, page);
                Ok(Received::More)
            }
            Line::Points(points) => Ok(self.points(number, &points, page)),
            Line::Error(ErrorLine { kind, message }) => Err(match kind {
                WireErrorKind::Gone => Error::gone(message),
                WireErrorKind::Retry => Error::retry(message),
                WireErrorKind::Fatal => Error::fatal(message),
            }),
            Line::Ack(_) | Line::Lost(_) | Line::Flushed(_) => {
                self.complaints.about(Anomaly::BadLine, number, "ack, lost and flushed are for outputs");
                Ok(Received::More)
            }
        }
    }

    fn points(&mut self, number: u64, line: &PointsLine<'_>, page: &mut Page<'_>) -> Received {
        for point in &line.points {
            self.post(number, point, page);
        }
        for name in &line.end {
            if !self.postings.end(name, page) {
                let what = format!("a series of {} is to end that has not begun", name.metric);
                self.complaints.about(Anomaly::BadPoint, number, what);
            }
        }
        if line.more { Received::More } else { Received::Answer }
    }

    fn post(&mut self, number: u64, point: &PointLine<'_>, page: &mut Page<'_>) {
        match self.postings.post(point, page) {
            Ok(Posted::Reset) => self.tally.count(Anomaly::Reset),
            Ok(_) => {}
            Err(fault) => {
                let what = format!("a point of {} is refused: {fault}", point.metric);
                self.complaints.about(Anomaly::BadPoint, number, what);
            }
        }
    }
}

/// `message` as a line.
///
/// # Errors
/// None in practice.
pub(crate) fn line(message: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut line = serde_json::to_vec(message).map_err(Error::fatal)?;
    line.push(b'\n');
    Ok(line)
}

impl Source for ExecSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let mut page = Page::new(out);
        let result = self.converse(tick, &mut page);
        if result.as_ref().is_err_and(|error| error.kind() != ErrorKind::Retry) {
            self.postings.end_all(&mut page);
        }
        result
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
