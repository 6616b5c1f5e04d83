//! A program that takes what was measured elsewhere: every point is a line on its standard input, and it
//! acknowledges by count. What it has not acknowledged when it dies was lost, and is counted as that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wattrace_api::{Batch, Clock, Error, Output, Registry};

use crate::config::OutputConfig;
use crate::encode::{Encoder, Written};
use crate::inbox::{self, Inbox, Next};
use crate::process::{Process, Program, Unwritten};
use crate::source::line;
use crate::supervision::{Anomaly, Complaints, Tally};
use crate::wire::{Flush, Hello, Line, PROTOCOL};

/// Most bytes of a line that an output says: its lines are short.
const MAX_LINE: usize = 64 * 1024;
/// Longest that a flush may take: the agent may be about to stop.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// How long a child that has closed its standard input may take to end.
const AFTER_CLOSE: Duration = Duration::from_secs(1);
/// How long each step of ending the child may take.
const ENDING: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct ExecOutput {
    process: Process,
    deadline: Duration,
    encoder: Encoder,
    buffer: Vec<u8>,
    greeted: bool,
    flushes: u64,
    books: Acknowledged,
    tally: Arc<Tally>,
}

/// What the child was sent, and what became of it.
struct Acknowledged {
    sent: u64,
    acked: u64,
    lost: u64,
    unknown: u64,
    flushed: u64,
    complaints: Complaints,
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
        tally: Arc<Tally>,
    ) -> Result<Self, Error> {
        tally.started();
        let OutputConfig { command, env, .. } = config.clone();
        let element = tally.element().to_owned();
        let mut process = Process::start(&Program { element, command, env, max_line: MAX_LINE })?;
        let (name, agent) = (&*config.name, env!("CARGO_PKG_VERSION"));
        let hello = line(&Hello { wattrace: PROTOCOL, role: "output", name, pace: "", agent })?;
        // If it has ended already, the first write tells how.
        _ = process.write(&hello, config.deadline, |_| {});
        let complaints = Complaints::new(tally.clone());
        Ok(Self {
            process,
            deadline: config.deadline,
            encoder: Encoder::new(registry, clock),
            buffer: Vec::new(),
            greeted: false,
            flushes: 0,
            books: Acknowledged { sent: 0, acked: 0, lost: 0, unknown: 0, flushed: 0, complaints },
            tally,
        })
    }

    fn greet(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.deadline;
        while !self.greeted {
            match self.process.inbox.next(deadline) {
                Next::Line(line) => self.greeted = self.books.greeting(&line)?,
                Next::Nothing => return Err(self.silent("say hello", self.deadline)),
                Next::Ended(exit) => return Err(self.ended(&exit)),
            }
        }
        Ok(())
    }

    fn send(&mut self, batch: &Batch) -> Result<(), Error> {
        self.greet()?;
        self.hear()?;
        for segment in batch.segments() {
            let Written { points, unknown } = self.encoder.points(&segment, &mut self.buffer);
            self.books.sent += points;
            self.books.unknown += unknown;
            self.push()?;
        }
        self.encoder.ends(batch, &mut self.buffer);
        self.push()?;
        self.encoder.forget_ended(batch);
        self.hear()
    }

    /// Writes what is in the buffer.
    fn push(&mut self) -> Result<(), Error> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.say(&buffer, self.deadline);
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    /// Writes `bytes`. The child may have to be heard before it takes more.
    fn say(&mut self, bytes: &[u8], patience: Duration) -> Result<(), Error> {
        let books = &mut self.books;
        match self.process.write(bytes, patience, |inbox| books.take_all(inbox)) {
            Ok(()) => Ok(()),
            Err(Unwritten::Deaf) => Err(self.silent("read", patience)),
            Err(Unwritten::Closed) => {
                let exit = self.process.inbox.exit(AFTER_CLOSE);
                books.take_all(&self.process.inbox);
                match exit {
                    Some(exit) => Err(self.ended(&exit)),
                    None => Err(self.silent("keep its standard input open", AFTER_CLOSE)),
                }
            }
        }
    }

    /// Reads what there is to read.
    fn hear(&mut self) -> Result<(), Error> {
        self.books.take_all(&self.process.inbox);
        match self.process.inbox.exit(Duration::ZERO) {
            Some(exit) => {
                // What it said last counts.
                self.books.take_all(&self.process.inbox);
                Err(self.ended(&exit))
            }
            None => Ok(()),
        }
    }

    fn ended(&self, exit: &inbox::Exit) -> Error {
        self.tally.count(Anomaly::Death);
        Error::fatal(format!("the program ended with {}", exit.how))
    }

    fn silent(&self, what: &str, patience: Duration) -> Error {
        self.tally.count(Anomaly::Timeout);
        self.process.kill();
        Error::fatal(format!("the program did not {what} within {patience:?} and was killed"))
    }
}

impl Acknowledged {
    fn take_all(&mut self, inbox: &Inbox) {
        let now = Instant::now();
        while let Next::Line(line) = inbox.next(now) {
            self.take(&line);
        }
    }

    fn greeting(&mut self, line: &inbox::Line) -> Result<bool, Error> {
        match line.text.as_ref().map(|text| Line::parse(text)) {
            Some(Ok(Line::Hello(version))) if version == PROTOCOL => Ok(true),
            Some(Ok(Line::Hello(version))) => Err(Error::fatal(format!(
                "the program speaks {version}, and this agent {PROTOCOL}: update one of them"
            ))),
            _ => {
                let what = format!("the first line is to be {{\"wattrace\":\"{PROTOCOL}\"}}");
                self.complaints.about(Anomaly::BadLine, line.number, what);
                Ok(false)
            }
        }
    }

    fn take(&mut self, line: &inbox::Line) {
        let Some(text) = &line.text else {
            let what = format!("it is longer than {MAX_LINE} bytes and refused");
            return self.complaints.about(Anomaly::BadLine, line.number, what);
        };
        match Line::parse(text) {
            Ok(Line::Ack(count)) if count <= self.sent && count >= self.acked => self.acked = count,
            Ok(Line::Ack(count)) => {
                let what = format!(
                    "{count} points acknowledged, of {} sent and {} acknowledged before",
                    self.sent, self.acked
                );
                self.complaints.about(Anomaly::BadLine, line.number, what);
            }
            Ok(Line::Lost(count)) => self.lost = self.lost.saturating_add(count.min(self.sent)),
            Ok(Line::Flushed(number)) => {
                self.flushed = self.flushed.max(number);
                // What it took before a flush is what it has made visible.
                self.acked = self.sent;
            }
            Ok(_) => self.complaints.about(
                Anomaly::BadLine,
                line.number,
                "an output says ack, lost and flushed only",
            ),
            Err(what) => self.complaints.about(Anomaly::BadLine, line.number, what),
        }
    }
}

impl Output for ExecOutput {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let before = self.books.sent;
        let result = self.send(batch);
        if result.is_err() {
            // The batch comes again, to the next child: it is not lost yet.
            self.books.sent = before;
        }
        result
    }

    fn flush(&mut self) -> Result<(), Error> {
        let patience = self.deadline.min(FLUSH_LIMIT);
        let deadline = Instant::now() + patience;
        self.greet()?;
        self.flushes += 1;
        let flush = line(&Flush { flush: self.flushes })?;
        self.say(&flush, patience)?;
        while self.books.flushed < self.flushes {
            match self.process.inbox.next(deadline) {
                Next::Line(line) => self.books.take(&line),
                Next::Nothing => return Err(self.silent("answer a flush", patience)),
                Next::Ended(exit) => return Err(self.ended(&exit)),
            }
        }
        Ok(())
    }

    fn undelivered(&self) -> u64 {
        self.books.sent.saturating_sub(self.books.acked)
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let lost = std::mem::take(&mut self.books.lost);
        let unknown = std::mem::take(&mut self.books.unknown);
        vec![("the program gave them up", lost), ("their series is unknown", unknown)]
    }
}

impl Drop for ExecOutput {
    fn drop(&mut self) {
        self.process.end(ENDING);
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
