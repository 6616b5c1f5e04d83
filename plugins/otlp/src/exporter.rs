//! The output: keeps the table up to date, and every interval sends what is in it. One set of requests is on
//! its way at most; a task on the runtime carries it while the pipeline goes on. A set that did not arrive is
//! not kept: the next one is made from the then latest values.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::runtime::Handle;
use wattrace_api::{Batch, Clock, Error, Output, Registry, Timestamp};

use crate::backoff::Backoff;
use crate::config::Settings;
use crate::encode::{Carries, LIMIT, Packer, Request};
use crate::link::Link;
use crate::resource;
use crate::table::Table;
use crate::transport::{Outcome, Transport};

/// Most streams that have ended and are kept until the collector has heard of it.
const MOST_ENDED: usize = 100_000;
/// Longest that a flush may hold up the end of the agent.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// Time between the tries of a flush, which has no time for a backoff.
const FLUSH_PAUSE: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) struct Exporter {
    table: Table,
    resource: Resource,
    clock: Clock,
    interval: Duration,
    timeout: Duration,
    transport: Arc<dyn Transport>,
    runtime: Handle,
    /// When to send next.
    next: Timestamp,
    flight: Option<Flight>,
    backoff: Backoff,
    link: Link,
    losses: Vec<(&'static str, u64)>,
    /// Of the values that still wait, those a failed flush has already counted as lost.
    given_up: u64,
}

/// A set of requests on its way.
struct Flight {
    /// The answers, in the order of the requests, up to the first that means "later".
    answers: Receiver<Vec<Outcome>>,
    carries: Vec<Carries>,
}

/// How a set of requests ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landing {
    /// Each request was taken, or refused for good.
    Settled,
    /// Some are to be sent again, not sooner than what the collector asked for, if it did.
    Later(Option<Duration>),
}

impl Exporter {
    /// An exporter that sends through `transport`.
    pub(crate) fn new(
        settings: &Settings,
        transport: Arc<dyn Transport>,
        registry: Arc<Registry>,
        clock: Clock,
        runtime: Handle,
    ) -> Self {
        Self {
            table: Table::new(registry, settings.top, MOST_ENDED),
            resource: resource::describe(&settings.resource, Path::new("/")),
            interval: settings.interval,
            timeout: settings.timeout,
            transport,
            runtime,
            next: clock.now() + settings.interval,
            clock,
            flight: None,
            backoff: Backoff::default(),
            link: Link::new(settings),
            losses: Vec::new(),
            given_up: 0,
        }
    }

    /// Sends what the table has to say.
    fn export(&mut self) {
        let mut packer = Packer::new(&self.resource, &self.clock, LIMIT);
        self.table.collect(self.clock.now(), |point| packer.push(&point));
        self.next = self.clock.now() + self.interval;
        let requests = packer.finish();
        if requests.is_empty() {
            return;
        }
        let (messages, carries): (Vec<_>, _) =
            requests.into_iter().map(|Request { message, carries }| (message, carries)).unzip();
        let (answer, answers) = mpsc::channel();
        let (transport, timeout) = (self.transport.clone(), self.timeout);
        self.runtime.spawn(async move {
            let mut outcomes = Vec::with_capacity(messages.len());
            for message in messages {
                let outcome = tokio::time::timeout(timeout, transport.send(message)).await;
                outcomes.push(outcome.unwrap_or_else(|_| Outcome::Later {
                    cause: format!("no answer within {timeout:?}"),
                    after: None,
                }));
                if let Some(Outcome::Later { .. }) = outcomes.last() {
                    break;
                }
            }
            // Nobody listens any more when the agent has ended meanwhile.
            _ = answer.send(outcomes);
        });
        self.flight = Some(Flight { answers, carries });
    }

    /// Looks whether the answers are there.
    fn poll_flight(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        match flight.answers.try_recv() {
            Err(TryRecvError::Empty) => self.flight = Some(flight),
            answers => _ = self.land(&flight.carries, answers.unwrap_or_default()),
        }
    }

    /// Draws the consequences of a set's answers. Requests without one were not sent.
    fn land(&mut self, carries: &[Carries], outcomes: Vec<Outcome>) -> Landing {
        let mut landing = Landing::Settled;
        let outcomes = outcomes.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        for (carries, outcome) in carries.iter().zip(outcomes) {
            if let Some(notice) = outcome.as_ref().and_then(|outcome| self.link.heard(outcome)) {
                notice.log();
            }
            match outcome {
                Some(Outcome::Accepted { rejected, .. }) => {
                    self.table.ended.delivered(&carries.ended);
                    self.lose("rejected", rejected);
                    self.given_up = 0;
                }
                Some(Outcome::Refused { .. }) => {
                    self.table.ended.refused(&carries.ended);
                    self.lose("refused", carries.values);
                }
                Some(Outcome::Later { after, .. }) => landing = Landing::Later(after),
                None if landing == Landing::Settled => landing = Landing::Later(None),
                None => {}
            }
        }
        match landing {
            Landing::Settled => self.backoff.succeeded(),
            Landing::Later(after) => {
                self.table.unsent();
                self.next = self.backoff.failed(&self.clock, after);
            }
        }
        landing
    }

    /// Counts lost points. Reasons: `refused` (the collector will never take the request), `rejected` (points
    /// of a request it took), `unsent` (left at a flush), `overflow` (too many ended streams),
    /// `unknown_series`.
    fn lose(&mut self, reason: &'static str, points: u64) {
        if points == 0 {
            return;
        }
        match self.losses.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, count)) => *count += points,
            None => self.losses.push((reason, points)),
        }
    }

    /// Waits for what is on its way, sends what is left, until nothing is or time is up.
    fn drain(&mut self, deadline: Instant) {
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            if let Some(flight) = self.flight.take() {
                let answers = match flight.answers.recv_timeout(left()) {
                    Ok(answers) => answers,
                    Err(RecvTimeoutError::Disconnected) => Vec::new(),
                    Err(RecvTimeoutError::Timeout) => {
                        self.flight = Some(flight);
                        return;
                    }
                };
                if let Landing::Later(after) = self.land(&flight.carries, answers) {
                    let pause = after.unwrap_or_default().max(FLUSH_PAUSE);
                    if pause >= left() {
                        return;
                    }
                    std::thread::sleep(pause);
                }
            }
            if !self.table.is_pending() || self.backoff.quiet(&self.clock) > left() || left().is_zero() {
                return;
            }
            self.export();
        }
    }
}

impl Output for Exporter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.table.write(batch);
        self.poll_flight();
        if self.flight.is_none() && self.clock.now() >= self.next {
            self.export();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let patience = self.timeout.min(FLUSH_LIMIT);
        self.drain(Instant::now() + patience);
        // What is on its way may have arrived or not. It counts as not: losses are never understated.
        if self.flight.is_some() {
            self.table.unsent();
        }
        let left = self.table.undelivered() as u64;
        if left == 0 {
            return Ok(());
        }
        // Nothing says whether this is the end. If it is not, these values stay and go with the next request
        // all the same.
        self.lose("unsent", left.saturating_sub(self.given_up));
        self.given_up = self.given_up.max(left);
        let endpoint = self.link.endpoint();
        Err(Error::retry(format!("{endpoint}: {left} values could not be delivered within {patience:?}")))
    }

    fn trouble(&self) -> Option<&str> {
        self.link.trouble()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let (dropped, unknown) = (self.table.ended.take_dropped(), self.table.take_unknown());
        self.lose("overflow", dropped);
        self.lose("unknown_series", unknown);
        std::mem::take(&mut self.losses)
    }
}

#[cfg(test)]
mod tests;
